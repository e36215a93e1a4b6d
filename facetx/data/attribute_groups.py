"""Which part of the face an attribute belongs to: a table of names, mapped to a data set's order in this one place."""

import re
from collections.abc import Mapping, Sequence

from facetx.errors import ConfigError, some

WHOLE_FACE = "whole face"
REGIONS: dict[str, tuple[str, ...]] = {
    WHOLE_FACE: (
        "Attractive", "Blurry", "Chubby", "Heavy_Makeup", "Male", "Oval_Face", "Pale_Skin", "Smiling", "Young",
    ),
    "hair": (
        "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Receding_Hairline", "Straight_Hair",
        "Wavy_Hair", "Wearing_Hat",
    ),
    "eyes": ("Arched_Eyebrows", "Bags_Under_Eyes", "Bushy_Eyebrows", "Eyeglasses", "Narrow_Eyes"),
    "nose": ("Big_Nose", "Pointy_Nose"),
    "lips and chin": (
        "5_o_Clock_Shadow", "Big_Lips", "Double_Chin", "Goatee", "Mouth_Slightly_Open", "Mustache", "No_Beard",
        "Sideburns", "Wearing_Lipstick",
    ),
    "cheeks and ears": ("High_Cheekbones", "Rosy_Cheeks", "Wearing_Earrings"),
    "neck": ("Wearing_Necklace", "Wearing_Necktie"),
}  # fmt: skip
"""CelebA's 40 attributes in seven regions, in the order of the report that this network comes from."""
CELEBA = frozenset(name for names in REGIONS.values() for name in names)

Groups = dict[str, tuple[int, ...]]
"""Group -> places of its attributes in the data set's order."""


def regions_of(names: Sequence[str]) -> Groups:
    """The regions that have some of these attributes, each in the table's order; unknown ones are the whole face's."""
    places = {plain(name): i for i, name in enumerate(names)}
    found = {region: tuple(places[plain(n)] for n in own if plain(n) in places) for region, own in REGIONS.items()}
    mapped = {i for own in found.values() for i in own}
    found[WHOLE_FACE] += tuple(i for i in range(len(names)) if i not in mapped)
    return {region: own for region, own in found.items() if own}


def groups_of(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Groups:
    """Groups of one's own, which must hold each attribute of the data set once, and nothing else.

    Raises ``ConfigError`` for an empty group, and for attributes that are missing, unknown or named twice.
    """
    places = {plain(name): i for i, name in enumerate(names)}
    given = [name for own in groups.values() for name in own]
    problems = {
        "empty groups": [group for group, own in groups.items() if not own],
        "attributes that the data lacks": [name for name in given if plain(name) not in places],
        "attributes in no group": [name for name in names if plain(name) not in set(map(plain, given))],
        "attributes named twice": sorted({name for name in given if given.count(name) > 1}),
    }
    if any(problems.values()):
        words = "; ".join(f"{what}: {some(found)}" for what, found in problems.items() if found)
        raise ConfigError(f"groups: {words}; name each of the data's {len(names)} attributes once")
    return {group: tuple(places[plain(name)] for name in own) for group, own in groups.items()}


def plain(name: str) -> str:
    """A name as it is compared: data sets write ``5_o_Clock_Shadow`` and ``5 o'clock shadow``."""
    return re.sub(r"[^0-9a-z]", "", name.lower())
