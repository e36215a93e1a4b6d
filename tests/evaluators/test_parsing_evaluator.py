"""The question parsing: exact answers at the frame's own size, class lists, notes, comparisons, and its page."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from facetx.config import check_settings
from facetx.config.settings import EvaluatorSettings
from facetx.contract import InputContract
from facetx.data.base import FaceDataset
from facetx.data.mask_classes import CELEBAMASK_HQ, LAPA
from facetx.errors import ConfigError, DataError
from facetx.evaluators import How, build_evaluator, data_size
from facetx.evaluators.parsing import PUBLISHED, Kept, ParsingEvaluator, published_set
from facetx.metrics import parsing as metrics
from facetx.tasks import Task
from facetx.training import start_run
from facetx.training.build import build, evaluator_of

NAMES = ("background", "skin", "l_eye", "r_eye", "hat")
IGNORED = 255


class Nothing(nn.Module):
    embedding_dim = 3
    needs_keypoints = False
    contract = InputContract(size=16)


class Asked(Task):
    """Says of each pixel the class that its red value shows, in twenties; ``wrong`` says another of its left half."""

    def __init__(self, names=NAMES, wrong=None, size=16):
        super().__init__(Nothing())
        self.backbone.contract = InputContract(size=size)
        self.mask_classes = tuple(names)
        self.wrong = wrong

    def forward(self, batch):
        raise AssertionError("nothing is trained here")

    def predict(self, batch):
        assert not self.training
        red = batch["image"][:, 0].float() / 20
        if self.wrong is not None:
            red[..., : red.shape[-1] // 2] = self.wrong
        kinds = torch.arange(len(self.mask_classes), device=red.device)
        return {"mask": -(red[:, None] - kinds[:, None, None]).abs()}


class Masked(FaceDataset):
    """Images whose red value is their mask's class times twenty."""

    num_classes = 1
    name = "masked"

    def __init__(self, masks, names=NAMES):
        self.masks, self.mask_classes = masks, tuple(names)
        self.labels = np.zeros(len(masks), np.int64)

    def __getitem__(self, index):
        mask = np.asarray(self.masks[index], np.uint8)
        image = np.zeros((*mask.shape, 3), np.uint8)
        image[..., 0] = 20 * np.where(mask == IGNORED, 0, mask)
        return {"image": image, "label": 0, "mask": mask}


def halves(height=16, width=16, left=1, right=2):
    mask = np.full((height, width), left, np.uint8)
    mask[:, width // 2 :] = right
    return mask


def test_images_of_several_sizes_are_answered_at_their_own():
    masks = [halves(16, 16), halves(48, 32), halves(20, 64, 3, 0), halves(32, 32, 1, 3)]
    result = ParsingEvaluator(Masked(masks)).result(Asked(), How(batch_size=3))
    assert result.confusion.sum() == sum(mask.size for mask in masks)
    assert result.summary()["pixel_accuracy"] > 0.98  # halves meet between two pixels of the network's
    assert result.said[1].shape == (48, 32)
    by_hand = [metrics.count(mask, result.said[i], 5, 0.003 * np.hypot(*mask.shape)) for i, mask in enumerate(masks)]
    np.testing.assert_array_equal(result.confusion, sum(matrix for matrix, _ in by_hand))
    np.testing.assert_array_equal(result.counts, [counts for _, counts in by_hand])


def test_processes_that_read_change_nothing():
    data = Masked([halves(16, 16), halves(48, 32), halves(20, 64, 3, 0), halves(32, 32, 1, 3)])
    alone, by_two = (ParsingEvaluator(data).result(Asked(), How(batch_size=2, workers=n)) for n in (0, 2))
    np.testing.assert_array_equal(alone.counts, by_two.counts)
    assert alone.labels == by_two.labels
    data.masks[3] = halves(right=7)
    with pytest.raises(DataError, match="masked, item 3: 128 pixels are labeled 7"):
        ParsingEvaluator(data).result(Asked(), How(batch_size=2, workers=1))


def test_an_item_without_its_mask_is_told():
    class Lacking(Masked):
        def __getitem__(self, index):
            return {name: value for name, value in super().__getitem__(index).items() if name != "mask" or index == 0}

    with pytest.raises(DataError, match="masked, item 1: the field 'mask' is asked for, and this image has none"):
        ParsingEvaluator(Lacking([halves(), halves()])).result(Asked())


def test_logits_are_resized_before_the_highest_is_taken():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 1, (2, 3, 8, 8))).float()

    class Fixed(Asked):
        def predict(self, batch):
            return {"mask": logits}

    masks = [rng.integers(0, 3, (24, 17)).astype(np.uint8), rng.integers(0, 3, (8, 8)).astype(np.uint8)]
    result = ParsingEvaluator(Masked(masks, NAMES[:3])).result(Fixed(NAMES[:3], size=8))
    full = nn.functional.interpolate(logits[:1], (24, 17), mode="bilinear", align_corners=False)
    np.testing.assert_array_equal(result.said[0], full[0].argmax(dim=0).numpy())
    np.testing.assert_array_equal(result.said[1], logits[1].argmax(dim=0).numpy())


