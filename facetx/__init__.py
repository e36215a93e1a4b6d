"""facetx: a research training framework for face recognition with transformers.

Names are imported when they are first used, so ``import facetx`` is quick and pulls in no plotting, logging or
model-zoo package.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "BACKBONES": "facetx.backbones",
    "DATASETS": "facetx.data",
    "EVALUATORS": "facetx.evaluators",
    "HEADS": "facetx.heads",
    "OPTIMIZERS": "facetx.optim",
    "REWARDS": "facetx.tasks",
    "SAMPLERS": "facetx.data",
    "SCHEDULES": "facetx.optim",
    "TASKS": "facetx.tasks",
    "TRANSFORMS": "facetx.data",
    "Backbone": "facetx.nn",
    "BatchOrder": "facetx.data",
    "Evaluator": "facetx.evaluators",
    "FaceDataset": "facetx.data",
    "Geometric": "facetx.data",
    "Head": "facetx.heads",
    "Photometric": "facetx.data",
    "Result": "facetx.evaluators",
    "Task": "facetx.tasks",
    "Transform": "facetx.data",
    "FacetxError": "facetx.errors",
    "InputContract": "facetx.contract",
    "FaceModel": "facetx.inference.model",
    "create_backbone": "facetx.inference.create",
    "create_head": "facetx.inference.create",
    "export": "facetx.exporting",
    "list_backbones": "facetx.inference.create",
    "list_heads": "facetx.inference.create",
    "load_model": "facetx.inference.model",
    "load_settings": "facetx.config",
    "start_run": "facetx.training",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'facetx' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
