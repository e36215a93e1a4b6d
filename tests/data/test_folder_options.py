"""Image folders: held-out images, sizes, and keypoints from a file of landmarks."""

import numpy as np
import pytest
from PIL import Image

from facetx.data import DATASETS
from facetx.data.lists import landmarks
from facetx.data.lists.landmarks import COLUMNS, landmarks_of, read_landmarks
from facetx.data.lists.pairs import Pairs, write_pairs
from facetx.data.sets.folder import ImageFolder
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import DataError
from facetx.evaluators import EVALUATORS


def write_landmarks(path, root, leave_out=()):
    """A row for each image of ``faces``: its own left eye, the rest fixed, in pixels of 32x32."""
    lines = [",".join(COLUMNS)]
    for n, file in enumerate(sorted(root.rglob("*.png"))):
        key = file.relative_to(root).as_posix()
        if key not in leave_out:
            lines.append(",".join(map(str, [key, 8 + n / 10, 10, 24, 10, 16, 16, 10, 24, 22, 24])))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_two_shares_of_images_make_up_each_identity(faces):
    train = ImageFolder(str(faces), images="train", test_images=0.4)
    test = ImageFolder(str(faces), images="test", test_images=0.4)
    everything = ImageFolder(str(faces))
    assert train.identities == test.identities == everything.identities
    assert np.bincount(train.labels).tolist() == [3] * 6
    assert np.bincount(test.labels).tolist() == [2] * 6
    assert sorted([*train.paths, *test.paths]) == sorted(everything.paths)
    for dataset in (train, test):
        assert all(p.parent.name == dataset.identities[label] for p, label in zip(dataset.paths, dataset.labels))


def test_which_images_are_held_out_is_a_function_of_names_and_seed(faces):
    chosen = [ImageFolder(str(faces), images="test", test_images=0.4, seed=s).paths[:] for s in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_at_least_one_image_is_left_to_train_on(faces):
    assert len(ImageFolder(str(faces), images="train", test_images=0.99)) == 6


def test_a_share_that_gives_no_test_image_is_an_error(faces):
    with pytest.raises(DataError, match="no identity has a test image; raise the share"):
        ImageFolder(str(faces), images="test", test_images=0.1)
    with pytest.raises(DataError, match="test_images must be at least 0 and below 1, got 1"):
        ImageFolder(str(faces), images="test", test_images=1.0)


def test_synthetic_pictures_can_be_held_out_too():
    train = SyntheticFaces(2, 3, size=32)
    later = SyntheticFaces(2, 3, size=32, first_image=1)
    assert np.array_equal(train[4 + 0]["image"], later[3]["image"])
    assert not any(np.array_equal(train[i]["image"], later[2]["image"]) for i in range(3))
    with pytest.raises(DataError, match="first_image must be an integer of at least 0"):
        SyntheticFaces(2, 3, first_image=-1)


def test_keypoints_are_shares_of_the_file_whatever_the_size(faces, tmp_path):
    csv = write_landmarks(tmp_path / "landmarks.csv", faces)
    plain = DATASETS.create("image_folder", root=str(faces), landmarks=csv)
    small = DATASETS.create("image_folder", root=str(faces), landmarks=csv, size=16)
    assert plain[7]["image"].shape == (32, 32, 3)
    assert small[7]["image"].shape == (16, 16, 3)
    expected = np.array([[8.7, 10], [24, 10], [16, 16], [10, 24], [22, 24]], np.float32) / 32
    for item in (plain[7], small[7]):
        assert item["keypoints"].dtype == np.float32
        np.testing.assert_allclose(item["keypoints"], expected, rtol=1e-6)
    assert "keypoints" not in ImageFolder(str(faces))[7]


def test_an_image_of_a_folder_without_landmarks_is_an_error(faces, tmp_path):
    csv = write_landmarks(tmp_path / "landmarks.csv", faces, leave_out={"person_2/3.png"})
    with pytest.raises(DataError, match=r"1 of 30 images have no row: person_2/3.png; add their rows"):
        ImageFolder(str(faces), landmarks=csv)
    others = EVALUATORS["folder_pairs"](
        str(faces), part="val", val_identities=0.5, landmarks=csv, folds=2, pairs_per_fold=1, seed=7
    )
    assert others.dataset[0]["keypoints"].shape == (5, 2)


def test_the_mean_stands_in_for_a_few_and_no_more(faces, tmp_path):
    csv = write_landmarks(tmp_path / "landmarks.csv", faces, leave_out={"person_2/3.png"})
    images = [p.relative_to(faces).as_posix() for p in sorted(faces.rglob("*.png"))]
    points, filled = landmarks_of(csv, images, "mean")
    assert filled == 1
    place = images.index("person_2/3.png")
    np.testing.assert_allclose(points[place], np.delete(points, place, axis=0).mean(axis=0), rtol=1e-6)
    with pytest.raises(DataError, match="2 of 31 images have no row: person_2/3.png, other.png; .* this folder"):
        landmarks_of(csv, [*images, "other.png"], "mean")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ":1: expected the header line image,left_eye_x"),
        ("image,x,y\na.png,1,2\n", ":1: expected the header line"),
        (",".join(COLUMNS) + "\na.png,1,2,3\n", ":2: expected an image and ten numbers, found 'a.png,1,2,3'"),
        (",".join(COLUMNS) + "\na.png" + ",1" * 9 + ",b\n", ":2: expected an image and ten numbers"),
        (",".join(COLUMNS) + "\na.png" + ",1" * 9 + ",nan\n", ":2: a coordinate is not finite"),
        (",".join(COLUMNS) + "\n\na.png,1\0" + ",1" * 9, ":3: expected an image and ten numbers"),
        (
            ",".join(COLUMNS) + "\na.png" + ",1" * 10 + "\n" + "a" * 200_000,
            ":3: not a line of a CSV file .field larger",
        ),
    ],
)
def test_a_file_that_holds_no_landmarks(tmp_path, text, problem):
    path = tmp_path / "landmarks.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        read_landmarks(path)
    with pytest.raises(DataError, match="nowhere.csv: no such file"):
        read_landmarks(tmp_path / "nowhere.csv")