def test_numbers_by_hand():
    masks = [halves(), halves(left=1, right=1)]
    masks[1][:4] = IGNORED
    result = ParsingEvaluator(Masked(masks)).result(Asked(wrong=3))
    # of 128 + 192 pixels of skin 32 rows' right halves are met; the left halves are said to be r_eye, which has none
    skin = 2 * 96 / (128 + 192 + 96)
    assert result.summary()["mean_f1"] == pytest.approx((skin + 1) / 2)
    assert result.summary()["mean_iou"] == pytest.approx((96 / 320 + 1) / 2)
    assert result.summary()["pixel_accuracy"] == pytest.approx((96 + 128) / (320 + 128))
    assert result.notes == (
        "no pixel is labeled so, so they are not in the means: background, r_eye (said of 224 pixels), hat",
    )
    assert result.worst() == [0, 1]  # 1/3: only l_eye is met; 96 of 192 pixels of skin
    assert result.image_f1 == pytest.approx([1 / 3, (2 * 96 / (192 + 96)) / 2])


def test_mirrors_are_averaged_and_their_sides_exchanged():
    bias = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (5, 16, 16))).float()

    class Biased(Asked):
        def predict(self, batch):
            return {"mask": super().predict(batch)["mask"] + bias}

    data = Masked([halves(left=3, right=2)])
    image = torch.from_numpy(data[0]["image"]).permute(2, 0, 1)[None]
    task = Biased().eval()
    one, other = (task.predict({"image": view})["mask"][0] for view in (image, image.flip(-1)))
    expected = (one + other[[0, 1, 3, 2, 4]].flip(-1)) / 2
    assert (one.argmax(dim=0) != expected.argmax(dim=0)).any()
    evaluator = ParsingEvaluator(data, mirrors=True)
    np.testing.assert_array_equal(evaluator.result(task).said[0], expected.argmax(dim=0).numpy())
    assert evaluator.terms().flip is True


def test_classes_are_matched_by_name_whatever_their_order():
    order = [3, 0, 4, 2, 1]

    class Turned(Asked):
        def predict(self, batch):
            return {"mask": super().predict(batch)["mask"][:, order]}

    data = Masked([halves(), halves(32, 32, 3, 0)])
    plain = ParsingEvaluator(data).result(Asked())
    turned = Turned()
    turned.mask_classes = tuple(NAMES[i] for i in order)
    np.testing.assert_array_equal(ParsingEvaluator(data).result(turned).confusion, plain.confusion)
    assert plain.summary()["pixel_accuracy"] > 0.9


def test_names_of_any_alphabet_are_classes():
    names = ("배경", "피부", "눈")
    assert ParsingEvaluator(Masked([halves()], names)).result(Asked(names)).summary()["pixel_accuracy"] == 1


