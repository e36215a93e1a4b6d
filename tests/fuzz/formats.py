"""The formats that are fuzzed: valid files of each, its reader, and what must hold of all that is read."""

import base64
import io
import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import atheris
import numpy as np

INSTRUMENTED = ["facetx", "tarfile", "PIL", "yaml"]
with atheris.instrument_imports(include=INSTRUMENTED):
    import tarfile

    import yaml
    from PIL import Image

    from facetx.data.formats.arrays import read_npz
    from facetx.data.formats.codec import decode_image, decode_mask, encode_png
    from facetx.data.lists.attributes import read_attribute_csv
    from facetx.data.lists.classes import read_classes
    from facetx.data.lists.ijb import read_media, read_points, read_subjects, read_template_pairs
    from facetx.data.lists.image_lists import read_names
    from facetx.data.lists.landmarks import read_landmarks
    from facetx.data.lists.pairs import find_images, read_pairs
    from facetx.data.lists.protocols import read_agedb, read_calfw, read_cfp, read_sllfw
    from facetx.data.sets.attributes import CelebA
    from facetx.data.sets.bins import BinImages
    from facetx.data.sets.image_list import ImageList
    from facetx.data.sets.packed import Packed, PackWriter
    from facetx.data.sets.parsing import read_mapping, read_stems
    from facetx.data.sets.parsing import read_points as read_lapa
    from facetx.data.sets.records import RecordFaces, read_property, write_faces
    from facetx.data.sets.shards import Shards
    from facetx.errors import DataError


@dataclass(frozen=True)
class Format:
    """One format's valid files and its reader.

    Attributes:
        file: The name of the file that is fuzzed.
        make: Folder -> valid contents of that file. Writes what must lie beside it.
        read: Path of the file -> reads all of it, and asserts on what must hold of everything that is read.
        words: What libFuzzer may put into the inputs.
        mend: (input, a valid file) -> what is read: with checksums that fit, or else nearer to what is valid.
        modules: What its reader lies in, where that imports torch, so that it is imported only for these formats.
    """

    file: str
    make: Callable[[Path], list[bytes]]
    read: Callable[[Path], Any]
    words: tuple[bytes, ...] = (b"\0", b"\xff", b"\n")
    mend: Callable[[bytes, bytes], bytes] = lambda data, valid: data
    modules: tuple[str, ...] = ()


def every_item(data: Any) -> None:
    """Reads a data set, and holds it to what every data set promises."""
    assert len(data) == len(data.labels) > 0
    assert set(data.labels.tolist()) == set(range(data.num_classes))
    for i in range(len(data)):
        assert isinstance(data.encoded(i), bytes)
        assert data.describe(i)


def every_pair(pairs: Any, folder: Path) -> None:
    """Holds pairs to what they promise, and looks for their images."""
    assert len(pairs) == len(pairs.first) == len(pairs.second) == len(pairs.same) == len(pairs.fold) > 0
    assert pairs.fold.min() >= 0
    for places in pairs.indices():
        assert places.max() < len(pairs.images)
    with suppress(DataError):  # none is there
        find_images(folder, pairs.images)


def image_bytes(kind: str, size: int = 8, **options: Any) -> bytes:
    out = io.BytesIO()
    pixels = np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3)
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def make_images(folder: Path) -> list[bytes]:
    kinds = ["PNG", "BMP", "WEBP", "TIFF", "PPM"]
    jpegs = [image_bytes("JPEG"), image_bytes("JPEG", progressive=True)]
    return [*map(image_bytes, kinds), *jpegs, image_bytes("TIFF", compression="tiff_lzw")]


def read_image(path: Path) -> None:
    image = decode_image(path.read_bytes(), str(path))
    assert image.dtype == np.uint8
    assert image.ndim == image.shape[2] == 3
    assert decode_image(path.read_bytes(), str(path), 4).shape == (4, 4, 3)


def make_masks(folder: Path) -> list[bytes]:
    contents = []
    for kind in ("PNG", "BMP", "TIFF"):
        for mode in ("L", "P"):
            out = io.BytesIO()
            image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
            if mode == "P":
                image.putpalette(list(range(192)))
            image.save(out, kind)
            contents.append(out.getvalue())
    return contents


def read_mask(path: Path) -> None:
    mask = decode_mask(path.read_bytes(), str(path))
    assert mask.dtype == np.uint8
    assert mask.ndim == 2


def read_class_file(path: Path) -> None:
    names, colors = read_classes(path)
    assert len(set(names)) == len(names) == len(colors) >= 2


