"""The synthetic faces: reproducible, labeled as drawn, and told apart by face and not by raw pixels."""

from dataclasses import replace

import numpy as np
import pytest

from facetx.data.synthetic.faces import SyntheticFaces, render_face
from facetx.data.synthetic.portrait import TEMPLATE, paint
from facetx.data.synthetic.traits import Shot, attributes, sample_identity, sample_shot
from facetx.errors import DataError

BACKGROUND, SKIN, LEFT_BROW, RIGHT_BROW, LEFT_EYE, RIGHT_EYE, NOSE, UPPER_LIP, INNER_MOUTH, LOWER_LIP, HAIR = range(11)


def person(number: int, **traits):
    return replace(sample_identity(np.random.default_rng(number)), **traits)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(H, W): the largest difference of a pixel's three channels."""
    return np.abs(a.astype(int) - b.astype(int)).max(axis=2)


@pytest.fixture(scope="module")
def faces():
    return [render_face(7, identity, image) for identity in range(60) for image in range(3)]


# ---- reproducible ----


def test_a_face_is_a_function_of_seed_identity_and_image():
    keys = [(0, 3, 1), (0, 3, 2), (1, 3, 1), (0, 4, 1)]
    forwards = [render_face(*key) for key in keys]
    backwards = [render_face(*key) for key in reversed(keys)][::-1]
    for a, b in zip(forwards, backwards):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.mask, b.mask)
        assert np.array_equal(a.keypoints, b.keypoints)
        assert a.attributes == b.attributes
    for i in range(len(keys)):
        for j in range(i):
            assert difference(forwards[i].image, forwards[j].image).mean() > 5


def test_the_pictures_do_not_change_unnoticed():
    """Mean brightness of three by three fields; a change of the renderer must change these numbers knowingly."""
    means = np.mean([render_face(0, i, 0, size=48).image.reshape(3, 16, 3, 16, 3).mean((1, 3, 4)) for i in range(4)], 0)
    assert means == pytest.approx(
        np.array([[136.2, 147.9, 140.6], [131.4, 132.5, 126.9], [120.5, 114.2, 120.3]]), abs=1.5
    )


@pytest.mark.parametrize("size", [16, 96, 112, 178])
def test_shapes_types_and_ranges(size):
    face = render_face(0, 5, 2, size)
    assert face.image.shape == (size, size, 3)
    assert face.image.dtype == np.uint8
    assert face.image.flags.c_contiguous
    assert face.mask.shape == (size, size)
    assert face.mask.dtype == np.uint8
    assert face.mask.max() <= HAIR
    assert face.keypoints.shape == (5, 2)
    assert face.keypoints.dtype == np.float32
    assert face.identity == 5
    assert all(type(value) is bool for value in face.attributes.values())
    assert face.image.std() > 10


def test_the_geometry_scales_with_the_size():
    who = person(3)
    small, large = paint(who, Shot(), 112), paint(who, Shot(), 224)
    assert large[2] == pytest.approx(2 * small[2], rel=1e-5)
    assert (large[1][::2, ::2] == small[1]).mean() > 0.98
    assert difference(large[0][::2, ::2], small[0]).mean() < 4


# ---- labels as drawn ----


def test_keypoints_stand_where_the_mask_says(faces):
    template = np.stack([TEMPLATE.real, TEMPLATE.imag], 1)
    for face in faces:
        assert np.abs(face.keypoints - template).max() < 13
        columns, rows = np.rint(face.keypoints).astype(int).T
        assert face.mask[rows[0], columns[0]] == LEFT_EYE
        assert face.mask[rows[1], columns[1]] == RIGHT_EYE
        assert face.mask[rows[2], columns[2]] == NOSE
        for row, column in zip(rows[3:], columns[3:]):
            near = face.mask[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5]
            assert np.isin(near, (UPPER_LIP, INNER_MOUTH, LOWER_LIP)).any()
    mean_error = np.mean([face.keypoints for face in faces], axis=0) - template
    assert np.abs(mean_error).max() < 1.5


def test_every_class_of_the_mask_and_both_values_of_every_attribute_occur(faces):
    assert set(np.unique([face.mask for face in faces])) == set(range(11))
    for name in faces[0].attributes:
        assert {face.attributes[name] for face in faces} == {True, False}, name


def test_left_and_right_are_the_images(faces):
    for left, right in ((LEFT_EYE, RIGHT_EYE), (LEFT_BROW, RIGHT_BROW)):
        for face in faces:
            if (face.mask == left).any() and (face.mask == right).any():
                assert np.nonzero(face.mask == left)[1].mean() < np.nonzero(face.mask == right)[1].mean()


