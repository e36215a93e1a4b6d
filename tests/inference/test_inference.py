"""What a notebook does: create, list, load, embed, compare, evaluate."""

import numpy as np
import pytest
import torch
from PIL import Image

import facetx
from facetx.checkpoints.format import find_checkpoint
from facetx.config import check_settings
from facetx.errors import CheckpointError, DataError, UnknownNameError
from facetx.inference import images
from facetx.inference.model import FaceModel
from facetx.training import start_run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, faces):
    folder = tmp_path_factory.mktemp("trained") / "run"
    raw = {
        "name": "trained",
        "data": {"name": "image_folder", "args": {"root": str(faces)}, "workers": 0},
        "model": {
            "name": "vit_p8s8_tiny",
            "args": {"image_size": 32, "dim": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp_dim": 32},
            "input": {"color": "BGR", "mean": [127.5], "std": [128.0]},
        },
        "head": {"name": "arcface", "args": {"scale": 16.0, "margin": 0.1}},
        "optim": {"lr": 3e-3, "ema": 0.9},
        "train": {"steps": 60, "batch_size": 6},
    }
    start_run(check_settings(raw), folder)
    return folder


def test_names_and_builders():
    assert "vit_p12s8" in facetx.list_backbones("vit_p*")
    assert {"softmax", "cosface", "arcface"} <= set(facetx.list_heads())
    backbone = facetx.create_backbone("vit_p8s8_tiny", image_size=16, dim=8, depth=1, heads=2, head_dim=4, mlp_dim=8)
    head = facetx.create_head("cosface", backbone.embedding_dim, 5)
    out = head(backbone(torch.randn(4, 3, 16, 16)), torch.tensor([0, 1, 2, 4]))
    assert torch.isfinite(out["loss"])
    with pytest.raises(UnknownNameError, match="did you mean 'vit_p12s8'"):
        facetx.create_backbone("vit_p12s9")


def test_a_trained_model_is_loaded_with_its_contract_and_its_averaged_weights(run_folder):
    model = facetx.load_model(run_folder)
    assert model.contract == facetx.InputContract(size=32, color="BGR", mean=(127.5,), std=(128,))
    assert model.meta["step"] == 60
    checkpoint = find_checkpoint(run_folder)
    averaged, state = checkpoint.weights(), checkpoint.state()
    name = "encoder.blocks.0.mlp.0.weight"
    assert torch.equal(model.backbone.state_dict()[name], averaged[name])
    assert not torch.equal(model.backbone.state_dict()[name], state["task"][f"backbone.{name}"])


def test_all_kinds_of_images_give_the_same_embedding(run_folder, faces):
    model = facetx.load_model(run_folder)
    path = faces / "person_2/0.png"
    pil = Image.open(path)
    array = np.asarray(pil)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    one = model.embed(path)
    assert one.shape == (1, 16)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    for image in (str(path), pil, array, tensor, [path], array[None], tensor[None]):
        np.testing.assert_allclose(model.embed(image), one, atol=1e-6)
    many = model.embed([path, pil, array, tensor], batch_size=3)
    np.testing.assert_allclose(many, np.repeat(one, 4, 0), atol=1e-5)


def test_compare_tells_people_apart(run_folder, faces):
    model = facetx.load_model(run_folder)
    same = model.compare(faces / "person_1/0.png", faces / "person_1/1.png")
    other = model.compare(faces / "person_1/0.png", faces / "person_4/1.png")
    assert -1 <= other < same <= 1.0001


def test_square_faces_of_another_size_are_resized(run_folder, faces, tmp_path):
    model = facetx.load_model(run_folder)
    large = Image.open(faces / "person_2/0.png").resize((112, 112))
    np.testing.assert_allclose(model.embed(large), model.embed(large.resize((32, 32), Image.Resampling.BILINEAR)))
    assert model.compare(large, faces / "person_2/0.png") > 0.9

    for person in "ab":
        (tmp_path / person).mkdir()
        for i in (1, 2):
            large.save(tmp_path / f"{person}/{person}_{i:04d}.png")
    (tmp_path / "pairs.txt").write_text("2\t1\na\t1\t2\na\t1\tb\t1\nb\t1\t2\na\t2\tb\t1\n")
    lfw = {"images": str(tmp_path), "pairs": str(tmp_path / "pairs.txt")}
    assert len(model.evaluate("lfw", **lfw).scores) == 4
    with pytest.raises(DataError, match="112x112"):
        model.evaluate("lfw", **lfw, size=112)


def test_files_are_read_as_they_are_asked_for(faces, monkeypatch):
    reads = []
    read = images.read_image
    monkeypatch.setattr(images, "read_image", lambda path: reads.append(path) or read(path))
    given = images.GivenImages((str(p) for p in sorted(faces.rglob("*.png"))), 32)
    assert reads == []
    assert given[7]["image"].shape == (32, 32, 3)
    assert reads == [given.images[7]] == [given.describe(7)]


def test_a_picture_with_a_tag_is_turned(tmp_path):
    turned = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    tag = Image.Exif()
    tag[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(turned).save(tmp_path / "a.png", exif=tag)
    with Image.open(tmp_path / "a.png") as image:
        given = images.GivenImages(image, 32)
        np.testing.assert_array_equal(given[0]["image"], np.rot90(turned, -1))


def test_compare_takes_the_keypoints_that_a_backbone_needs():
    sizes = {"image_size": 32, "depth": 1}
    model = FaceModel(facetx.create_backbone("vit_kprpe_tiny", **sizes), "cpu")
    a, b = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    points = np.random.default_rng(0).random((2, 5, 2), np.float32)
    first, second = model.embed([a, b], keypoints=points)
    assert model.compare(a, b, keypoints=points) == pytest.approx(float(first @ second))
    with pytest.raises(DataError, match="keypoints"):
        model.compare(a, b)


def test_a_model_says_what_it_is(run_folder):
    words = "32x32 BGR, (x - 127.5) / 128, aligned to arcface -> 16 numbers)"
    model = facetx.load_model(run_folder, "cpu")
    assert repr(model) == f"FaceModel(vit_p8s8_tiny on cpu: {words}"
    assert repr(FaceModel(model.backbone, "cpu")) == f"FaceModel(FaceTransformer on cpu: {words}"


@pytest.mark.parametrize(
    ("contract", "words"),
    [
        (facetx.InputContract(mean=(0,), std=(1,)), "112x112 RGB, raw 0..255, aligned to arcface"),
        (
            facetx.InputContract(64, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4)),
            "64x64 RGB, (x - (123.7, 116.3, 103.5)) / (58.4, 57.1, 57.4), aligned to arcface",
        ),
    ],
)
def test_a_contract_in_words(contract, words):
    assert str(contract) == words


def test_evaluate_by_name(run_folder, faces):
    args = {"root": str(faces), "part": "all", "folds": 2, "pairs_per_fold": 5}
    result = facetx.load_model(run_folder).evaluate("folder_pairs", **args)
    assert result.accuracy.mean > 0.8
    assert "TAR at FAR" in result.table().text()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((32, 32, 3), np.float32), "uint8 RGB array"),
        (np.zeros((32, 32), np.uint8), r"got uint8 \(32, 32\)"),
        (torch.zeros(3, 32, 32), "got torch.float32"),
        (7, "got int"),
        ([], "no images were given"),
        (np.zeros((40, 32, 3), np.uint8), r"image 1: the image is 32x40.* 32x32 .*\(scripts/prepare_data.py align\)"),
        (["nowhere.jpg", 7], "image 2: an image is a path.*; got int"),
        ("nowhere.jpg", "nowhere.jpg: no such file"),
    ],
)
def test_what_is_no_image_is_told(run_folder, image, words):
    with pytest.raises(DataError, match=words):
        facetx.load_model(run_folder).embed(image)