def read_lapa_points(path: Path) -> None:
    points = read_lapa(path)
    assert points.shape == (5, 2)
    assert np.isfinite(points).all()


def make_rec(folder: Path) -> list[bytes]:
    """A face set of three images; with a magic number inside, and with identity ranges."""
    images = [b"image", b"abcd\x0a\x23\xd7\xceefgh", encode_png(np.zeros((2, 2, 3), np.uint8))]
    write_faces(folder / "x.rec", np.array([0, 1, 1]), ["a/0", "b/1", "b/2"], images.__getitem__, (2, 2))
    return [(folder / "x.rec").read_bytes()]


def make_rec_alone(folder: Path) -> list[bytes]:
    [content] = make_rec(folder)
    (folder / "x.idx").unlink()
    return [content, content[:40]]


def make_idx(folder: Path) -> list[bytes]:
    (folder / "x.rec").write_bytes(make_rec(folder)[0])
    return [(folder / "x.idx").read_bytes()]


def make_bin(folder: Path) -> list[bytes]:
    images = [b"\xff\xd8\xff", b"a\n'\\"]
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    contents = [pickle.dumps((kind, [True]), protocol) for kind in (images, arrays) for protocol in range(6)]
    return [*contents, b"((lp0\nS'a\\n\\xff'\np1\naS\"it's\"\np2\na(lp3\nI01\natp4\n."]


def make_packed(file: str) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        shutil.rmtree(folder)
        writer = PackWriter(folder, (2, 3), "fuzz")
        for i in range(3):
            writer.add(f"{i % 2}/{i}", i % 2, np.zeros((2, 3, 3), np.uint8), np.zeros((5, 2), np.float32))
        writer.finish(["a", "b"])
        return [(folder / file).read_bytes()]

    return make


def read_packed(path: Path) -> None:
    data = Packed(path.parent)
    assert len(data.names()) == len(data) == len(data.labels)
    for i in range(len(data)):
        assert data[i]["image"].shape == (*data.image_size, 3)
        assert data[i]["label"] < len(data.identities)
        assert data.describe(i)


def make_celeba(file: str) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        images = folder / "img_align_celeba"
        images.mkdir()
        texts = {
            "list_attr_celeba.txt": "3\nMale Young\n1.png -1  1\n2.png 1 -1\n3.png 1 1\n",
            "identity_CelebA.txt": "1.png 7\n2.png 9\n3.png 7\n",
            "list_eval_partition.txt": "1.png 0\n2.png 1\n3.png 0\n",
        }
        for name, text in texts.items():
            (folder / name).write_text(text)
        for i in range(1, 4):
            (images / f"{i}.png").touch()
        return [texts[file].encode()]

    return make


def read_celeba(path: Path) -> None:
    data = CelebA(str(path.parent), part="train")
    assert data.attributes.shape == (len(data), len(data.attribute_names))
    every_item(data)


def read_attribute_rows(path: Path) -> None:
    table = read_attribute_csv(path)
    assert table.values.shape == (len(table.files), len(table.names))
    assert not np.isinf(table.values).any()


def make_cfp(file: str) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        texts = {f"Pair_list_{k}.txt": f"1 ../Data/Images/1/{k}.jpg\n2 ../Data/Images/2/{k}.jpg\n" for k in "FP"}
        for fold in range(1, 11):
            texts |= {f"Split/FP/{fold:02d}/same.txt": "1,1\n2,2\n", f"Split/FP/{fold:02d}/diff.txt": "1,2\n2,1\n"}
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return [texts[file].encode()]

    return make