@pytest.mark.parametrize(
    ("labels", "traits", "shot"),
    [
        ((UPPER_LIP, LOWER_LIP), {}, {"lipstick": (0.1, 0.9, 0.1)}),
        ((HAIR,), {"hair_tone": 1.0, "hair_red": 0.0}, {}),
        ((LEFT_EYE, RIGHT_EYE), {"iris_tone": 0.9}, {}),
    ],
    ids=["lips", "hair", "eyes"],
)
def test_the_mask_is_where_the_paint_is(labels, traits, shot):
    """What changes color with one part lies in that part's classes, but for soft edges, lashes and brows."""
    who = person(3, hair_tone=0.0, hair_red=0.0, iris_tone=0.0, bald=False)
    made_up = Shot(lipstick=(0.9, 0.1, 0.1))
    before, mask, _ = paint(who, made_up, 224)
    after, mask_after, _ = paint(replace(who, **traits), replace(made_up, **shot), 224)
    assert np.array_equal(mask, mask_after)
    changed = difference(before, after) > 45
    brows_and_lashes = np.isin(mask, (LEFT_BROW, RIGHT_BROW))
    assert changed.sum() > 100
    assert np.isin(mask, labels)[changed & ~brows_and_lashes].mean() > 0.93


def test_eyeglasses_change_the_picture_about_the_eyes_and_not_the_mask():
    who = person(5)
    bare, worn = Shot(), Shot(glasses=(0.1, 0.1, 0.1))
    assert not attributes(who, bare)["Eyeglasses"]
    assert attributes(who, worn)["Eyeglasses"]
    (before, mask, points), (after, mask_after, _) = paint(who, bare, 112), paint(who, worn, 112)
    assert np.array_equal(mask, mask_after)
    changed = difference(before, after) > 30
    assert changed.sum() > 150
    assert np.abs(np.nonzero(changed)[0] - points[0, 1]).max() < 14


def test_a_hat_covers_hair_and_counts_as_background():
    who = person(6, bald=False, bangs=False)
    bare, worn = Shot(), Shot(hat=(0.1, 0.8, 0.1))
    assert attributes(who, worn)["Wearing_Hat"]
    (_, mask, _), (after, mask_after, _) = paint(who, bare, 112), paint(who, worn, 112)
    green = after[..., 1].astype(int) - after[..., 0] > 60
    assert green.sum() > 500
    assert (mask_after[green] == BACKGROUND).mean() > 0.97
    assert (mask_after == HAIR).sum() < (mask == HAIR).sum()


def test_bald_heads_have_no_hair_and_others_do(faces):
    for face in faces:
        if face.attributes["Bald"]:
            assert not (face.mask == HAIR).any()
        elif not face.attributes["Wearing_Hat"]:
            assert (face.mask == HAIR).sum() > 30


def test_an_open_mouth_shows_its_inside_and_a_smile_lifts_its_corners():
    who = person(8)
    opened, smiling = Shot(mouth_open=5), Shot(smile=0.9)
    assert attributes(who, opened)["Mouth_Slightly_Open"]
    assert attributes(who, smiling)["Smiling"]
    closed_mask, open_mask = paint(who, Shot(), 112)[1], paint(who, opened, 112)[1]
    assert (open_mask == INNER_MOUTH).sum() > 30 > (closed_mask == INNER_MOUTH).sum()

    def lift(shot: Shot) -> float:
        """How far the corners stand above the middle of the lips, in pixels."""
        _, mask, points = paint(who, shot, 112)
        middle = round(float(points[3:, 0].mean()))
        return float(np.nonzero(np.isin(mask[:, middle], (UPPER_LIP, LOWER_LIP)))[0].mean() - points[3:, 1].mean())

    assert lift(smiling) > lift(Shot()) + 2


@pytest.mark.parametrize("style", ["stubble", "full", "goatee", "mustache"])
def test_beards_darken_the_lower_face_and_stay_skin(style):
    who, shot = person(9, skin_tone=0.1, hair_tone=1.0, age=0.2), Shot(beard=style)
    (before, mask, points), (after, mask_after, _) = paint(who, Shot(), 112), paint(who, shot, 112)
    assert np.array_equal(mask, mask_after)
    darker = before.mean(2) - after.mean(2) > 20
    assert darker.sum() > 40
    assert np.nonzero(darker)[0].min() > points[0, 1] + 8
    assert attributes(who, shot)["No_Beard"] == (style == "stubble")


# ---- identity and nuisance ----


def test_an_identity_is_the_same_person_in_all_its_pictures():
    rows = [[render_face(0, identity, image) for image in range(6)] for identity in range(30)]
    for row in rows:
        for lasting in ("Bald", "Bushy_Eyebrows", "Big_Nose", "Pale_Skin"):
            assert len({face.attributes[lasting] for face in row}) == 1


