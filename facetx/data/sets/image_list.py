"""The images of a list file."""

import os
from pathlib import Path

from facetx.data.formats.paths import Paths
from facetx.data.lists.image_lists import read_list
from facetx.data.sets.folder import ImageFiles


class ImageList(ImageFiles):
    """The images of a list file as a data set; labels other than 0..C-1 are numbered anew in their order.

    Args:
        path: The list file.
        root: Folder that its paths start from; the list file's own, unless given.
        size: Pixels a side to resize to; as the files are, unless given.

    Attributes:
        stored: (C,) label in the file of each class; ``identities`` are these as text.
    """

    def __init__(self, path: str, root: str | None = None, size: int | None = None):
        folder = Path(path).parent if root is None else Path(root)
        paths, labels = read_list(path)
        super().__init__(Paths(folder, paths), Path(path).stem, size)
        self.stored = self._number_people(labels)
        self.namespace = f"list {os.path.realpath(path)}"
