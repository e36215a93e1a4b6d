"""The page as a table of the files that it is made of; a server, or a folder, gives these and no others."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

from facetx.demo.model import PageModel
from facetx.demo.packages import PACKAGES
from facetx.errors import DataError
from facetx.files import write_file

Site = dict[str, bytes | Path]
"""Paths below the page's root -> their content, or the file that holds it."""

CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Sent with every file. Those of Cross-Origin let WebAssembly use threads; the policy keeps scripts of others out."""


def build_site(model: PageModel, packages: Path) -> Site:
    """All files of the page, with the model and the packages' files.

    Args:
        model: From ``read_model``.
        packages: The folder that ``find_packages`` gives.
    """
    site: Site = {asset.name: asset.read_bytes() for asset in files("facetx.demo").joinpath("assets").iterdir()}
    for package in PACKAGES:
        for name in package.files:
            site[f"{package.place}/{Path(name).name}"] = packages / package.name / name
    made_of = [{key: getattr(p, key) for key in ("name", "version", "license", "role")} for p in PACKAGES]
    site["model.json"] = json.dumps({**model.about, "packages": made_of}, allow_nan=False).encode()
    site["model.onnx"] = model.path
    return site


def write_static(site: Site, folder: str | Path) -> None:
    """Writes the page as files that any web server can host, with ``_headers`` as some hosts read them.

    Raises ``DataError`` where something is there already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is there already; name a folder that is not, or is empty")
    for name, content in site.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content)
    write_file(folder / "_headers", "/*\n" + "".join(f"  {name}: {value}\n" for name, value in HEADERS.items()))