def test_what_cannot_be_asked_is_told():
    data = Masked([halves()])
    with pytest.raises(
        DataError, match=r"The data has 5: background, .*, hat\. The model has 3: background, skin, nose"
    ):
        ParsingEvaluator(data).result(Asked(("background", "skin", "nose")))
    with pytest.raises(DataError, match="Only here: hat, leye, reye; only there: nose"):
        ParsingEvaluator(data).result(Asked(("background", "skin", "nose")))
    with pytest.raises(DataError, match="parsing: this model predicts no masks"):
        ParsingEvaluator(data).result(Asked(()))
    with pytest.raises(ConfigError, match="has no data to ask by"):
        build_evaluator("parsing", None, {})
    with pytest.raises(ConfigError, match="masked has no masks"):
        ParsingEvaluator(Masked([halves()], ()))
    with pytest.raises(ConfigError, match="masked has no images"):
        ParsingEvaluator(Masked([]))
    with pytest.raises(ConfigError, match="a share of the diagonal"):
        ParsingEvaluator(data, tolerance=2)
    with pytest.raises(
        DataError, match="masked, item 0: 128 pixels are labeled 7, and there are 5 classes: background"
    ):
        ParsingEvaluator(Masked([halves(right=7)])).result(Asked())
    with pytest.raises(DataError, match="masked has no pixel with a label"):
        ParsingEvaluator(Masked([halves(left=IGNORED, right=IGNORED)])).result(Asked())


def test_background_alone_has_no_mean_f1():
    result = ParsingEvaluator(Masked([halves(left=0, right=0)])).result(Asked())
    assert "mean_f1" not in result.summary()
    assert result.summary()["pixel_accuracy"] == 1
    assert result.notes[-1] == "all labeled pixels are background, so there is no mean F1"
    assert result.worst() == []
    json.dumps(result.as_dict(), allow_nan=False)
    assert len(result.tables()) == 3


def test_the_answers_of_the_worst_images_are_kept_and_no_more():
    kept = Kept(1000)
    rng = np.random.default_rng(0)
    scores = rng.permutation(1000) / 1000
    scores[7] = np.nan
    for item, score in enumerate(scores):
        kept.offer(item, float(score), np.full((2, 2), item % 255, np.uint8))
    worst = set(np.argsort(np.where(np.isnan(scores), 9, scores))[:10].tolist())
    shown = kept.of_all(np.full((1000, 2), 2), scores.tolist())
    assert worst <= set(shown)
    assert len(shown) <= 18
    assert all((mask == item % 255).all() for item, mask in shown.items())


def test_the_data_is_opened_at_its_own_size(small):
    assert data_size("parsing", 64) is None
    assert data_size("pairs", 64) == 64
    faces = {"name": "synthetic_faces", "args": {"identities": 2, "images_per_identity": 2, "size": 80}}
    part = EvaluatorSettings.model_validate({"name": "parsing", "data": faces})
    assert evaluator_of(part, 32).dataset[0]["mask"].shape == (80, 80)
    with pytest.raises(ConfigError, match="tolerence"):
        check_settings({**small, "evaluators": [{"name": "parsing", "data": faces, "args": {"tolerence": 1}}]})


def test_published_figures_stand_beside_the_sets_that_they_are_of():
    assert published_set(LAPA, "lapa test") == "LaPa"
    assert published_set(CELEBAMASK_HQ, "celebamask_hq") == "CelebAMask-HQ"
    assert published_set(LAPA, "synthetic(3 x 4)") is None
    assert published_set(NAMES, "lapa") is None
    data = Masked([halves()], LAPA)
    data.name = "LaPa, test"
    *_, beside = ParsingEvaluator(data).result(Asked(LAPA)).tables()
    assert [row[0] for row in beside.rows] == ["parsing", *PUBLISHED["LaPa"]]
    assert beside.rows[1][1:] == ("93.88", "93.81")
    assert "best on the test split" in beside.title


def test_tables_and_json_say_the_same():
    result = ParsingEvaluator(Masked([halves(), halves(left=2), halves(right=3)])).result(Asked(wrong=1))
    plain = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    rows = {row[0]: row for row in result.each().rows}
    assert rows["l_eye"][3] == f"{100 * plain['classes']['l_eye']['f1']:.2f}"
    assert plain["classes"]["hat"]["f1"] is None
    assert rows["hat"][3] == "-"
    assert plain["classes"]["skin"]["images"] == 2
    low, high = plain["intervals"]["mean_f1"]
    assert low <= plain["summary"]["mean_f1"] <= high
    assert result.mistaken().rows[0][:2] == ("l_eye", "skin")
    assert plain["worst"] == {str(i): pytest.approx(result.image_f1[i]) for i in result.worst()}