def make_tar(folder: Path) -> list[bytes]:
    contents = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
            long = "d" * (60 if kind == tarfile.USTAR_FORMAT else 110)
            for name, data in (("a.png", b"image"), ("a.cls", b"7"), (f"{long}/b.png", b"x"), (f"{long}/b.cls", b"3")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        contents.append(out.getvalue().rstrip(b"\0") + b"\0" * 600)
    return contents


def make_npz(folder: Path) -> list[bytes]:
    np.savez(folder / "x.npz", weight=np.float32([[1, 2], [3, 4]]).T, bias=np.zeros(3), steps=np.int64(7))
    np.savez_compressed(folder / "y.npz", mask=np.array([True, False]))
    return [(folder / name).read_bytes() for name in ("x.npz", "y.npz")]


def read_weights(path: Path) -> None:
    for array in read_npz(path).values():
        assert array.flags.writeable
        assert array.dtype.kind in "biufc"
        array.sum()


def mend_tar(data: bytes, valid: bytes) -> bytes:
    """Each block that may be a header gets its right checksum."""
    out = bytearray(data)
    for at in range(0, len(out) - 511, 512):
        if out[at + 257 : at + 262] == b"ustar":
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


def mend_json(data: bytes, valid: bytes) -> bytes:
    """Text that is no JSON chooses what is put in the place of some values of the valid file."""
    if data.startswith((b"{", b"[")):
        return data
    content, choose = json.loads(valid), atheris.FuzzedDataProvider(data)
    for _ in range(choose.ConsumeIntInRange(1, 3)):
        at, deeper = content, True
        while deeper:
            key = choose.PickValueInList(list(at) if isinstance(at, dict) else list(range(len(at))))
            deeper = isinstance(at[key], dict | list) and len(at[key]) > 0 and choose.ConsumeIntInRange(0, 3) > 0
            if deeper:
                at = at[key]
        value = choose.PickValueInList([*JSON_VALUES, choose.ConsumeInt(9), choose.ConsumeUnicode(8)])
        at[key] = json.loads(json.dumps(value))  # its own
    return json.dumps(content).encode()


def make_result(folder: Path) -> list[bytes]:
    from facetx.benchmarks.results import write_result
    from facetx.evaluators.verification import VerificationResult

    scores, same, fold = np.array([0.9, 0.1, 0.8, 0.2]), np.array([True, False] * 2), np.array([0, 0, 1, 1])
    write_result(folder / "x.json", VerificationResult("x", scores, same, fold, 1.0, True), some_receipt())
    return [(folder / "x.json").read_bytes()]


def some_receipt():
    from facetx.benchmarks.receipts import Receipt

    examples = {str: "x", bool: True, dict[str, Any]: {"size": [8, 8]}, dict[str, str]: {"eer": "x"}}
    return Receipt(**{field.name: examples.get(field.type) for field in fields(Receipt)})


def make_parsed(folder: Path) -> list[bytes]:
    from facetx.benchmarks.results import write_result
    from facetx.evaluators.parsing import ParsingResult
    from facetx.metrics.parsing import count

    mask = np.array([[0, 0, 1], [2, 1, 1]], np.uint8)
    matrix, counts = count(mask, mask[:, ::-1], 3, 1.0)
    colors = ((0, 0, 0), (9, 9, 9), (99, 9, 9))
    parsed = ParsingResult("x", ("background", "skin", "hat"), colors, matrix, counts[None].astype(np.int32), "0" * 64)
    write_result(folder / "x.json", parsed, some_receipt())
    return [(folder / "x.json").read_bytes()]


def read_result(path: Path) -> None:
    from facetx.benchmarks.results import read_result

    result, receipt = read_result(path)
    assert isinstance(result.name, str)
    assert np.isfinite(list(result.summary().values())).all()
    if hasattr(result, "scores"):
        assert result.scores.shape == result.same.shape == result.fold.shape
        assert result.same.astype(int).max() == 1
    else:
        assert result.counts.shape[2] == len(result.classes) == len(result.confusion)
        assert all(isinstance(name, str) for name in result.classes)
        assert len(result.tables()) >= 3
    json.dumps([result.as_dict(), receipt.as_dict()], allow_nan=False)
    assert all(
        isinstance(value, str) for value in (receipt.weights, receipt.images, receipt.protocol, receipt.precision)
    )


def read_groups(path: Path) -> None:
    from facetx.benchmarks.groups import read_groups

    for groups in read_groups(path).values():
        assert all(groups.values())


def read_yaml(path: Path) -> None:
    from facetx.config.yaml_file import read

    _, places = read(path)
    assert all(line > 0 for line in places.values())


def read_settings(path: Path) -> None:
    from facetx.config import check_settings, load_settings, to_yaml

    settings = load_settings(path)
    assert check_settings(yaml.safe_load(to_yaml(settings))) == settings


def text(*contents: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [content.encode() for content in contents]


def lines(path: Path, form: Callable[[Path], tuple[Any, ...]]) -> None:
    """Reads columns, which must be equally long and, where they are numbers, finite."""
    columns = form(path)
    assert len({len(column) for column in columns}) == 1
    assert all(np.isfinite(column).all() for column in columns if isinstance(column, np.ndarray))


CALFW = "".join(f"P{i}_1.jpg {i + 1}\nP{i}_2.jpg {i + 1}\n" for i in range(10))
CALFW += "".join(f"P{i}_1.jpg 0\nQ{i}_1.jpg 0\n" for i in range(10))
POINTS = "1 2 3 4 5 6 7 8 9 10"
HEADER = "image," + ",".join(
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"
)
PICKLE_WORDS = (
    b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n",
    b"cos\nsystem\n(S'touch pwned'\ntR", b"\x8c\x02os\x8c\x06system\x93", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x94", b"\x85", b"\x86", b"\x87", b"]", b"(", b"e", b"a", b"R", b"b", b"h\x00", b"I01\n", b"L9\n", b"\x8a\xff",
)  # fmt: skip
FAR = base64.b64encode(np.array([1e308, -1e308, 5.0, 0.0])).decode()
JSON_VALUES = [
    None, True, False, 0, 1, -1, 0.5, 1e300, float("inf"), float("nan"), 10**30, FAR, "", "AAAA", "x", [], {}, [1],
]  # fmt: skip
JSON_WORDS = (b"null", b"true", b"NaN", b"1e999", b"9" * 20, b"{}", b"[" * 2000, b'"', b"\\ud800")
TEXT_WORDS = (b"\xef\xbb\xbf", b"\0", b"..", b"/", b"\\", b"\t", b"\r", b"\x0c", b"\x85", "²".encode(), b"-1", b"1e999")
YAML_WORDS = (
    b"&a ", b"*a", b"? ", b"- ", b"[", b"{", b"[" * 1500, b"<<: ", b"!!int ", b"!!map ", b"!!timestamp ",
    b"!!python/name:os.system ", b"0x", b'"\\ud800"', b".nan", b"9" * 5000,
)  # fmt: skip
SETTINGS = """name: test
data: {name: image_folder, args: {root: somewhere}, transforms: [flip]}
model: vit_p8s8_tiny
head: cosface
optim: {lr: 1e-3}
train: {steps: 10, batch_size: 4}
"""
MAGIC = b"\x0a\x23\xd7\xce"

LISTS = text("x.txt\t0\nx.txt 5\n", "1\tx.txt\t0\n", "4\t3.0\tx.txt\n")

FORMATS = {
    "rec": Format("x.rec", make_rec_alone, lambda p: every_item(RecordFaces(p)), (MAGIC, MAGIC + b"\0\0\0\x20")),
    "idx": Format("x.idx", make_idx, lambda p: every_item(RecordFaces(p.with_suffix(".rec"))), TEXT_WORDS),
    "rec_idx": Format("x.rec", make_rec, lambda p: every_item(RecordFaces(p)), (MAGIC, b"\0\0\xc0\x3f")),
    "property": Format("property", text("2,112,112\n"), read_property, TEXT_WORDS),
    "lst": Format("x.lst", text("1\ta/b.jpg\t0\n", "0\t3.0\tc/d.jpg\n"), lambda p: read_names(p, 1), TEXT_WORDS),
    "bin": Format("x.bin", make_bin, lambda p: every_item(BinImages(p)), PICKLE_WORDS),
    "image": Format("x.img", make_images, read_image, (b"%!PS-Adobe-3.0 EPSF-3.0\n", b"IHDR", b"IDAT", b"\xff\xc2")),
    "mask": Format("x.png", make_masks, read_mask, (b"IHDR", b"PLTE", b"IDAT")),
    "classes": Format("x.txt", text("background\nskin\n", "a 0 0 0\nb 1 2 255\n"), read_class_file, TEXT_WORDS),
    "lapa_points": Format("x.txt", text("106\n" + "1.5 2\n" * 106), read_lapa_points, (*TEXT_WORDS, b"nan", b"1e999")),
    "celebamask_mapping": Format(
        "x.txt", text("idx orig_idx orig_file\n0 119613 119614.jpg\n1 5 000006.jpg\n"), read_mapping, TEXT_WORDS
    ),
    "helen_list": Format("x.txt", text("1 , 100032540_1\n2 , a\n"), read_stems, TEXT_WORDS),
    "packed_index": Format("index.json", make_packed("index.json"), read_packed, JSON_WORDS, mend_json),
    "packed_names": Format("names.txt", make_packed("names.txt"), read_packed),
    "packed_labels": Format("labels.npy", make_packed("labels.npy"), read_packed),
    "packed_images": Format("images.npy", make_packed("images.npy"), read_packed),
    "packed_keypoints": Format("keypoints.npy", make_packed("keypoints.npy"), read_packed),
    "pairs": Format(
        "x.txt", text("2\t1\nAnn\t1\t2\nBob\t4\tCid\t1\nDan\t1\t2\nFay\t1\tAnn\t1\n", "Ann 1 2\nBob 4 Cid 1\n"),
        lambda p: every_pair(read_pairs(p), p.parent), TEXT_WORDS,
    ),
    "calfw": Format("x.txt", text(CALFW), lambda p: every_pair(read_calfw(p), p.parent), TEXT_WORDS),
    "sllfw": Format(
        "x.txt", text("A/1.jpg\nA/2.jpg\nB/1.jpg\nC/1.jpg\n" * 6), lambda p: every_pair(read_sllfw(p), p.parent),
        TEXT_WORDS,
    ),
    "agedb": Format(
        "x.txt", text("a/1.jpg b/2.jpg 1\nc.jpg\td.jpg\t0\n" * 6), lambda p: every_pair(read_agedb(p), p.parent),
        TEXT_WORDS,
    ),
    "cfp_list": Format(
        "Pair_list_P.txt", make_cfp("Pair_list_P.txt"), lambda p: every_pair(read_cfp(p.parent, "FP"), p.parent),
        TEXT_WORDS,
    ),
    "cfp_split": Format(
        "Split/FP/03/diff.txt", make_cfp("Split/FP/03/diff.txt"),
        lambda p: every_pair(read_cfp(p.parents[3], "FP"), p.parent), TEXT_WORDS,
    ),
    "list": Format("x.txt", LISTS, lambda p: every_item(ImageList(str(p))), TEXT_WORDS),
    "celeba_attributes": Format("list_attr_celeba.txt", make_celeba("list_attr_celeba.txt"), read_celeba, TEXT_WORDS),
    "celeba_identity": Format("identity_CelebA.txt", make_celeba("identity_CelebA.txt"), read_celeba, TEXT_WORDS),
    "celeba_partition": Format(
        "list_eval_partition.txt", make_celeba("list_eval_partition.txt"), read_celeba, TEXT_WORDS
    ),
    "attribute_csv": Format(
        "x.csv", text("image,Male,Young\na/1.jpg,1,-1\n2.jpg,-1,\n", 'image,Male\n"a b.jpg",0\n'),
        read_attribute_rows, (*TEXT_WORDS, b'"', b","),
    ),
    "landmarks": Format(
        "x.csv", text(f"{HEADER}\na/1.jpg,{POINTS.replace(' ', ',')}\n"),
        lambda p: lines(p, lambda q: tuple(np.stack(list(read_landmarks(q).values()) or [np.zeros(1)])[None])),
        (*TEXT_WORDS, b'"', b"\n\n"),
    ),
    "ijb_media": Format(
        "x.txt", text("1.jpg 1 69544\n2.jpg 1 7\n"),
        lambda p: lines(p, lambda q: (lambda m: (m.images, m.templates, m.media))(read_media(q))), TEXT_WORDS,
    ),
    "ijb_points": Format("x.txt", text(f"1.jpg {POINTS} 0.5\n"), lambda p: lines(p, read_points), TEXT_WORDS),
    "ijb_pairs": Format("x.txt", text("1 2 1\n3 4 0\n"), lambda p: lines(p, read_template_pairs), TEXT_WORDS),
    "ijb_subjects": Format(
        "x.csv", text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n9,3,a.png\n2,1,b.png\n"), lambda p: lines(p, read_subjects),
        (*TEXT_WORDS, b'"'),
    ),
    "tar": Format(
        "x.tar", make_tar, lambda p: every_item(Shards(str(p))),
        (b"-1 size=-512\n", b"GNU.sparse.major=1\n", b"GNU.sparse.map=", b"path=", b"\x80", b"\xff" * 12), mend_tar,
    ),
    "npz": Format(
        "x.npz", make_npz, read_weights,
        (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"\x93NUMPY", b"'descr': '|O'", b"(99999999,)", b"True", b"<c16"),
    ),
    "groups": Format(
        "x.csv", text('image,race,sex\nAnn/Ann_0001.jpg,x,f\nBob,y,\n\n"Cid, Jr",x,m\n'), read_groups,
        (*TEXT_WORDS, b'"'), modules=("facetx.benchmarks.groups",),
    ),
    "result": Format(
        "x.json", make_result, read_result, JSON_WORDS, mend_json, ("facetx.benchmarks.results",)
    ),
    "parsed": Format(
        "x.json", make_parsed, read_result, JSON_WORDS, mend_json, ("facetx.benchmarks.results",)
    ),
    "yaml": Format(
        "x.yaml", text("a: 1e-3\nb: [1, {c: ~}]\n'd': |\n  x\n", "- &x 1\n- *x\n- !!str 3\n"), read_yaml, YAML_WORDS,
        modules=("facetx.config",),
    ),
    "settings": Format("x.yaml", text(SETTINGS), read_settings, YAML_WORDS, modules=("facetx.config",)),
}  # fmt: skip