CELEBA = (
    "2\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y \n"
)


def test_landmarks_as_celeba_has_them(tmp_path):
    path = tmp_path / "list_landmarks_align_celeba.txt"
    path.write_text(CELEBA + "000001.jpg  69  109  106  113   77  142   73  152  108  154\n000002.jpg" + "  1" * 10)
    rows = read_landmarks(path)
    assert rows["000001.jpg"].tolist() == [[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]]
    assert len(rows) == 2
    path.write_text(CELEBA + "000001.jpg" + " 1" * 9)
    with pytest.raises(DataError, match=":3: expected an image and ten numbers"):
        read_landmarks(path)
    path.write_text(CELEBA + "000001.jpg" + " 1" * 10)
    with pytest.raises(DataError, match="1 images, and the first line says 2; it may be cut off"):
        read_landmarks(path)


def test_landmarks_come_back_to_the_bit(tmp_path):
    points = np.random.default_rng(0).random((3, 5, 2), np.float32) * 100
    points[1, 0, 0] = np.nan
    landmarks.write_landmarks(tmp_path / "points.csv", ["a/0", "a/1", "b, c/2"], points)
    rows = read_landmarks(tmp_path / "points.csv")
    assert list(rows) == ["a/0", "b, c/2"]
    assert all(np.array_equal(rows[name], points[i]) for name, i in (("a/0", 0), ("b, c/2", 2)))


def test_lfw_takes_size_and_landmarks_and_names_how_many_are_means(faces, tmp_path):
    images = tmp_path / "lfw"
    for person in ("A", "B", "C", "D"):
        (images / person).mkdir(parents=True)
        for i in range(1, 7):
            Image.open(faces / "person_0/0.png").save(images / person / f"{person}_{i:04d}.png")
    keys = [[f"{p}/{p}_{i:04d}" for i in range(1, 7)] for p in "ABCD"]
    first = [*keys[0], *keys[0], *keys[2], *keys[2]]
    second = [*keys[0][1:], keys[0][0], *keys[1], *keys[2][1:], keys[2][0], *keys[3]]
    same = np.tile(np.repeat([True, False], 6), 2)
    write_pairs(tmp_path / "pairs.txt", Pairs(first, second, same, np.repeat([0, 1], 12)))
    where = {"images": str(images), "pairs": str(tmp_path / "pairs.txt")}

    csv = write_landmarks(tmp_path / "landmarks.csv", images, leave_out={"B/B_0002.png"})
    evaluator = EVALUATORS["lfw"](**where, landmarks=csv, size=16)
    assert len(evaluator.dataset) == 24
    assert evaluator.dataset[0]["image"].shape == (16, 16, 3)
    assert evaluator.dataset[7]["keypoints"][1].tolist() == [0.75, 0.3125]
    from facetx.backbones import BACKBONES

    model = BACKBONES.create("vit_kprpe_tiny", image_size=16, patch_size=8, dim=24, depth=1, heads=3, mlp_dim=24)
    assert evaluator.result(model).as_dict()["settings"]["mean_keypoints"] == 1
    with pytest.raises(DataError, match="needs five keypoints"):
        EVALUATORS["lfw"](**where, size=16).result(model)
