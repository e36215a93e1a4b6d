"""prepare_data.py: what goes in comes out again, what is dropped is named, and outputs are whole or not there."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facetx.config.load import check_settings
from facetx.data import DATASETS
from facetx.data.align import ARCFACE
from facetx.data.formats.codec import encode_png
from facetx.data.lists.landmarks import COLUMNS, read_landmarks
from facetx.data.lists.pairs import Pairs, read_pairs, write_pairs
from facetx.data.sets.folder import ImageFolder
from facetx.data.sets.packed import Packed
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import DataError
from facetx.prepare import convert as prepare_convert
from facetx.prepare.align import align_set
from facetx.prepare.convert import convert, split
from facetx.prepare.outliers import Bounds
from facetx.prepare.sources import open_source
from facetx.prepare.verify import near_duplicates, verify
from facetx.training.run import start_run

ROOT = Path(__file__).parents[2]


def script(*args):
    command = [sys.executable, str(ROOT / "scripts/prepare_data.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def lfw(faces, tmp_path):
    """``faces`` under LFW's names, with pairs.txt."""
    images = tmp_path / "lfw"
    for folder in sorted(faces.iterdir()):
        (images / folder.name).mkdir(parents=True)
        for i, file in enumerate(sorted(folder.iterdir()), start=1):
            (images / folder.name / f"{folder.name}_{i:04d}.png").write_bytes(file.read_bytes())
    keys = [[f"person_{p}/person_{p}_{i:04d}" for i in range(1, 6)] for p in range(6)]
    first, second = [], []
    for fold in range(2):
        a, b, c = keys[3 * fold : 3 * fold + 3]
        first += [a[0], b[0], c[0], a[1], b[1], c[1]]
        second += [a[2], b[2], c[2], b[3], c[3], a[3]]
    same = np.tile([True] * 3 + [False] * 3, 2)
    write_pairs(tmp_path / "pairs.txt", Pairs(first, second, same, np.repeat([0, 1], 6)))
    return images


