"""The verification benchmarks of the field: their files, their pairs, where users get them, and published results.

Of those on pairs of images, one of two forms is looked for below a data root: ``<name>.bin`` as InsightFace packs it,
or ``<name>/images`` with the official protocol file beside, or with a ``pairs.txt`` in LFW's format (and
``landmarks.csv`` if there is one); ``cfp/images`` with ``cfp/Protocol`` serves CFP-FF and CFP-FP. Of those on
templates: ``<name>/loose_crop`` and ``<name>/meta``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from facetx.data.lists.pairs import Pairs, read_pairs
from facetx.data.lists.protocols import read_agedb, read_calfw, read_cfp, read_sllfw
from facetx.errors import UnknownNameError, did_you_mean
from facetx.evaluators.builders import bin_pairs, listed_pairs
from facetx.evaluators.templates import TemplateVerification, ijb
from facetx.evaluators.verification import PairVerification
from facetx.tables import Table

INSIGHTFACE = "among the .bin files of InsightFace's training sets"
RELEASE = "with crops, landmarks and lists as InsightFace's IJB release has them"
AUTHORS = "among the .bin files of the Face Transformer's authors"


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: On the command line, and of its files.
        title: In tables.
        pairs: In its official protocol; of images, half of them are of one person.
        asks: What it is hard by.
        protocol: The official file, or folder, that says which images meet.
        read: Its reader; None where templates meet, which has one reader for all of the folder.
        source: Where users get it.
    """

    name: str
    title: str
    pairs: int
    asks: str
    protocol: str
    read: Callable[[Path], Pairs] | None
    source: str


_TABLE = (
    Benchmark(
        name="lfw",
        title="LFW",
        pairs=6000,
        asks="faces in the wild (Huang et al. 2007)",
        protocol="pairs.txt",
        read=read_pairs,
        source=f"project page Labeled Faces in the Wild, vis-www.cs.umass.edu/lfw; {INSIGHTFACE}",
    ),
    Benchmark(
        name="sllfw",
        title="SLLFW",
        pairs=6000,
        asks="different people who look alike (Deng et al. 2017)",
        protocol="pair_SLLFW.txt",
        read=read_sllfw,
        source=f"project page Similar-Looking LFW, whdeng.cn/SLLFW; {AUTHORS}",
    ),
    Benchmark(
        name="calfw",
        title="CALFW",
        pairs=6000,
        asks="one person at two ages (Zheng et al. 2017)",
        protocol="pairs_CALFW.txt",
        read=read_calfw,
        source=f"project page Cross-Age LFW, whdeng.cn/CALFW; {INSIGHTFACE}",
    ),
    Benchmark(
        name="cplfw",
        title="CPLFW",
        pairs=6000,
        asks="one person in two poses (Zheng and Deng 2018)",
        protocol="pairs_CPLFW.txt",
        read=read_calfw,
        source=f"project page Cross-Pose LFW, whdeng.cn/CPLFW; {INSIGHTFACE}",
    ),
    Benchmark(
        name="talfw",
        title="TALFW",
        pairs=6000,
        asks="different people made alike by transferable attacks (Zhong and Deng 2020)",
        protocol="pairs.txt",
        read=read_pairs,
        source=f"project page Transferable Adversarial LFW, whdeng.cn/TALFW; {AUTHORS}",
    ),
    Benchmark(
        name="agedb_30",
        title="AgeDB-30",
        pairs=6000,
        asks="one person thirty years apart (Moschoglou et al. 2017)",
        protocol="agedb_30_pair.txt",
        read=read_agedb,
        source=f"project page AgeDB, ibug.doc.ic.ac.uk/resources/agedb; {INSIGHTFACE}",
    ),
    Benchmark(
        name="cfp_ff",
        title="CFP-FF",
        pairs=7000,
        asks="frontal to frontal (Sengupta et al. 2016)",
        protocol="Protocol",
        read=partial(read_cfp, kind="FF"),
        source=f"project page Celebrities in Frontal-Profile, cfpw.io; {INSIGHTFACE}",
    ),
    Benchmark(
        name="cfp_fp",
        title="CFP-FP",
        pairs=7000,
        asks="frontal to profile (Sengupta et al. 2016)",
        protocol="Protocol",
        read=partial(read_cfp, kind="FP"),
        source=f"project page Celebrities in Frontal-Profile, cfpw.io; {INSIGHTFACE}",
    ),
    Benchmark(
        name="ijbb",
        title="IJB-B",
        pairs=8_010_270,
        asks="templates of stills and video frames (Whitelam et al. 2017)",
        protocol="meta",
        read=None,
        source=f"NIST, on request (Face Challenges); {RELEASE}",
    ),
    Benchmark(
        name="ijbc",
        title="IJB-C",
        pairs=15_658_489,
        asks="templates of stills and video frames (Maze et al. 2018)",
        protocol="meta",
        read=None,
        source=f"NIST, on request (Face Challenges); {RELEASE}",
    ),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _TABLE}

