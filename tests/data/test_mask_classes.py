"""The lists of classes: their length and order, what a mirror swaps by their names, and their colors."""

import numpy as np
import pytest

from facetx.data.base import Description
from facetx.data.mask_classes import CELEBAMASK_HQ, CLASS_LISTS, FASSEG, HELEN, LAPA, class_words, colors_of
from facetx.data.sample import Sides
from facetx.data.synthetic.faces import SyntheticFaces

SWAPPED = {
    "lapa": {("left_brow", "right_brow"), ("left_eye", "right_eye")},
    "celebamask_hq": {("l_eye", "r_eye"), ("l_brow", "r_brow"), ("l_ear", "r_ear")},
    "fasseg": set(),
}
SWAPPED["helen"] = SWAPPED["lapa"]


def test_the_lists_are_as_long_as_the_data_sets_say():
    assert [len(names) for names in (LAPA, HELEN, CELEBAMASK_HQ, FASSEG)] == [11, 11, 19, 6]
    assert LAPA[10] == "hair"
    assert CELEBAMASK_HQ[13] == "hair"
    assert CELEBAMASK_HQ[17] == "neck"
    assert SyntheticFaces(1, 1).mask_classes == LAPA


def test_short_names_are_written_out():
    names = ("l_brow", "r_eye", "l_lip", "ear_r", "neck_l", "eye_g", "left_brow", "u_lip", "inner_mouth", "hair")
    assert [class_words(name) for name in names] == [
        *("left brow", "right eye", "lower lip", "earring", "necklace", "glasses"),
        *("left brow", "upper lip", "inner mouth", "hair"),
    ]


@pytest.mark.parametrize("name", CLASS_LISTS)
def test_a_mirror_swaps_the_two_sides_and_nothing_else(name):
    names = CLASS_LISTS[name]
    table = Sides.of(Description(0, (), names)).mask
    swapped = {tuple(sorted((names[i], names[j]))) for i, j in enumerate(table[: len(names)]) if i != j}
    assert swapped == SWAPPED[name]
    np.testing.assert_array_equal(table[table], np.arange(256))


@pytest.mark.parametrize("names", [*CLASS_LISTS.values(), ("background", *map(str, range(254)))])
def test_colors_differ_and_mean_the_same_everywhere(names):
    colors = colors_of(names)
    assert len(set(colors)) == len(names)
    assert colors[0] == (0, 0, 0)
    assert all(0 <= value <= 255 for color in colors for value in color)


def test_a_part_has_one_color_in_all_lists():
    assert colors_of(["left_eye"]) == colors_of(["l_eye"])
    assert colors_of(["upper_lip"]) == colors_of(["u_lip"])


def test_a_data_set_describes_its_classes_and_their_colors():
    found = SyntheticFaces(1, 1).description()
    assert found.mask_classes == LAPA
    assert found.mask_colors == colors_of(LAPA)
