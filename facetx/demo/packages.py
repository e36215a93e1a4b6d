"""The two JavaScript packages that the page is built of: fetched by npm once, checked, kept in the user's cache.

They are some 43 MB, so neither the repository nor the wheel holds them.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from facetx.errors import DataError
from facetx.files import draft_place, user_cache


@dataclass(frozen=True)
class Package:
    """One package of npm's.

    Attributes:
        name, version: As npm has them.
        integrity: Of its tarball, as in a lock file: ``sha512-`` and the digest in base64.
        license: Of its code, and of the weights in it.
        role: What the page uses it for.
        place: The folder of the page that its files come to.
        files: Of these the page uses, by their paths in the package.
    """

    name: str
    version: str
    integrity: str
    license: str
    role: str
    place: str
    files: tuple[str, ...]


PACKAGES = (
    Package(
        "onnxruntime-web",
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        "MIT",
        "runs the model",
        "vendor/ort",
        (
            "dist/ort.wasm.min.mjs",
            "dist/ort-wasm-simd-threaded.mjs",
            "dist/ort-wasm-simd-threaded.wasm",
            "dist/ort.webgpu.min.mjs",
            "dist/ort-wasm-simd-threaded.asyncify.mjs",
            "dist/ort-wasm-simd-threaded.asyncify.wasm",
        ),
    ),
    Package(
        "@vladmandic/face-api",
        "1.7.15",
        "sha512-WDMmK3CfNLo8jylWqMoQgf4nIst3M0fzx1dnac96wv/dvMTN4DxC/Pq1DGtduDk1lktCamQ3MIDXFnvrdHTXDw==",
        "MIT",
        "finds the face",
        "vendor/face",
        (
            "LICENSE",
            "dist/face-api.esm.js",
            "model/tiny_face_detector_model.bin",
            "model/tiny_face_detector_model-weights_manifest.json",
            "model/face_landmark_68_model.bin",
            "model/face_landmark_68_model-weights_manifest.json",
        ),
    ),
)


def find_packages(assets: str | Path | None = None) -> Path:
    """The folder that holds the packages, laid out as ``node_modules`` is; npm fetches into the cache what is missing.

    Args:
        assets: Such a folder, where npm may not be asked.

    Raises ``DataError`` where a package is not there, or is not the one that it should be.
    """
    if assets is not None:
        for package in PACKAGES:
            check(Path(assets), package)
        return Path(assets)
    cache = user_cache("page")
    for package in PACKAGES:
        try:
            check(cache, package)
        except DataError:
            _fetch(cache, package)
    return cache


def check(folder: Path, package: Package) -> None:
    """Raises ``DataError`` unless ``folder`` has the package in its version, and all files that the page uses."""
    home = folder / package.name
    try:
        version = json.loads((home / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{home}: no package {package.name} here; {by_hand()}") from None
    if version != package.version:
        raise DataError(f"{home}: is version {version}, the page is built of {package.version}; {by_hand()}")
    for name in package.files:
        if not (home / name).is_file():
            raise DataError(f"{home / name}: is missing; {by_hand()}")


def by_hand() -> str:
    """How one gets the packages without this program."""
    wanted = " ".join(f"{package.name}@{package.version}" for package in PACKAGES)
    return f"anywhere with npm, run: npm install {wanted}; then give the folder node_modules by --assets"


def _fetch(cache: Path, package: Package) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"npm is not there, which fetches {package.name} once; install Node.js, or {by_hand()}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        tarballs = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(tarballs) != 1:
            words = done.stderr.strip().splitlines()
            raise DataError(
                f"npm could not fetch {package.name}@{package.version} ({words[-1] if words else 'no reason given'}); "
                f"try again with a network, or {by_hand()}"
            )
        unpack(tarballs[0], cache, package)


def unpack(tarball: Path, cache: Path, package: Package) -> None:
    """Takes the page's files out of a tarball, once its hash is right; the package's folder appears whole."""
    with tarball.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != package.integrity:
        raise DataError(
            f"{package.name}@{package.version}: what npm gave is not the package that was published (its SHA-512 "
            "differs); check which registry npm is set to"
        )
    home = cache / package.name
    draft = draft_place(home)
    shutil.rmtree(draft, ignore_errors=True)
    with tarfile.open(tarball) as archive:
        for name in (*package.files, "package.json"):
            source = archive.extractfile(f"package/{name}")
            if source is None:
                raise DataError(f"{package.name}@{package.version}: {name} is no file")
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            with source, (draft / name).open("xb") as target:
                shutil.copyfileobj(source, target)
    shutil.rmtree(home, ignore_errors=True)
    draft.rename(home)
