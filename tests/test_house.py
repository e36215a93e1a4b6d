"""The house: imports point one way, ``import facetx`` is light, and the public names and the wheel are as meant."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import facetx

ROOT = Path(__file__).parents[1]
ROOMS = [
    "errors",
    "processes",
    "files",
    "registry",
    "plugins",
    "contract",
    "tables",
    "progress",
    "logs",
    "nn",
    "metrics",
    "backbones",
    "heads",
    "data",
    "tasks",
    "evaluators",
    "benchmarks",
    "optim",
    "config",
    "checkpoints",
    "inference",
    "prepare",
    "plots",
    "exporting",
    "demo",
    "training",
    "cli",
]
HEAVY = ("tensorboard", "sklearn", "torchvision", "matplotlib", "timm", "efficientnet_pytorch")


def imports_of(path: Path) -> set[str]:
    """The rooms of facetx that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("facetx."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "facetx":
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("facetx.")}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_to_earlier_rooms_only(room):
    place = ROOT / "facetx" / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files
    for file in files:
        later = imports_of(file) - set(ROOMS[: ROOMS.index(room) + 1])
        assert not later, f"{file.relative_to(ROOT)} imports from {later}"


def test_every_room_is_in_the_order():
    found = {p.stem for p in (ROOT / "facetx").iterdir() if p.name not in ("__init__.py", "__pycache__", "py.typed")}
    assert found == set(ROOMS)


def test_metrics_are_numpy_only():
    for file in (ROOT / "facetx/metrics").glob("*.py"):
        assert "torch" not in file.read_text().replace("PyTorch", ""), file


def loaded_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*(m for m in sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in out.stdout.split()}


def test_importing_facetx_is_light():
    assert not loaded_after("import facetx") & {*HEAVY, "torch", "numpy", "pydantic"}


def test_creating_a_backbone_and_a_head_needs_no_other_library():
    code = "import facetx; facetx.create_backbone('vit_p8s8_tiny'); facetx.create_head('cosface', 8, 3)"
    assert not loaded_after(code) & set(HEAVY)


def test_the_public_names_are_these():
    assert set(facetx.__all__) == {
        "BACKBONES",
        "DATASETS",
        "EVALUATORS",
        "FaceModel",
        "FacetxError",
        "HEADS",
        "OPTIMIZERS",
        "REWARDS",
        "SAMPLERS",
        "SCHEDULES",
        "TASKS",
        "TRANSFORMS",
        "Backbone",
        "BatchOrder",
        "Evaluator",
        "FaceDataset",
        "Geometric",
        "Head",
        "Photometric",
        "Result",
        "Task",
        "Transform",
        "InputContract",
        "__version__",
        "create_backbone",
        "create_head",
        "export",
        "list_backbones",
        "list_heads",
        "load_model",
        "start_run",
        "load_settings",
    }
    for name in facetx.__all__:
        assert getattr(facetx, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = facetx.nothing


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names} == {"facetx", f"facetx-{facetx.__version__}.dist-info"}
    assets = {".html", ".css", ".js", ".svg"}  # of the live page
    assert {Path(n).suffix for n in names if n.startswith("facetx/")} <= {".py", ".typed", *assets}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "facetx").rglob("*") if p.suffix in {".py", *assets}}
    assert sources <= set(names)


def test_no_file_has_grown_too_long():
    for file in [*(ROOT / "facetx").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        assert len(file.read_text().splitlines()) <= 450, f"{file}: is it still one idea?"