@pytest.fixture
def csv_of_faces(tmp_path):
    rows = [f"person_{p}/{i}.png,{','.join(map(str, ARCFACE.ravel() / 4))}" for p in range(6) for i in range(5)]
    (tmp_path / "faces.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    return tmp_path / "faces.csv"


def test_folder_to_rec_to_folder_is_lossless(faces, tmp_path):
    done = script("convert", faces, tmp_path / "rec/train.rec")
    assert done.returncode == 0, done.stderr
    assert "kept     30" in done.stdout
    assert {p.name for p in (tmp_path / "rec").iterdir()} == {
        *("train.rec", "train.idx", "train.lst", "property", "train.rec.report.json")
    }
    assert (tmp_path / "rec/property").read_text() == "6,32,32\n"
    convert(open_source(tmp_path / "rec"), tmp_path / "again")
    assert files(tmp_path / "again") == files(faces)


def test_rec_without_lst_keeps_every_byte(faces, tmp_path):
    convert(open_source(faces), tmp_path / "a.rec")
    (tmp_path / "a.lst").unlink()
    convert(open_source(tmp_path / "a.rec"), tmp_path / "again")
    found = files(tmp_path / "again")
    assert list(found.values()) == list(files(faces).values())
    assert list(found)[:2] == ["0000000/00000001.png", "0000000/00000002.png"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.png", "a/../../up.png", "x/..", "person_0\0/0.png"])
def test_names_of_a_foreign_list_lead_nowhere(faces, tmp_path, name):
    convert(open_source(faces), tmp_path / "a.rec")
    lines = (tmp_path / "a.lst").read_text().splitlines()
    lines[0] = f"1\t{name}\t0"
    (tmp_path / "a.lst").write_text("\n".join(lines))
    assert open_source(tmp_path / "a.rec").names[0] == "0000000/00000001.png"


def test_bin_and_back(lfw, tmp_path):
    report = convert(open_source(lfw), tmp_path / "lfw.bin", pairs=tmp_path / "pairs.txt")
    assert report.facts["to"] == "bin"
    convert(open_source(tmp_path / "lfw.bin"), tmp_path / "again")
    pairs, again = read_pairs(tmp_path / "pairs.txt"), read_pairs(tmp_path / "again/pairs.txt")
    assert again.same.tolist() == pairs.same.tolist()
    assert again.fold.tolist() == pairs.fold.tolist()
    for key, other in zip(pairs.first + pairs.second, again.first + again.second):
        assert (lfw / f"{key}.png").read_bytes() == (tmp_path / f"again/{other}.png").read_bytes()
    convert(open_source(tmp_path / "again"), tmp_path / "second.bin", pairs=tmp_path / "again/pairs.txt")
    assert (tmp_path / "second.bin").read_bytes() == (tmp_path / "lfw.bin").read_bytes()


def test_bin_needs_its_pairs_and_every_image(lfw, tmp_path):
    with pytest.raises(DataError, match="a .bin holds pairs; name the pairs file"):
        convert(open_source(lfw), tmp_path / "lfw.bin")
    image = lfw / "person_1/person_1_0001.png"
    image.write_bytes(image.read_bytes()[:50])
    with pytest.raises(DataError, match=r"person_1_0001.png: cannot be read as an image"):
        convert(open_source(lfw), tmp_path / "lfw.bin", pairs=tmp_path / "pairs.txt")
    image.unlink()
    with pytest.raises(DataError, match=r"has no image person_1/person_1_0001 \(1 of 24 are missing\)"):
        convert(open_source(lfw), tmp_path / "lfw.bin", pairs=tmp_path / "pairs.txt")
    assert not list(tmp_path.glob("lfw.bin*"))


def test_packed_and_back(faces, tmp_path):
    done = script("pack", faces, tmp_path / "set")
    assert done.returncode == 0, done.stderr
    data, folder = Packed(tmp_path / "set"), ImageFolder(str(faces))
    assert all(np.array_equal(data[i]["image"], folder[i]["image"]) for i in range(30))
    assert data.labels.tolist() == folder.labels.tolist()
    convert(open_source(tmp_path / "set"), tmp_path / "b.rec")
    convert(open_source(tmp_path / "b.rec"), tmp_path / "again")
    again = ImageFolder(str(tmp_path / "again"))
    assert [p.name for p in again.paths] == [p.name for p in folder.paths]
    assert all(np.array_equal(again[i]["image"], folder[i]["image"]) for i in range(30))


def test_two_packs_on_one_target_leave_one_whole_pack(faces, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/prepare_data.py"), "pack", faces, tmp_path / "set"]
    both = [subprocess.Popen([str(c) for c in command], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted((process.wait(120), process.stderr.read()) for process in both)
    assert [code for code, _ in said] == [0, 2]
    assert "set: is being written by process" in said[1][1] or "set: exists" in said[1][1]
    data, folder = Packed(tmp_path / "set"), ImageFolder(str(faces))
    assert all(np.array_equal(data[i]["image"], folder[i]["image"]) for i in range(30))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "set.report.json"]


def test_keypoints_are_packed(faces, tmp_path):
    rows = [f"person_{p}/{i}.png,{','.join(str(p + i + k) for k in range(10))}" for p in range(6) for i in range(5)]
    (tmp_path / "points.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    convert(open_source(faces, tmp_path / "points.csv"), tmp_path / "set", "packed", size=16)
    data = DATASETS["packed"](path=str(tmp_path / "set"))
    np.testing.assert_allclose(data[7]["keypoints"].ravel() * 32, np.arange(3, 13), rtol=1e-6)
    assert data[7]["image"].shape == (16, 16, 3)
    np.testing.assert_allclose(open_source(tmp_path / "set").landmarks[7].ravel() * 2, np.arange(3, 13), rtol=1e-6)


@pytest.fixture
def flawed(faces, tmp_path):
    """``faces`` with a damaged image, one of another size, an exact double at another person, and a near double."""
    root = tmp_path / "flawed"
    for name, data in files(faces).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "person_0/0.png").write_bytes(b"no image")
    Image.new("RGB", (8, 9)).save(root / "person_1/1.png")
    (root / "person_2/9.png").write_bytes((root / "person_3/0.png").read_bytes())
    with Image.open(root / "person_4/2.png") as image:
        image.save(root / "person_4/8.bmp")
    (root / "person_6").mkdir()
    (root / "person_6/0.png").write_bytes(b"no image either")
    return root


def test_verify_finds_the_flaws(flawed, tmp_path):
    done = script("verify", flawed, "--report", tmp_path / "report.json")
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    facts = report["facts"]
    assert report["images"] == 33
    assert facts["identities"] == 7
    assert list(facts["undecodable"]) == ["person_0/0.png", "person_6/0.png"]
    assert facts["sizes"] == {"32x32": 30, "8x9": 1}
    assert facts["duplicates"]["images"] == [["person_2/9.png", "person_3/0.png"]]
    assert facts["duplicates"]["across_identities"] == 1
    assert ["person_4/2.png", "person_4/8.bmp"] in facts["near_duplicates"]["images"]
    assert facts["images_per_identity"] == {
        "smallest": 1,
        "median": 5.0,
        "largest": 6,
        "identities_with": {"1 image": 1, "5-9 images": 6},
    }
    assert "undecodable" in done.stdout


def test_what_is_dropped_is_named(flawed, tmp_path):
    report = convert(open_source(flawed), tmp_path / "a.rec")
    assert list(report.dropped) == ["person_0/0.png", "person_6/0.png"]
    data = DATASETS["recordio"](path=str(tmp_path / "a.rec"))
    assert (len(data), data.num_classes) == (31, 6)
    packed = convert(open_source(flawed), tmp_path / "set", "packed")
    assert packed.dropped["person_1/1.png"] == "8x9 pixels, the first image has 32x32"
    assert len(packed.dropped) == 3
    assert len(Packed(tmp_path / "set")) == 30
    assert "dropped  3" in packed.text()


def test_near_duplicates_are_all_pairs_within_the_bits():
    rng = np.random.default_rng(0)
    hashes = rng.random((1500, 64)) < 0.5
    hashes[1200] = hashes[3]
    hashes[1200, :4] ^= True
    hashes[1400] = hashes[1201]
    assert near_duplicates(hashes, bits=4) == [(3, 1200), (1201, 1400)]
    assert near_duplicates(hashes, bits=3) == [(1201, 1400)]


def test_align_and_its_statistics(tmp_path):
    points = np.round(ARCFACE * 1.5 + [10, 20], 1)
    rng = np.random.default_rng(0)
    rows = [",".join(COLUMNS)]
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(encode_png(rng.integers(0, 256, (200, 200, 3), np.uint8)))
        if name != "a/1.png":
            rows.append(f"{name},{','.join(map(str, points.ravel()))}")
    (tmp_path / "points.csv").write_text("\n".join(rows))
    out = tmp_path / "aligned"
    done = script("align", tmp_path / "photos", out, "--landmarks", tmp_path / "points.csv")
    assert done.returncode == 0, done.stderr
    assert "dropped          1\n  a/1.png: no landmarks\n" in done.stdout
    facts = json.loads((tmp_path / "aligned.report.json").read_text())["facts"]["alignment"]
    assert facts["distance_max"] < 0.05
    assert sorted(files(out)) == ["a/0.png", "b/0.png", "landmarks.csv"]
    aligned = verify(open_source(out, out / "landmarks.csv"))
    assert aligned.facts["alignment"]["with_landmarks"] == 2
    assert aligned.facts["sizes"] == {"112x112": 2}
    before = verify(open_source(tmp_path / "photos", tmp_path / "points.csv")).facts["alignment"]
    assert before["distance_mean"] > 5
    with pytest.raises(DataError, match="landmarks are needed"):
        align_set(open_source(tmp_path / "photos"), tmp_path / "other")


def test_align_keeps_names_with_commas(tmp_path):
    points = np.round(ARCFACE, 1)
    (tmp_path / "photos/Lee, Ann").mkdir(parents=True)
    (tmp_path / "photos/Lee, Ann/0.png").write_bytes(encode_png(np.zeros((112, 112, 3), np.uint8)))
    (tmp_path / "points.csv").write_text(
        f'{",".join(COLUMNS)}\n"Lee, Ann/0.png",{",".join(map(str, points.ravel()))}\n'
    )
    align_set(open_source(tmp_path / "photos", tmp_path / "points.csv"), tmp_path / "out")
    assert list(read_landmarks(tmp_path / "out/landmarks.csv")) == ["Lee, Ann/0.png"]


def test_align_by_other_landmarks_starts_anew(faces, tmp_path):
    """What an earlier run left for one file of landmarks is not mixed with what another file gives."""
    for name, shift in (("a", 0), ("b", 1)):
        rows = [f"person_0/{i}.png,{','.join(map(str, ARCFACE.ravel() / 4 + shift))}" for i in range(5)]
        (tmp_path / f"{name}.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    a, b = (open_source(faces, tmp_path / f"{name}.csv") for name in "ab")
    align_set(a, tmp_path / "out", 32)
    align_set(b, tmp_path / "expected", 32)
    (tmp_path / "out").rename(tmp_path / "out.part")
    (tmp_path / "out.part/.source").write_text(f"{a.fingerprint()} 32 None landmarks {Bounds()}")
    align_set(b, tmp_path / "out", 32)
    assert files(tmp_path / "out") == files(tmp_path / "expected")


def test_align_by_the_detector(tmp_path):
    face = SyntheticFaces(1, 1)[0]["image"]
    for name, image in (("a/0", np.pad(face, ((60, 20), (40, 90), (0, 0)))), ("a/1", np.zeros((90, 90, 3), np.uint8))):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"photos/{name}.png").write_bytes(encode_png(image))
    done = script("align", tmp_path / "photos", tmp_path / "out", "--detector", "mtcnn", "--min-probability", 0.8)
    assert done.returncode == 0, done.stderr
    assert "\n  a/1.png: no face found\n" in done.stdout
    facts = json.loads((tmp_path / "out.report.json").read_text())["facts"]
    assert facts["detector"].endswith("probability >= 0.8")
    assert facts["alignment"]["distance_mean"] < 5
    assert sorted(files(tmp_path / "out")) == ["a/0.png", "landmarks.csv"]
    for options, words in (
        ((), "one of the arguments --landmarks --detector is required"),
        (("--detector", "mtcnn", "--landmarks", "p.csv"), "not allowed with argument"),
        (("--landmarks", tmp_path / "out/landmarks.csv", "--min-probability", 0.5), "it goes with --detector"),
    ):
        done = script("align", tmp_path / "photos", tmp_path / "other", *options)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_overlap_of_a_training_and_a_test_set(small, faces, tmp_path):
    start_run(check_settings({**small, "evaluators": [], "select": None}), tmp_path / "run")
    for person in (1, 2, 9):
        shutil.copytree(faces / f"person_{person % 6}", tmp_path / f"test/known_{person}")
    command = ("overlap", faces, tmp_path / "test", "--checkpoint", tmp_path / "run", "--workers", 0)
    done = script(*command, "--out", tmp_path / "clean.txt", "--cache", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert "same people" in done.stdout
    report = json.loads((tmp_path / "clean.txt.report.json").read_text())
    assert report["facts"]["identical_images"]["images"] == 15
    assert report["facts"]["same_people"]["threshold"]["impostor_comparisons"] == 30
    assert {name.split("/")[0] for name in report["dropped"]} >= {"person_1", "person_2", "person_3"}
    assert len(open_source(tmp_path / "clean.txt")) == 30 - len(report["dropped"])
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2
    (tmp_path / "list.txt").write_text("known_1/0.png 5\nknown_2/0.png 9\n")
    done = script(*command[:2], tmp_path / "list.txt", *command[3:], "--test-root", tmp_path / "test")
    assert done.returncode == 0, done.stderr
    assert "\ntest images               2\n" in done.stdout
    assert done.stdout.endswith("report: none; --report FILE keeps the names of all\n")
    assert "\nwarning: same people: the threshold rests on 30 impostor comparisons" in done.stdout


def test_align_goes_on_where_it_was_cut_short(faces, csv_of_faces, tmp_path, monkeypatch):
    source = open_source(faces, csv_of_faces)
    align_set(source, tmp_path / "whole", 32)

    def stops(path, data, write=prepare_convert.write_file):
        if path.parent.name == "person_3":
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("facetx.prepare.align.write_file", stops)
        with pytest.raises(KeyboardInterrupt):
            align_set(source, tmp_path / "cut", 32)
    assert not (tmp_path / "cut").exists()
    done = len(list((tmp_path / "cut.part").rglob("*.png")))
    assert done == 15
    written = []
    monkeypatch.setattr(
        "facetx.prepare.align.write_file", lambda path, data: written.append(path) or path.write_bytes(data)
    )
    align_set(source, tmp_path / "cut", 32)
    assert len(written) == 15
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["list", "folder", "rec", "packed"])
def test_split_shares_no_identity_and_is_that_of_image_folder(faces, tmp_path, kind):
    split(open_source(faces), tmp_path / "parts", 0.4, seed=1, kind=kind)
    suffix = {"list": ".txt", "rec": "/train.rec"}.get(kind, "")
    for part in ("train", "val"):
        expected = ImageFolder(str(faces), part, 0.4, seed=1)
        found = open_source(f"{tmp_path}/parts/{part}{suffix}")
        assert found.labels.tolist() == expected.labels.tolist()
        assert all(np.array_equal(found.image(i), expected[i]["image"]) for i in range(len(expected)))


def test_mistakes_are_named_without_a_traceback(faces, tmp_path):
    for args, words in (
        (
            ("verify", tmp_path / "nothing"),
            "nothing is there; expected a folder, a .rec, a .bin, a .tar or a list file",
        ),
        (("convert", faces, faces), "exists; name another place"),
        (("split", faces, tmp_path / "s", "--val-identities", "0"), "one part of the 6 identities is empty"),
        (("split", faces, tmp_path / "s", "--val-identities", "1.5"), "val_identities must be in 0..1, got 1.5"),
        (("convert", faces, tmp_path / "c", "--size", "16"), "only a packed set is resized"),
        (("convert", faces, tmp_path / "c.rec", "--pairs", "pairs.txt"), "only a .bin takes a pairs file"),
        (("pack", faces, tmp_path / "p", "--size", "0"), "--size: expected a whole number from 1 to 4096, got '0'"),
        (("pack", faces, tmp_path / "p", "--size", "-3"), "--size: expected a whole number from 1 to 4096, got '-3'"),
        (("align", faces, "a", "--landmarks", "x", "--size", "0"), "--size: expected a whole number from 1 to 4096"),
        (("align", faces, "a", "--landmarks", "x", "--jpeg-quality", "900"), "expected a whole number from 1 to 100"),
    ):
        done = script(*args)
        assert done.returncode == 2
        assert "error: " in done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    (tmp_path / "evil.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path).encode() + b"/pwned'\ntR.")
    done = script("convert", tmp_path / "evil.bin", tmp_path / "out")
    assert done.returncode == 2
    assert "names os.system, which such a file has no use for" in done.stderr
    assert not (tmp_path / "pwned").exists()


def test_lists_and_shards_take_where_their_images_and_identities_are(faces, tmp_path):
    (tmp_path / "list.txt").write_text("person_0/0.png 5\nperson_1/0.png 9\n")
    done = script("verify", tmp_path / "list.txt", "--root", faces)
    assert done.returncode == 0, done.stderr
    assert "5..9, 3 numbers between are not used" in done.stdout
    assert script("verify", tmp_path / "list.txt").returncode == 1  # neither image is there
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(faces / "person_0/0.png", "0.png")
        tar.add(tmp_path / "list.txt", "0.who")
    done = script("verify", tmp_path / "a.tar", "--label", "txt")
    assert done.returncode == 2
    assert "a.tar, 0: no identity; expected a whole number or a name in .txt" in done.stderr


def test_a_report_comes_with_every_command(faces, csv_of_faces, tmp_path):
    options = {"convert": (), "pack": (), "split": ("--seed", 1), "align": ("--landmarks", csv_of_faces)}
    for command in options:
        out, report = tmp_path / command, tmp_path / f"reports/{command}.json"
        done = script(command, faces, out, *options[command], "--report", report)
        assert done.returncode == 0, done.stderr
        assert json.loads(report.read_text())["out"] == str(out)
        assert out.exists()
        assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("verify", "where to write the report (default: none)"),
        ("overlap", "where to write the report (default: OUT.report.json with --out, else none)"),
        ("split", "each is drawn by its name, so of a few it is rarely this share"),
    ],
)
def test_the_help_says_what_there_is(command, words):
    assert words in " ".join(script(command, "--help").stdout.split())
