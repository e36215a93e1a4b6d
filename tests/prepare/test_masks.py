"""Masks in colors and in parts become index masks; what is wrong in them is named, and nothing is half there."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import shared
from PIL import Image

from facetx.data.mask_classes import CELEBAMASK_HQ, colors_of
from facetx.data.sets.masks import MaskFolder, read_mask
from facetx.errors import DataError
from facetx.prepare.masks import convert_masks

COLORS = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255), (0, 255, 0)], np.uint8)
LIST = "background 0 0 0\nleft_eye 255 0 0\nright_eye 0 0 255\nhat 0 255 0\n"


@pytest.fixture
def colored(tmp_path):
    """Four masks in colors; the left eye is on the left in all but one, and nobody wears a hat."""
    (tmp_path / "classes.txt").write_text(LIST)
    masks = []
    for i in range(4):
        mask = np.zeros((6, 8), np.uint8)
        mask[2, 1], mask[2, 6] = (2, 1) if i == 3 else (1, 2)
        masks.append(mask)
        path = tmp_path / f"colored/{i // 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLORS[mask]).save(path)
    return tmp_path, masks


def test_colors_become_numbers_and_keep_their_colors(colored):
    folder, masks = colored
    report = convert_masks(folder / "colored", folder / "masks", str(folder / "classes.txt"))
    for i, mask in enumerate(masks):
        path = folder / f"masks/{i // 2}/{i}.png"
        np.testing.assert_array_equal(read_mask(path), mask)
        np.testing.assert_array_equal(np.array(Image.open(path).convert("RGB")), COLORS[mask])
    assert not report.dropped
    assert report.facts["classes"]["left_eye"] == "in 4 images, 2.08 % of the pixels"
    assert report.facts["classes"]["hat"] == "in 0 images, 0.00 % of the pixels"
    assert report.facts["sides the other way round"] == {"left_eye, right_eye": "in 1 of 4 images"}
    assert not list(folder.glob("masks.*"))


def test_what_was_converted_can_be_converted_again_and_read(colored):
    folder, masks = colored
    convert_masks(folder / "colored", folder / "masks", str(folder / "classes.txt"))
    convert_masks(folder / "masks", folder / "again", str(folder / "classes.txt"))
    for i, mask in enumerate(masks):
        save = folder / f"images/{i // 2}/{i}.jpg"
        save.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLORS[mask]).save(save)
    data = MaskFolder(str(folder), masks="again")
    assert len(data) == 4
    np.testing.assert_array_equal(data[3]["mask"], masks[3])


def test_a_color_of_no_class_is_dropped_by_name_or_taken_for_the_nearest(colored):
    folder, masks = colored
    picture = COLORS[masks[0]]
    picture[0, :3] = (250, 10, 0)
    Image.fromarray(picture).save(folder / "colored/0/0.png")
    report = convert_masks(folder / "colored", folder / "masks", str(folder / "classes.txt"))
    assert list(report.dropped) == ["0/0.png"]
    assert "has 1 colors of no class, such as (250, 10, 0) in 3 pixels" in report.dropped["0/0.png"]
    assert not (folder / "masks/0/0.png").exists()
    convert_masks(folder / "colored", folder / "near", str(folder / "classes.txt"), nearest=True)
    expected = masks[0].copy()
    expected[0, :3] = 1
    np.testing.assert_array_equal(read_mask(folder / "near/0/0.png"), expected)


def test_a_conversion_that_was_cut_short_is_gone_on_with(colored, monkeypatch):
    folder, masks = colored
    from facetx.prepare import masks as module

    written = []

    def write(path, content):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        path.write_bytes(content)

    with monkeypatch.context() as m:
        m.setattr(module, "write_file", write)
        with pytest.raises(KeyboardInterrupt):
            convert_masks(folder / "colored", folder / "masks", str(folder / "classes.txt"))
    assert not (folder / "masks").exists()
    report = convert_masks(folder / "colored", folder / "masks", str(folder / "classes.txt"))
    assert report.facts["classes"]["right_eye"].startswith("in 4 images")
    np.testing.assert_array_equal(read_mask(folder / "masks/1/3.png"), masks[3])


def test_parts_of_celebamask_are_merged(tmp_path):
    part = np.zeros((4, 4), np.uint8)
    part[1:3] = 255
    for name in ("0/00000_skin", "1/02000_skin", "1/02000_hair"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(part if "skin" in name else part.T).convert("RGB").save(tmp_path / f"{name}.png")
    convert_masks(tmp_path, tmp_path.parent / "merged")
    skin, hair = CELEBAMASK_HQ.index("skin"), CELEBAMASK_HQ.index("hair")
    np.testing.assert_array_equal(read_mask(tmp_path.parent / "merged/0.png"), np.where(part, skin, 0))
    expected = np.where(part.T, hair, np.where(part, skin, 0))
    np.testing.assert_array_equal(read_mask(tmp_path.parent / "merged/2000.png"), expected)
    palette = Image.open(tmp_path.parent / "merged/0.png").getpalette()
    assert tuple(palette[3 * skin : 3 * skin + 3]) == colors_of(CELEBAMASK_HQ)[skin]


def test_wrong_places_are_errors(colored):
    folder, _ = colored
    with pytest.raises(DataError, match="exists"):
        convert_masks(folder / "colored", folder, str(folder / "classes.txt"))
    with pytest.raises(DataError, match="no such folder"):
        convert_masks(folder / "nowhere", folder / "masks", str(folder / "classes.txt"))
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="holds no masks"):
        convert_masks(folder / "empty", folder / "masks", "lapa")
    with pytest.raises(DataError, match="no mask can be read; the first: .*colors of no class"):
        convert_masks(folder / "colored", folder / "masks", "helen")
    assert not (folder / "masks").exists()


def test_the_script_converts_and_reports(colored, monkeypatch, capsys):
    folder, _ = colored
    script = Path(__file__).parents[2] / "scripts/prepare_data.py"
    args = ["masks", str(folder / "colored"), str(folder / "masks"), "--classes", str(folder / "classes.txt")]
    monkeypatch.setattr(sys, "argv", ["prepare_data.py", *args])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(script), run_name="__main__")
    assert exit_.value.code == 0
    assert "left_eye, right_eye: in 1 of 4 images" in capsys.readouterr().out
    saved = json.loads((folder / "masks.report.json").read_text())
    assert (saved["command"], saved["images"]) == ("masks", 4)


def test_the_reference_masks_have_images_with_swapped_sides(tmp_path):
    """A trap of real data: some of these were mirrored, and the names of their sides were not swapped."""
    report = convert_masks(shared("data/celebamask_hq/val/masks"), tmp_path / "masks", "celebamask_hq")
    assert report.facts["sides the other way round"]["l_eye, r_eye"] == "in 12 of 98 images"
