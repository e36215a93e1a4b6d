"""Classes of face parsing: the lists of the known data sets, in their official order, and a color of each class.

A mask has a class's place in such a list; which list it was is kept with the data, the task and its checkpoint, since
other orders circulate. What a mirror swaps follows from the names (``facetx.data.sample.Sides``).
"""

from collections.abc import Sequence

from facetx.data.attribute_groups import plain

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

LAPA = (
    *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye"),
    *("nose", "upper_lip", "inner_mouth", "lower_lip", "hair"),
)
"""LaPa's 11 (Liu et al. 2020, arXiv 2001.01087); also Helen's, whose official list is the same (Smith et al. 2013), and
those of the drawn faces."""
HELEN = LAPA
CELEBAMASK_HQ = (
    *("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
    *("mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
"""CelebAMask-HQ's 19 (Lee et al. 2020, arXiv 1907.11922). ``l_eye`` is the person's left one, on the image's right;
``l_lip`` is the lower lip, ``eye_g`` glasses, ``ear_r`` an earring and ``neck_l`` a necklace."""
FASSEG = ("background", "hair", "skin", "eyes", "nose", "mouth")
"""FASSEG's 6 (Khan et al. 2015); its hair includes the eyebrows."""

CLASS_LISTS = {"lapa": LAPA, "helen": HELEN, "celebamask_hq": CELEBAMASK_HQ, "fasseg": FASSEG}

_COLORS: dict[tuple[str, ...], Color] = {
    ("background",): (0, 0, 0),
    ("skin",): (236, 188, 160),
    ("nose",): (255, 127, 80),
    ("eye_g",): (70, 70, 255),
    ("left_eye", "l_eye", "eyes"): (30, 200, 255),
    ("right_eye", "r_eye"): (0, 120, 160),
    ("left_brow", "l_brow"): (200, 255, 60),
    ("right_brow", "r_brow"): (110, 150, 20),
    ("l_ear",): (255, 200, 60),
    ("r_ear",): (190, 130, 20),
    ("inner_mouth", "mouth"): (120, 0, 30),
    ("upper_lip", "u_lip"): (255, 60, 120),
    ("lower_lip", "l_lip"): (200, 20, 60),
    ("hair",): (130, 80, 40),
    ("hat",): (150, 60, 200),
    ("ear_r",): (255, 255, 150),
    ("neck_l",): (200, 160, 255),
    ("neck",): (190, 140, 110),
    ("cloth",): (60, 140, 90),
}
"""Names that mean one thing -> its color; no two colors are the same."""
_BY_NAME = {plain(name): color for names, color in _COLORS.items() for name in names}


_WORDS = {"eye_g": "glasses", "ear_r": "earring", "neck_l": "necklace", "u_lip": "upper lip", "l_lip": "lower lip"}
_SIDES = {"l_": "left ", "r_": "right "}


def class_words(name: str) -> str:
    """A class's name for a reader; CelebAMask-HQ's short ones are written out.

    >>> class_words("left_brow"), class_words("l_brow"), class_words("ear_r")
    ('left brow', 'left brow', 'earring')
    """
    return _WORDS.get(name) or (_SIDES.get(name[:2], name[:2]) + name[2:]).replace("_", " ")


def colors_of(names: Sequence[str]) -> tuple[Color, ...]:
    """A color of each class (M,): the tables' where the name is known, else one of its own, by its place."""
    return tuple(_BY_NAME.get(plain(name)) or _spare(i) for i, name in enumerate(names))


def _spare(index: int) -> Color:
    """Colors that differ for 256 places, each bit of the place in another bit of red, green and blue (as PASCAL VOC's
    color map has them), less bright than any of the tables'."""
    bits = [(index >> k) & 1 for k in range(8)]
    channels = (sum(bits[3 * i + c] << (7 - i) for i in range(3) if 3 * i + c < 8) for c in range(3))
    red, green, blue = (channel | 0b11 for channel in channels)
    return red, green, blue
