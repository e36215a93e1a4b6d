"""Images in folders: one folder an identity, or a plain list of files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from facetx.errors import DataError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff"})


def read_image(path: str | Path, size: int | None = None) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3), resized to ``size`` x ``size`` pixels where that is given.

    Raises ``DataError`` naming the file if it is damaged or no image.
    """
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
            return np.array(rgb if size is None else rgb.resize((size, size), Image.Resampling.BILINEAR))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); replace or delete the file") from error


class ImageFiles:
    """A list of image files as a data set without identities.

    Args:
        paths: Files, in the order of the items.
        name: For logs and messages.
        size: Pixels a side to resize to, antialiased; as the files are, unless given.

    Items: ``{"image": uint8 RGB (H, W, 3), "label": int}``.
    """

    def __init__(self, paths: Sequence[Path], name: str, size: int | None = None):
        self.paths = list(paths)
        self.name = name
        self.size = size
        self.labels = np.zeros(len(self.paths), np.int64)
        self.num_classes = 1

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": read_image(self.paths[index], self.size), "label": int(self.labels[index])}

    def describe(self, index: int) -> str:
        """Where item ``index`` comes from, for messages."""
        return str(self.paths[index])


class ImageFolder(ImageFiles):
    """One folder an identity, as CASIA-WebFace, CelebA and LFW are commonly unpacked: ``root/<identity>/<image>``.

    Classes are numbered in the sorted order of the folders' names, of the chosen part only.

    Args:
        root: The folder of the identities' folders.
        part: "train" and "val" share no identity; "all" takes both.
        val_identities: Share of the identities in "val", in 0..1. Which ones is a function of their names and
            ``seed`` alone, so adding an identity moves no other.
        seed: Of that choice.
        size: Pixels a side to resize to; as the files are, unless given.

    Raises ``DataError`` where the folder is missing or empty, or holds fewer than two identities.
    """

    def __init__(
        self,
        root: str,
        part: Literal["all", "train", "val"] = "all",
        val_identities: float = 0.1,
        seed: int = 0,
        size: int | None = None,
    ):
        folder = Path(root)
        if not folder.is_dir():
            raise DataError(f"{root}: no such folder; data needs one folder an identity: {root}/<identity>/<image>.jpg")
        if not 0 <= val_identities < 1:
            raise DataError(f"val_identities must be at least 0 and below 1, got {val_identities}")
        found: dict[str, list[Path]] = {}
        for identity in sorted(p for p in folder.iterdir() if p.is_dir()):
            files = sorted(p for p in identity.iterdir() if p.suffix.lower() in EXTENSIONS)
            if files:
                found[identity.name] = files
        if not found:
            raise DataError(
                f"{root}: holds no images; expected {root}/<identity>/<image> with one of the endings "
                f"{', '.join(sorted(EXTENSIONS))}"
            )
        if len(found) < 2:
            raise DataError(f"{root}: holds one identity only ({next(iter(found))}); recognition needs at least two")
        if part != "all":
            held_out = {name for name in found if _unit_hash(name, seed) < val_identities}
            found = {name: files for name, files in found.items() if (name in held_out) == (part == "val")}
            if len(found) < 2:
                raise DataError(
                    f"{root}: the part {part!r} has {len(found)} identities at val_identities={val_identities}; "
                    f"choose another share"
                )
        super().__init__([p for files in found.values() for p in files], f"{folder.name}/{part}", size)
        self.identities = list(found)
        self.labels = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
        self.num_classes = len(found)


def _unit_hash(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