def test_without_nuisance_the_nearest_neighbor_is_always_right():
    """The identity is in the picture: sensor noise and a little light apart, people look different."""
    people = [person(i) for i in range(50)]
    gallery = np.stack([paint(who, Shot(), 56)[0] for who in people]).reshape(50, -1).astype(np.float32)
    dimmed = Shot(gain=(0.95, 0.95, 0.95), grain=0.02, grain_seed=1, smile=0.2)
    probes = np.stack([paint(who, dimmed, 56)[0] for who in people]).reshape(50, -1).astype(np.float32)
    distance = ((probes[:, None] - gallery) ** 2).mean(2)
    assert (distance.argmin(1) == np.arange(50)).mean() == 1
    others = ((gallery[:, None] - gallery) ** 2).mean(2)[~np.eye(50, dtype=bool)]
    assert np.sqrt(others.min()) > 6  # gray levels between the most alike two


def test_nuisance_varies_what_it_should():
    who = person(1, smile=0.4)
    shots = [sample_shot(np.random.default_rng(i), who) for i in range(300)]
    for low, high, name in ((-0.25, 0.25, "yaw"), (-0.1, 0.1, "pitch"), (-0.04, 0.04, "roll"), (0.0, 0.7, "smile")):
        values = [getattr(shot, name) for shot in shots]
        assert min(values) < low < high < max(values), name
    assert len({shot.clothes for shot in shots}) == 300


def test_raw_pixels_do_badly():
    """Rank-1 of the nearest neighbor, and verification by cosine at the best threshold, of raw pixels."""
    data = SyntheticFaces(identities=50, images_per_identity=5, seed=3)
    pixels = np.stack([data[i]["image"] for i in range(len(data))]).reshape(len(data), -1).astype(np.float32)
    gallery, probes = pixels[::5], np.delete(pixels, np.arange(0, len(data), 5), 0)
    truth = np.repeat(np.arange(50), 4)
    distance = (gallery**2).sum(1) - 2 * probes @ gallery.T
    assert (distance.argmin(1) == truth).mean() < 0.25

    unit = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
    random = np.random.default_rng(0)
    first = random.integers(0, len(data), 2000)
    same = first // 5 * 5 + (first % 5 + random.integers(1, 5, 2000)) % 5
    other = (first + 5 * random.integers(1, 50, 2000)) % len(data)
    scores = unit @ unit.T
    genuine, impostor = scores[first, same], scores[first, other]
    thresholds = np.quantile(genuine, np.linspace(0, 1, 201))
    accuracy = max(((genuine > t).mean() + (impostor <= t).mean()) / 2 for t in thresholds)
    assert accuracy < 0.68


# ---- the data set ----


def test_the_data_set_and_its_items():
    data = SyntheticFaces(identities=4, images_per_identity=3, seed=2, first_identity=10, size=64)
    assert (len(data), data.num_classes, data.name) == (12, 4, "synthetic(4 x 3)")
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    item, face = data[7], render_face(2, 12, 1, 64)
    assert sorted(item) == ["attributes", "image", "keypoints", "label", "mask"]
    assert dict(zip(data.attribute_names, item["attributes"].astype(bool).tolist())) == face.attributes
    assert np.array_equal(item["mask"], face.mask)
    assert len(data.mask_classes) == 11
    assert np.array_equal(item["image"], face.image)
    assert type(item["label"]) is int
    assert item["label"] == 2
    assert item["keypoints"].dtype == np.float32
    assert item["keypoints"] * 64 == pytest.approx(face.keypoints)
    assert 0 < item["keypoints"].min() < item["keypoints"].max() < 1
    assert data.face(7).attributes == face.attributes
    assert len(list(data)) == 12
    with pytest.raises(IndexError, match="12"):
        data[12]


def test_ranges_of_identities_meet_where_they_should():
    lower, upper = SyntheticFaces(4, 2, size=32), SyntheticFaces(2, 2, first_identity=2, size=32)
    assert np.array_equal(lower[4]["image"], upper[0]["image"])
    assert not np.array_equal(lower[0]["image"], upper[0]["image"])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"identities": 0}, "identities"),
        ({"images_per_identity": -1}, "images_per_identity"),
        ({"identities": 2.5}, "identities"),
        ({"seed": -1}, "seed"),
        ({"first_identity": -5}, "first_identity"),
        ({"size": 8}, "size"),
        ({"size": True}, "size"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(DataError, match=f"{name} must be an integer of at least"):
        SyntheticFaces(**arguments)


def test_render_face_names_bad_arguments_too():
    with pytest.raises(DataError, match="identity must be"):
        render_face(0, -1, 0)
    with pytest.raises(DataError, match="image must be"):
        render_face(0, 0, "3")