def test_a_folder_without_a_checkpoint_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        facetx.load_model(tmp_path)


def test_a_folder_is_embedded_as_its_files_and_streams(run_folder, faces, tmp_path, monkeypatch):
    model = facetx.load_model(run_folder)
    files = sorted(faces.rglob("*.png"))
    expected = model.embed(files)
    np.testing.assert_allclose(model.embed(faces), expected, atol=1e-6)
    np.testing.assert_allclose(model.embed(faces, batch_size=7), expected, atol=1e-6)  # with processes that read
    parts = list(model.stream(str(faces), batch_size=7))
    assert [len(names) for names, _ in parts] == [7, 7, 7, 7, 2]
    assert [name for names, _ in parts for name in names] == list(map(str, files))
    np.testing.assert_allclose(np.concatenate([found for _, found in parts]), expected, atol=1e-6)
    with pytest.raises(DataError, match=f"{tmp_path}: has no images"):
        model.embed(tmp_path)


def test_a_stream_reads_no_more_than_it_gives(run_folder, faces, monkeypatch):
    read, seen = images.read_image, []
    monkeypatch.setattr(images, "read_image", lambda path: seen.append(path) or read(path))
    monkeypatch.setattr(images, "READERS", 0)
    stream = facetx.load_model(run_folder).stream(faces, batch_size=4)
    next(stream)
    assert len(seen) == 4
    stream.close()