_COLUMNS = ("lfw", "sllfw", "calfw", "cplfw", "talfw", "cfp_fp", "agedb_30")
_ACCURACIES = {
    "ResNet-100, CASIA": (99.55, 98.65, 94.13, 90.93, 53.17, 96.30, 95.50),
    "ViT-P8S8, CASIA": (97.32, 90.78, 86.78, 80.78, 83.05, 86.60, 81.48),
    "ViT-P12S8, CASIA": (97.42, 90.07, 87.35, 81.60, 84.00, 85.56, 81.48),
    "ResNet-100, MS1M": (99.82, 99.67, 96.27, 93.43, 64.88, 96.93, 98.27),
    "ViT-P8S8, MS1M": (99.83, 99.53, 95.92, 92.55, 74.87, 96.19, 97.82),
    "ViT-P10S8, MS1M": (99.77, 99.63, 95.95, 92.93, 72.95, 96.43, 97.83),
    "ViT-P12S8, MS1M": (99.80, 99.55, 96.18, 93.08, 70.13, 96.77, 98.05),
}
_FARS = ("tar@far=1e-4", "tar@far=1e-3", "tar@far=1e-2", "tar@far=1e-1")
_IJBC = {
    "ResNet-100, MS1M": (96.36, 97.36, 98.41, 99.13),
    "ViT-P8S8, MS1M": (95.96, 97.28, 98.22, 98.99),
    "ViT-P10S8, MS1M": (96.06, 97.45, 98.23, 98.96),
    "ViT-P12S8, MS1M": (96.31, 97.49, 98.38, 99.04),
}


def published(benchmark: str) -> dict[str, dict[str, float]]:
    """Model and its training set -> number -> percent, as published (Zhong and Deng, arXiv 2103.14803).

    "accuracy" of pairs of images, "tar@far=1e-4" and so on of IJB-C's templates; empty where nothing is in that paper.
    """
    if benchmark == "ijbc":
        return {model: dict(zip(_FARS, row)) for model, row in _IJBC.items()}
    if benchmark not in _COLUMNS:
        return {}
    place = _COLUMNS.index(benchmark)
    return {model: {"accuracy": row[place]} for model, row in _ACCURACIES.items()}


@dataclass(frozen=True)
class Found:
    """A benchmark whose files are there.

    Attributes:
        benchmark: Which.
        path: Its ``.bin``, or its folder.
        protocol: In the folder, the official file or ``pairs.txt``; None of a ``.bin`` and of templates.
        landmarks: Its file of landmarks, where there is one.
    """

    benchmark: Benchmark
    path: Path
    protocol: Path | None = None
    landmarks: Path | None = None

    def open(self, size: int, flip: bool = True, keypoints: bool = False) -> PairVerification | TemplateVerification:
        """The evaluator.

        Args:
            size: Pixels a side that the model takes; images of another size are resized.
            flip: Sum the embeddings of an image and of its mirror.
            keypoints: Whether the model takes the keypoints of the landmarks too.
        """
        name, official = self.benchmark.name, self.benchmark.read
        if official is None:
            return ijb(str(self.path), "ijbc" if name == "ijbc" else "ijbb", size, flip=flip)
        if self.protocol is None:
            return bin_pairs(str(self.path), size=size, flip=flip, name=name)
        read = read_pairs if self.protocol.name == "pairs.txt" else official
        landmarks = str(self.landmarks) if keypoints and self.landmarks is not None else None
        return listed_pairs(read(self.protocol), str(self.path / "images"), size, landmarks, flip, name)


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises ``UnknownNameError`` with close names."""
    if name not in BENCHMARKS:
        raise UnknownNameError(f"no benchmark is named {name!r}; {did_you_mean(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def find_benchmark(benchmark: Benchmark, root: str | Path) -> Found | None:
    """Its files below a data root, the folder rather than the ``.bin``; None where there are none."""
    folder, packed = Path(root) / benchmark.name, Path(root) / f"{benchmark.name}.bin"
    if benchmark.read is None:
        return Found(benchmark, folder) if (folder / "meta").is_dir() and (folder / "loose_crop").is_dir() else None
    shared = Path(root) / benchmark.name.partition("_")[0]  # CFP's two protocols are on one set of images
    for protocol in (folder / "pairs.txt", folder / benchmark.protocol, shared / benchmark.protocol):
        if protocol.exists() and (protocol.parent / "images").is_dir():
            landmarks = protocol.parent / "landmarks.csv"
            return Found(benchmark, protocol.parent, protocol, landmarks if landmarks.is_file() else None)
    return Found(benchmark, packed) if packed.is_file() else None


def benchmarks_table(benchmarks: Sequence[Benchmark], there: Sequence[Found]) -> Table:
    """Their names, sizes, and where they lie, if they do."""
    paths = {found.benchmark.name: str(found.path) for found in there}
    rows = [(b.name, b.title, f"{b.pairs:,}", b.asks, paths.get(b.name, "not there")) for b in benchmarks]
    return Table(("name", "benchmark", "pairs", "asks", "files"), rows)


def how_to_get(benchmark: Benchmark, root: str | Path) -> str:
    """What was looked for and where users get it, for a benchmark that is missing."""
    folder = Path(root) / benchmark.name
    if benchmark.read is None:
        looked = f"{folder}/loose_crop and {folder}/meta"
    else:
        files = " or ".join(sorted({"pairs.txt", benchmark.protocol}))
        looked = f"{folder}.bin and for {folder}/images with {files} beside it"
        if benchmark.protocol == "Protocol":
            looked += f", or {Path(root)}/cfp likewise"
    return f"{benchmark.title}: not there; looked for {looked}. Get it from: {benchmark.source}"
