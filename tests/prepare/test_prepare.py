"""Sets of every kind as one thing, and what goes from one kind to another: nothing is lost in silence."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import Blocks
from PIL import Image

from facetx.data.align import ARCFACE
from facetx.data.formats.codec import encode_png
from facetx.data.formats.recordio import Record, RecordWriter
from facetx.data.lists.image_lists import write_list
from facetx.data.lists.landmarks import COLUMNS, write_landmarks
from facetx.data.lists.pairs import Pairs, read_pairs, write_key_pairs
from facetx.data.sets.bins import write_bin
from facetx.data.sets.folder import ImageFolder
from facetx.data.sets.packed import Packed
from facetx.errors import ConfigError, DataError
from facetx.files import draft_file, lock, write_file
from facetx.inference.model import FaceModel
from facetx.prepare import align as prepare_align
from facetx.prepare import convert as prepare_convert
from facetx.prepare.align import align_set
from facetx.prepare.convert import convert, split, subset
from facetx.prepare.report import Report
from facetx.prepare.sources import open_source
from facetx.prepare.verify import verify

NAMES = [f"person_{p}/{i}.png" for p in range(6) for i in range(5)]


def png(value):
    return encode_png(np.full((3, 2, 3), value, np.uint8))


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def photos(faces, tmp_path):
    """``faces``, to be changed."""
    return shutil.copytree(faces, tmp_path / "photos")


@pytest.fixture
def csv(tmp_path):
    """Writes the landmarks of ``faces``, each moved by ``shift``."""

    def write(name, shift, names=NAMES):
        points = np.random.default_rng(0).random((len(names), 5, 2), np.float32) * 31 + shift
        write_landmarks(tmp_path / name, names, points)
        return tmp_path / name

    return write


def killed(monkeypatch, where, after, work):
    """Does the work, and ends it at the ``after``-th call of what ``where`` names."""
    module, name = where
    whole, calls = getattr(module, name), []

    def stops(*args, **options):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return whole(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stops)
        with pytest.raises(KeyboardInterrupt):
            work()


def test_a_pack_is_not_gone_on_with_by_other_landmarks(faces, csv, tmp_path, monkeypatch):
    a, b = (open_source(faces, csv(name, shift)) for name, shift in (("a.csv", 0), ("b.csv", 1)))
    killed(monkeypatch, (prepare_convert, "relative"), 20, lambda: convert(a, tmp_path / "set", "packed"))
    assert len((tmp_path / "set.part/journal").read_text().splitlines()) > 1
    convert(b, tmp_path / "set", "packed")
    np.testing.assert_allclose(Packed(tmp_path / "set").keypoints * 32, b.landmarks, rtol=1e-6)


@pytest.mark.parametrize("times", ["other", "same"])
def test_a_folder_is_not_gone_on_with_where_an_image_was_replaced(photos, tmp_path, monkeypatch, times):
    killed(monkeypatch, (prepare_convert, "write_file"), 20, lambda: convert(open_source(photos), tmp_path / "out"))
    assert len(list((tmp_path / "out.part").rglob("*.png"))) == 20
    image, before = photos / "person_0/1.png", (photos / "person_0/1.png").stat()
    if times == "same":  # and another size
        image.write_bytes(png(0))
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        image.write_bytes(image.read_bytes())
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    written = []
    monkeypatch.setattr(prepare_convert, "write_file", lambda p, data: (written.append(p), write_file(p, data)))
    convert(open_source(photos), tmp_path / "out")
    assert len(written) == 30
    assert files(tmp_path / "out") == files(photos)


def test_a_folder_that_was_cut_short_is_gone_on_with(photos, tmp_path, monkeypatch):
    (photos / "person_1/1.png").write_bytes(b"no image")
    killed(monkeypatch, (prepare_convert, "write_file"), 20, lambda: convert(open_source(photos), tmp_path / "out"))
    written = []
    monkeypatch.setattr(prepare_convert, "write_file", lambda p, data: (written.append(p), write_file(p, data)))
    report = convert(open_source(photos), tmp_path / "out")
    assert len(written) == 9
    assert list(report.dropped) == ["person_1/1.png"]
    assert len(files(tmp_path / "out")) == 29


def test_a_fingerprint_follows_the_files(faces, tmp_path):
    sets = {"rec/train.rec": "rec/train.rec", "set.packed": "set.packed/labels.npy", "list.txt": "list.txt"}
    for path, file in sets.items():
        convert(open_source(faces), tmp_path / path)
        before = open_source(tmp_path / path).fingerprint()
        assert open_source(tmp_path / path).fingerprint() == before
        os.utime(tmp_path / file, ns=(0, 0))
        assert open_source(tmp_path / path).fingerprint() != before


@pytest.mark.parametrize("kind", ["list", "folder", "rec", "packed"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_split_is_whole_or_not_there(photos, csv, tmp_path, monkeypatch, kind, after):
    (photos / "person_1/1.png").write_bytes(b"no image")
    source = open_source(photos, csv("a.csv", 0))
    whole = split(source, tmp_path / "whole", 0.4, 1, kind)
    again = [source, tmp_path / "parts", 0.4, 1, kind, tmp_path / "report.json"]
    killed(monkeypatch, (prepare_convert, "_write"), after, lambda: split(*again))
    assert not (tmp_path / "parts").exists()
    assert not (tmp_path / "report.json").exists()
    report = split(*again)
    assert report.dropped == whole.dropped
    assert report.facts == whole.facts
    assert list(report.dropped) == ["person_1/1.png"]
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert json.loads((tmp_path / "report.json").read_text())["facts"] == report.facts
    with pytest.raises(DataError, match="parts: exists; name another place"):
        split(*again)


@pytest.mark.parametrize("out", ["out", "out.rec", "out.txt", "out.packed"])
def test_the_report_is_there_before_what_it_reports_on(photos, tmp_path, monkeypatch, out):
    (photos / "person_1/1.png").write_bytes(b"no image")
    seen, method = [], "replace" if out in ("out.rec", "out.txt") else "rename"
    appear = getattr(Path, method)

    def look(path, to):
        seen.append((tmp_path / "report.json").exists() and not (tmp_path / out).exists())
        return appear(path, to)

    monkeypatch.setattr(Path, method, look)
    convert(open_source(photos), tmp_path / out, report_file=tmp_path / "report.json")
    assert seen[-1]
    assert list(json.loads((tmp_path / "report.json").read_text())["dropped"]) == ["person_1/1.png"]


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    def write():
        with draft_file(tmp_path / "a") as file, open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), file.fileno())
            file.write(b"x")

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/a'"):
        write()
    assert not list(tmp_path.iterdir())


def test_landmarks_go_through_a_folder_and_a_rec(faces, csv, tmp_path):
    source = open_source(faces, csv("a.csv", 0))
    convert(source, tmp_path / "first.packed")
    for a, b in (("first.packed", "folder"), ("folder", "rec/train.rec"), ("rec", "second.packed")):
        convert(open_source(tmp_path / a), tmp_path / b)
    np.testing.assert_allclose(open_source(tmp_path / "second.packed").landmarks, source.landmarks, rtol=1e-6)
    assert verify(open_source(tmp_path / "folder")).facts["alignment"]["with_landmarks"] == 30
    assert convert(source, tmp_path / "a.txt").facts["landmarks"] == "left out: the format holds none"
    again = open_source(tmp_path / "a.txt", tmp_path / "a.csv")
    assert np.array_equal(again.landmarks, source.landmarks)


def test_landmarks_of_some_are_not_packed_and_the_report_says_so(faces, csv, tmp_path):
    report = convert(open_source(faces, csv("a.csv", 0, NAMES[1:])), tmp_path / "a.packed")
    assert report.facts["landmarks"] == "left out: 1 images have none, person_0/0.png"
    assert Packed(tmp_path / "a.packed").keypoints is None
    assert convert(open_source(faces, csv("a.csv", 0)), tmp_path / "b.packed").facts["landmarks"] == "of all"


def test_what_a_rec_holds_besides_is_said_to_be_left_out(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as out:
        for i in range(3):
            out.write(i, Record.of(png(i), [4, 0.5, 0.25], i))
    source = open_source(tmp_path / "a.rec")
    facts = convert(source, tmp_path / "b.rec").facts
    assert facts["left_out"] == "labels 2 to 3 of each record"
    assert facts["labels"] == "numbered anew, 0..0; they were 4..4"
    facts = convert(source, tmp_path / "c").facts
    assert "labels" not in facts  # they are the folders' names
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["0000004"]
    assert "left_out" not in convert(open_source(tmp_path / "c"), tmp_path / "d.rec").facts


def test_a_list_keeps_the_order_of_its_labels_as_a_folder(tmp_path):
    for label in (0, 1, 2, 10):
        (tmp_path / f"{label}.png").write_bytes(png(label))
    write_list(tmp_path / "a.txt", ["10.png", "2.png", "0.png", "1.png"], [10, 2, 0, 1])
    report = convert(open_source(tmp_path / "a.txt"), tmp_path / "out")
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == ["0000000", "0000001", "0000002", "0000010"]
    again = open_source(tmp_path / "out")
    assert [int(again.image(i)[0, 0, 0]) for i in range(4)] == [0, 1, 2, 10]
    assert "labels" not in report.facts
    write_list(tmp_path / "b.txt", ["x/0.png", "a/0.png"], [0, 1])
    assert open_source(tmp_path / "b.txt").identities == ["0000000", "0000001"]


def test_a_list_of_a_folder_gives_that_folder_again(faces, tmp_path):
    convert(open_source(faces), tmp_path / "a.txt")
    convert(open_source(tmp_path / "a.txt"), tmp_path / "again")
    assert files(tmp_path / "again") == files(faces)


def test_pairs_that_lfws_form_cannot_hold_come_back(tmp_path):
    same = [True, True, False, True, False]
    write_bin(tmp_path / "a.bin", [png(i % 7) for i in range(10)], same)
    report = convert(open_source(tmp_path / "a.bin"), tmp_path / "out")
    assert report.facts["pairs"] == "5 in pairs.txt, in the form of facetx: LFW's cannot hold them"
    convert(open_source(tmp_path / "out"), tmp_path / "b.bin", pairs=tmp_path / "out/pairs.txt")
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
    report = split(open_source(tmp_path / "a.bin"), tmp_path / "parts", 0.5, 1, "folder")
    assert report.facts["pairs"] == "5 left out: neither part has all of their images"
    assert not list((tmp_path / "parts").rglob("pairs.txt"))


def test_five_folds_stay_five(tmp_path):
    """From a list to a .bin, a folder, and both again: one accuracy, over folds that no order foretells."""
    rng = np.random.default_rng(0)
    keys = []
    for who in "abcdef":
        pattern = rng.integers(0, 256, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
        (tmp_path / "images" / who).mkdir(parents=True)
        for i in range(5):
            image = np.clip(pattern + rng.normal(0, 1500, pattern.shape), 0, 255).astype(np.uint8)
            (tmp_path / f"images/{who}/{i}.png").write_bytes(encode_png(image))
            keys.append(f"{who}/{i}")
    drawn = [(a, b) for a in range(30) for b in range(a + 1, 30)]
    same = [p for p in drawn if p[0] // 5 == p[1] // 5][:60]
    other = [drawn[i] for i in rng.permutation(len(drawn)) if drawn[i][0] // 5 != drawn[i][1] // 5][:60]
    pairs = Pairs(
        [keys[a] for a, _ in same + other], [keys[b] for _, b in same + other],
        np.arange(120) < 60, np.arange(120) % 5,
    )  # fmt: skip
    write_key_pairs(tmp_path / "pairs.txt", pairs)

    def accuracy(images, listed):
        result = FaceModel(Blocks(), "cpu").evaluate("lfw", images=str(tmp_path / images), pairs=str(tmp_path / listed))
        return result.accuracy.mean, result.accuracy.std

    before = accuracy("images", "pairs.txt")
    report = convert(open_source(tmp_path / "images"), tmp_path / "a.bin", pairs=tmp_path / "pairs.txt")
    assert report.facts["pairs"] == "120 in 5 folds, which a.pairs.txt keeps: a .bin has none"
    convert(open_source(tmp_path / "a.bin"), tmp_path / "folder")
    assert read_pairs(tmp_path / "folder/pairs.txt").fold.tolist() == pairs.fold.tolist()
    assert accuracy("folder", "folder/pairs.txt") == before
    assert 0.55 < before[0] < 0.95
    convert(open_source(tmp_path / "folder"), tmp_path / "b.bin")
    convert(open_source(tmp_path / "b.bin"), tmp_path / "again")
    assert accuracy("again", "again/pairs.txt") == before

    packed = convert(open_source(tmp_path / "folder"), tmp_path / "a.packed")
    assert packed.facts["pairs"] == "120 left out: the format holds none"
    (tmp_path / "a.pairs.txt").unlink()
    foreign = open_source(tmp_path / "a.bin")
    assert foreign.pairs.fold.tolist() == np.repeat(range(10), 12).tolist()
    report = convert(foreign, tmp_path / "foreign")
    assert report.facts["folds"] == "10 contiguous ones, as InsightFace takes them: none are in the files"


def test_folds_beside_a_bin_are_its_own(tmp_path):
    for name, same in (("a", [True, True, False, False]), ("b", [True, False, True, False])):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / f"{name}/{i}.png").write_bytes(png(i))
        listed = Pairs([f"{name}/0"] * 4, [f"{name}/{i}" for i in range(1, 5)], np.array(same), np.array([0, 1, 0, 1]))
        write_key_pairs(tmp_path / f"{name}/pairs.txt", listed)
        source = open_source(tmp_path)
        assert source.pairs is None
        convert(source, tmp_path / f"{name}.bin", pairs=tmp_path / f"{name}/pairs.txt")
    shutil.copy(tmp_path / "a.pairs.txt", tmp_path / "b.pairs.txt")
    with pytest.raises(DataError, match=r"b.pairs.txt: its 4 pairs are not the 4 of b.bin, whose folds it should hold"):
        open_source(tmp_path / "b.bin")
    (tmp_path / "b.bin").unlink()
    with pytest.raises(DataError, match=r"b.pairs.txt: exists, and is where the folds of b.bin go"):
        convert(source, tmp_path / "b.bin", pairs=tmp_path / "b/pairs.txt")
    (tmp_path / "a.bin").unlink()  # as if its try had been killed
    convert(source, tmp_path / "a.bin", pairs=tmp_path / "a/pairs.txt")
    assert open_source(tmp_path / "a.bin").pairs.fold.tolist() == [0, 1, 0, 1]


def test_a_folder_says_of_its_pairs_where_they_are_none_of_its_images(photos):
    for text, words in (
        ("first\tsecond\tsame\tfold\nperson_0/0\tx/1\t0\t1\n", "names 1 images that are not in the folder: x/1"),
        ("x y\n", "pairs.txt:1: expected"),
    ):
        (photos / "pairs.txt").write_text(text)
        source = open_source(photos)
        assert source.pairs is None
        assert words in source.skipped["pairs.txt"]


def test_a_dropped_image_costs_pairs_only_where_they_name_it(photos, tmp_path):
    pairs = Pairs(["person_0/0"], ["person_0/1"], np.array([True]), np.array([0]))
    write_key_pairs(photos / "pairs.txt", pairs)
    (photos / "person_2/0.png").write_bytes(b"no image")
    assert convert(open_source(photos), tmp_path / "a").facts["pairs"].startswith("1 in pairs.txt")
    (photos / "person_0/1.png").write_bytes(b"no image")
    report = convert(open_source(photos), tmp_path / "b")
    assert report.facts["pairs"] == "left out: 1 images that they name were dropped, person_0/1"


def test_what_another_process_is_writing_is_left_to_it(faces, tmp_path):
    points = np.tile(ARCFACE.astype(np.float32) / 4, (30, 1, 1))
    write_landmarks(tmp_path / "a.csv", NAMES, points)
    source, out = open_source(faces, tmp_path / "a.csv"), tmp_path / "out"
    work = (
        *(lambda kind=kind: convert(source, out, kind) for kind in ("folder", "rec", "packed", "list")),
        lambda: split(source, out, 0.4, 1),
        lambda: align_set(source, out, 32),
    )
    with lock(out):
        for write in work:
            with pytest.raises(DataError, match=f"out: is being written by process {os.getpid()}"):
                write()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv"]


def test_verify_counts_what_a_tag_turns(photos):
    tag = Image.Exif()
    tag[0x0112] = 6
    for i in (1, 3):
        with Image.open(photos / f"person_0/{i}.png") as image:
            image.convert("RGB").save(photos / f"person_0/{i}.jpg", exif=tag)
    tag[0x0112] = 1
    with Image.open(photos / "person_0/4.png") as image:
        image.save(photos / "person_0/5.png", exif=tag)
    assert verify(open_source(photos)).facts["turned"] == {"images": 2, "list": ["person_0/1.jpg", "person_0/3.jpg"]}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 1], "0..1, each used"),
        ([4, 4, 4], "4..4, each used; training numbers them anew, 0..0"),
        ([5, 9, 9], "5..9, 3 numbers between are not used; training numbers them anew, 0..1"),
    ],
)
def test_verify_reports_the_labels_as_they_are_stored(tmp_path, labels, words):
    with RecordWriter(tmp_path / "a.rec") as out:
        for i, label in enumerate(labels):
            out.write(i, Record.of(png(i), label, i))
            (tmp_path / f"{i}.png").write_bytes(png(i))
    write_list(tmp_path / "a.txt", ["0.png", "1.png", "2.png"], labels)
    for name in ("a.rec", "a.txt"):
        assert verify(open_source(tmp_path / name)).facts["labels"] == words


def test_what_is_no_image_of_an_identity_is_named(photos, tmp_path):
    shutil.copy(photos / "person_0/0.png", photos / "root.png")
    (photos / "README").write_text("x")
    (photos / "landmarks.csv").write_text(",".join(COLUMNS))
    Image.new("RGB", (4, 4)).save(photos / "person_0/9.gif")
    (photos / "person_1/deeper").mkdir()
    (photos / "person_9").mkdir()
    for junk in (".ipynb_checkpoints", "@eaDir", "person_1/__MACOSX"):
        shutil.copytree(photos / "person_0", photos / junk)
    source = open_source(photos)
    assert source.skipped == {
        "README": "not a folder of an identity",
        "person_0/9.gif": "not one of .bmp, .jfif, .jpeg, .jpg, .pbm, .pgm, .png, .ppm, .tif, .tiff, .webp",
        "person_1/deeper": "a folder inside an identity's",
        "person_9": "without an image",
        "root.png": "in no identity's folder",
    }
    assert len(source) == 30
    reports = verify(source), convert(source, tmp_path / "a.rec"), split(source, tmp_path / "s", 0.4, 1)
    for report in reports:
        assert report.facts["skipped"] == source.skipped
        assert "person_0/9.gif" in report.text()


def test_images_of_one_fitting_name_are_all_written(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    for i, name in enumerate(["0.bmp", "0.jpg", "0.png", "1.bmp", "1.jpg"]):
        (tmp_path / "in/a" / name).write_bytes(png(i))
    convert(open_source(tmp_path / "in"), tmp_path / "out")
    names = {p.name: int(np.array(Image.open(p))[0, 0, 0]) for p in (tmp_path / "out/a").iterdir()}
    assert names == {"0.bmp": 0, "0.jpg": 1, "0.png": 2, "1.png": 3, "1.jpg": 4}


def test_every_kind_of_image_that_is_read_is_written(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    Image.fromarray(np.zeros((2, 2), ">u2")).save(tmp_path / "in/a/0.tif")
    (tmp_path / "in/a/1.pgm").write_bytes(b"P2 1 1 255 7\n")
    (tmp_path / "in/a/2.png").write_bytes(b"GIF89a")
    report = convert(open_source(tmp_path / "in"), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out/a").iterdir()) == ["0.tif", "1.pgm"]
    assert report.dropped["a/2.png"].startswith(f"{tmp_path}/in/a/2.png: is no image of a known kind")


def test_celeba_with_its_identities_and_landmarks(tmp_path):
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    for i in range(1, 4):
        (root / f"img_align_celeba/{i:06d}.png").write_bytes(png(i))
    (root / "identity_CelebA.txt").write_text("000001.png 2880\n000002.png 17\n000003.png 2880\n")
    (root / "landmarks.txt").write_text(
        "3\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y\n"
        + "".join(f"{i:06d}.png {' '.join(str(i + k) for k in range(10))}\n" for i in range(1, 4))
    )
    source = open_source(root, root / "landmarks.txt")
    assert source.names == ["0002880/000001.png", "0000017/000002.png", "0002880/000003.png"]
    assert source.labels.tolist() == [1, 0, 1]
    assert source.landmarks[2].ravel().tolist() == list(range(3, 13))
    facts = convert(source, tmp_path / "out").facts
    assert facts["left_out"] == "partition, by another file of CelebA"
    again = open_source(tmp_path / "out")
    assert again.landmarks[0].ravel().tolist() == list(range(2, 12))
    (root / "list_attr_celeba.txt").write_text("3\nMale Young\n000003.png 1 -1\n000001.png -1 -1\n000002.png 1 1\n")
    assert "only packed sets hold them: 2" in convert(open_source(root), tmp_path / "again").facts["attributes"]
    for path, name in ((root, "pack"), (tmp_path / "pack", "pack2")):
        assert "attributes" not in convert(open_source(path), tmp_path / name, "packed").facts
        packed = Packed(str(tmp_path / name))
        assert packed.attribute_names == ("Male", "Young")
        assert [packed[i]["attributes"].tolist() for i in range(3)] == [[0, 0], [1, 1], [1, 0]]
    assert open_source(root / "identity_CelebA.txt", root=root / "img_align_celeba").image(0)[0, 0, 0] == 1
    (root / "img_align_celeba").rename(root / "pictures")
    with pytest.raises(
        DataError, match=r"img_align_celeba: no such folder; name the one of CelebA's images \(--root\)"
    ):
        open_source(root)
    assert len(open_source(root, root=root / "pictures")) == 3


def test_shards(tmp_path):
    with tarfile.open(tmp_path / "a-0.tar", "w") as tar:
        for i, who in enumerate(["Bo", "Ann", "Bo"]):
            for suffix, data in (("png", png(i)), ("who", who.encode())):
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    source = open_source(tmp_path / "a-*.tar", label="who")
    assert source.names == ["Bo/00000000.png", "Ann/00000001.png", "Bo/00000002.png"]
    convert(source, tmp_path / "out")
    again = open_source(tmp_path / "out")
    assert [int(again.image(i)[0, 0, 0]) for i in range(3)] == [1, 0, 2]
    before = source.fingerprint()
    os.utime(tmp_path / "a-0.tar", ns=(0, 0))
    assert source.fingerprint() != before
    with pytest.raises(DataError, match="no identity; expected a whole number or a name"):
        open_source(tmp_path / "a-0.tar")


def test_align_is_not_gone_on_with_where_an_image_was_replaced(photos, tmp_path, monkeypatch):
    write_landmarks(tmp_path / "a.csv", NAMES, np.tile(ARCFACE.astype(np.float32) / 4, (30, 1, 1)))
    rows = tmp_path / "a.csv"
    align = lambda: align_set(open_source(photos, rows), tmp_path / "out", 32)  # noqa: E731
    killed(monkeypatch, (prepare_align, "write_file"), 20, align)
    shutil.copy(photos / "person_5/0.png", photos / "person_0/1.png")
    align()
    align_set(open_source(photos, rows), tmp_path / "whole", 32)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("out", ["out", "out.rec", "out.txt"])
def test_what_a_kind_has_no_use_for_is_refused(faces, tmp_path, out):
    with pytest.raises(ConfigError, match=r"only a packed set is resized, .* leave the size \(16\) out"):
        convert(open_source(faces), tmp_path / out, size=16)
    with pytest.raises(ConfigError, match=r"only a \.bin takes a pairs file, .* leave pairs\.txt out"):
        convert(open_source(faces), tmp_path / out, pairs="pairs.txt")
    with pytest.raises(ConfigError, match="only a packed set"):
        convert(open_source(faces), tmp_path / "out.bin", pairs="pairs.txt", size=16)
    assert not list(tmp_path.iterdir())


def test_a_split_reports_the_share_that_was_drawn(faces, csv, tmp_path):
    source = open_source(faces, csv("a.csv", 0, NAMES[1:]))
    report = split(source, tmp_path / "parts", 0.4, 1, "packed", tmp_path / "report.json")
    facts = json.loads((tmp_path / "report.json").read_text())["facts"]
    drawn = facts["val"]["identities"] / 6
    assert drawn != 0.4
    assert facts["val_identities"] == {"asked_for": 0.4, "drawn": pytest.approx(drawn, abs=1e-4)}
    said = [facts[part]["landmarks"] for part in ("train", "val")]
    assert sorted(said) == ["left out: 1 images have none, person_0/0.png", "of all"]
    assert report.facts == facts
    for share in (1.5, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=f"val_identities must be in 0..1, got {share}"):
            split(source, tmp_path / "other", share)


def test_a_list_names_the_files_of_a_source_and_of_a_part_of_it(faces, tmp_path):
    source = open_source(faces)
    assert source.paths == [faces / name for name in NAMES]
    convert(subset(source, [3, 11]), tmp_path / "a.txt")
    again = open_source(tmp_path / "a.txt")
    assert [path.resolve() for path in again.paths] == [faces / NAMES[3], faces / NAMES[11]]
    convert(source, tmp_path / "a.rec")
    assert open_source(tmp_path / "a.rec").paths is None


def test_keypoints_are_shares_of_the_width_and_the_height(tmp_path):
    for name in ("a/0.png", "b/0.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        Image.new("RGB", (40, 20)).save(tmp_path / "photos" / name)
    points = np.tile(np.float32([10, 15]), (2, 5, 1))
    write_landmarks(tmp_path / "a.csv", ["a/0.png", "b/0.png"], points)
    folder = ImageFolder(str(tmp_path / "photos"), landmarks=str(tmp_path / "a.csv"))
    convert(open_source(tmp_path / "photos", tmp_path / "a.csv"), tmp_path / "set", "packed")
    for keypoints in (folder[1]["keypoints"], Packed(tmp_path / "set")[1]["keypoints"]):
        assert keypoints.dtype == np.float32
        assert keypoints.tolist() == [[0.25, 0.75]] * 5
    with pytest.raises(DataError, match="40x20 pixels: not square, and resized to a square it would be squashed"):
        convert(open_source(tmp_path / "photos"), tmp_path / "small", "packed", size=8)


def test_the_terminal_has_one_fact_a_line_and_each_name_once():
    facts = {
        "labels": "none in the files",
        "near": {"threshold": {"cosine": 0.9997, "supported": False}, "images": 2, "list": [["a", "b", 0.9999]]},
        "skipped": {},
        "undecodable": {f"who/{i}.png": f"set/who/{i}.png: no image" for i in range(7)},
        "mean_face": [[21.67, 30.08]],
    }
    report = Report("verify", "set", None, 9, {}, facts, ["the threshold is of no use"])
    assert report.text().splitlines() == [
        "source         set",
        "images         9",
        "labels         none in the files",
        "near",
        "  threshold",
        "    cosine     0.9997",
        "    supported  no",
        "  images       2",
        "skipped        none",
        "undecodable    7",
        *(f"  who/{i}.png: no image" for i in range(5)),
        "  ... and 2 more, all in the report's file",
        "warning: the threshold is of no use",
    ]
    dropped = {"who/0.png": "train.rec, record 7: cut off", "who/1.png": "is the test set's who/1.png", "2": "x " * 500}
    lines = Report("convert", "a.rec", "b", 9, dropped).text().splitlines()
    assert lines[:5] == ["source   a.rec", "images   9", "written  b", "kept     6", "dropped  3"]
    assert lines[5:7] == [f"  {name}: {why}" for name, why in list(dropped.items())[:2]]
    assert max(map(len, lines)) < 220


def test_names_do_not_speak_to_the_terminal(faces, tmp_path):
    names = {"a\x1b[2J": "0.png", os.fsdecode(b"caf\xe9"): "1\r.png", "new\nline": "2.png"}
    for identity, name in names.items():
        (tmp_path / "set" / identity).mkdir(parents=True)
        (tmp_path / "set" / identity / name).write_bytes(b"no image")
    shutil.copytree(faces / "person_0", tmp_path / "set/b")
    source = open_source(tmp_path / "set")
    text = convert(source, tmp_path / os.fsdecode(b"out\xe9")).text()
    assert "a\\x1b[2J/0.png: cannot be read" in text or "a\\x1b[2J/0.png: is no image" in text
    assert "caf\\udce9/1\\r.png" in text
    assert "new\\nline/2.png" in text
    assert "out\\udce9" in text
    assert all(line.isprintable() for line in text.splitlines())
    text.encode()  # nothing in it stops a print


def test_verify_writes_its_report(faces, tmp_path):
    report = verify(open_source(faces), tmp_path / "reports/a.json")
    assert json.loads((tmp_path / "reports/a.json").read_text())["facts"] == report.facts
