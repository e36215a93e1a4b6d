"""Where on a face each of CelebA's attributes lies, for the page to group them by."""

from collections.abc import Iterable

REGIONS = {
    "Face": "Attractive Blurry Chubby Heavy_Makeup Male Oval_Face Pale_Skin Smiling Young",
    "Hair": (
        "Bald Bangs Black_Hair Blond_Hair Brown_Hair Gray_Hair Receding_Hairline Straight_Hair Wavy_Hair Wearing_Hat"
    ),
    "Eyes": "Arched_Eyebrows Bags_Under_Eyes Bushy_Eyebrows Eyeglasses Narrow_Eyes",
    "Nose": "Big_Nose Pointy_Nose",
    "Lips and chin": (
        "5_o_Clock_Shadow Big_Lips Double_Chin Goatee Mouth_Slightly_Open Mustache No_Beard Sideburns Wearing_Lipstick"
    ),
    "Cheeks and ears": "High_Cheekbones Rosy_Cheeks Wearing_Earrings",
    "Neck": "Wearing_Necklace Wearing_Necktie",
}
OTHER = "Other"


def by_region(names: Iterable[str]) -> dict[str, list[str]]:
    """Attributes by the region that they lie in, from top to bottom; those of no known region come last.

    >>> by_region(["Smiling", "Tall", "Bald"])
    {'Face': ['Smiling'], 'Hair': ['Bald'], 'Other': ['Tall']}
    """
    names = list(names)
    groups = {region: [name for name in known.split() if name in names] for region, known in REGIONS.items()}
    known = {name for group in groups.values() for name in group}
    groups[OTHER] = [name for name in names if name not in known]
    return {region: group for region, group in groups.items() if group}


def label(name: str) -> str:
    """An attribute's name in words: ``5_o_Clock_Shadow`` is ``5 o'clock shadow``."""
    return name.replace("_o_Clock", " o'clock").replace("_", " ").capitalize()
