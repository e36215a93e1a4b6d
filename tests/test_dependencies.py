"""What the package imports is what a user gets with it, and the lowest versions are those that CI tries."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_EXTRAS = {
    "simplejpeg": "fast",
    "datasets": "hf",
    "huggingface_hub": "hf",
    "facenet_pytorch": "align",
    "onnx": "export",
    "onnxruntime": "export",
    "coremltools": "export-coreml",
}
"""What is imported only where a user asks for it, with an error that names the extra."""
OF_VENV = {"torch", "torchvision", "timm", "efficientnet-pytorch"}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def imported():
    """Name of each package that is imported anywhere in facetx -> a file that does."""
    found = {}
    for file in (ROOT / "facetx").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0]: file.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module.split(".")[0]] = file.name
    return {name: file for name, file in found.items() if name not in {*sys.stdlib_module_names, "facetx"}}


def test_what_is_imported_is_a_dependency():
    wanted = {plain(re.split("[<>=!; ]", line)[0]) for line in PROJECT["dependencies"]}
    by_package = packages_distributions()
    for name, file in imported().items():
        if name in OF_EXTRAS:
            assert any(plain(name) in plain(line) for line in PROJECT["optional-dependencies"][OF_EXTRAS[name]])
        else:
            brought_by = {"pydantic_core": "pydantic"}.get(name, name)  # each pydantic names the one core that fits it
            assert {plain(d) for d in by_package[brought_by]} & wanted, f"{file} imports {name}"


def test_the_lowest_versions_are_those_that_are_tried():
    allowed = dict(line.split(">=") for line in PROJECT["dependencies"])
    lines = [line for line in (ROOT / "tests/lowest.txt").read_text().splitlines() if not line.startswith("#")]
    tried = dict(line.split("==") for line in lines)
    assert set(allowed) == set(tried) | OF_VENV
    for name, version in tried.items():
        whole = allowed[name].split(".") + ["0"] * (len(version.split(".")) - len(allowed[name].split(".")))
        assert whole == version.split("."), name