FACES = {"identities": 12, "images_per_identity": 1, "first_identity": 50, "size": 40}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run on drawn faces, with what its evaluator said at the end."""
    settings = check_settings(
        {
            "name": "small",
            "task": {"name": "parsing", "args": {"width": 8, "detail": 4, "finest": 2}},
            "data": {"name": "synthetic_faces", "args": {"identities": 8, "images_per_identity": 2}, "workers": 0},
            "model": {"name": "timm:test_convnext", "args": {"image_size": 32, "embedding_dim": None}},
            "optim": {"lr": 1e-2, "ema": 0.5},
            "train": {"steps": 6, "batch_size": 8, "checkpoint_every": 6},
            "evaluators": [
                {"name": "parsing", "data": {"name": "synthetic_faces", "args": FACES}, "args": {"name": "val"}}
            ],
            "select": "val/mean_f1",
        }
    )
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, start_run(settings, folder).results["val"]


def test_a_run_is_trained_and_drawn_and_asked_again(run, script, tmp_path):
    folder, trained = run
    drawn = {path.name for path in (folder / "pictures").iterdir()}
    assert drawn == {"training.png", "val_classes.png", "val_overlays.png", "val_worst.png"}
    asked = ["--data", "synthetic_faces", "--data-args", *(f"{key}={value}" for key, value in FACES.items())]
    asked += ["--ask", "parsing", "--workers", 0]
    told = script("evaluate.py", "--checkpoint", folder, *asked, "--out", tmp_path / "run")
    assert told.returncode == 0, told.err
    again = json.loads((tmp_path / "run/synthetic_faces_parsing.json").read_text())
    assert again["summary"] == pytest.approx(trained.summary(), rel=1e-4)
    assert len(again["receipt"]["weights"]) == 64
    assert "mean F1" in told.out
    assert (tmp_path / "run/synthetic_faces.html").stat().st_size > 50_000


def test_an_exported_file_gives_the_same_result(run, script, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra 'export'")
    folder, _ = run
    told = script("export.py", folder, "--to", "onnx", "--out", tmp_path / "model.onnx")
    assert told.returncode == 0, told.err
    asked = ["--data", "synthetic_faces", "--data-args", *(f"{key}={value}" for key, value in FACES.items())]
    asked += ["--ask", "parsing", "--workers", 0]
    for name, model in (("a", folder), ("b", tmp_path / "model.onnx")):
        assert script("evaluate.py", "--checkpoint", model, *asked, "--out", tmp_path / name).returncode == 0
    a, b = (tmp_path / name / "synthetic_faces_parsing.json" for name in "ab")
    one, other = json.loads(a.read_text()), json.loads(b.read_text())
    assert one["summary"] == pytest.approx(other["summary"], abs=2e-4)
    assert one["labels"] == other["labels"]
    compared = script("compare_results.py", a, b)
    assert compared.returncode == 0, compared.err
    assert "F1 of nose" in compared.out
    assert "version of onnxruntime: None and" in compared.out


def test_other_classes_are_told_before_training(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images/a.png")
    Image.new("L", (32, 32)).save(tmp_path / "masks/a.png")
    (tmp_path / "classes.txt").write_text("background\nskin\n")
    settings = check_settings(
        {
            "name": "small",
            "task": "parsing",
            "optim": {"lr": 1e-2},
            "data": {"name": "synthetic_faces", "args": {"identities": 4, "images_per_identity": 1}, "workers": 0},
            "model": {"name": "timm:test_convnext", "args": {"image_size": 32, "embedding_dim": None}},
            "train": {"steps": 2, "batch_size": 2},
            "evaluators": [{"name": "parsing", "data": {"name": "mask_folder", "args": {"root": str(tmp_path)}}}],
        }
    )
    with pytest.raises(
        DataError, match="its masks have other classes than the model. The data has 2: background, skin"
    ):
        build(settings)
