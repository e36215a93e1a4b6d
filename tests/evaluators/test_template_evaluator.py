"""An IJB of eight people, from its lists to its numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Blocks
from PIL import Image

from facetx.benchmarks.catalog import BENCHMARKS
from facetx.benchmarks.receipts import make_receipt
from facetx.benchmarks.suite import find_benchmarks, run_benchmark, tables, write_outcome
from facetx.data.align import ARCFACE
from facetx.errors import DataError
from facetx.evaluators.templates import ijb
from facetx.metrics.templates import pool_templates, template_scores
from facetx.plots.page import write_page


@pytest.fixture
def root(tmp_path):
    """Images twice as large as the template and moved; templates 0..7 and 10..17 of people 0..7, of two media each."""
    rng = np.random.default_rng(0)
    (tmp_path / "loose_crop").mkdir()
    (tmp_path / "meta").mkdir()
    media, points = [], []
    for person in range(8):
        pattern = rng.integers(0, 256, (4, 4, 3)).repeat(60, 0).repeat(60, 1)
        for template in (person, 10 + person):
            for medium in (0, 0, 1):
                name = f"{len(media)}.png"
                noisy = np.clip(pattern + rng.normal(0, 30, pattern.shape), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(tmp_path / "loose_crop" / name)
                media.append(f"{name} {template} {medium}")
                points.append(
                    f"{name} " + " ".join(f"{v:.2f}" for v in (2 * ARCFACE + 8).ravel()) + f" {rng.random():.3f}"
                )
    pairs = [f"{a} {10 + b} {int(a == b)}" for a in range(8) for b in range(8)]
    for name, lines in (("face_tid_mid", media), ("name_5pts_score", points), ("template_pair_label", pairs)):
        (tmp_path / f"meta/ijbc_{name}.txt").write_text("\n".join(lines) + "\n")
    for name, templates in (("probe_mixed", range(10, 18)), ("gallery_G1", range(4)), ("gallery_G2", range(4, 8))):
        rows = ["TEMPLATE_ID,SUBJECT_ID", *(f"{t},{t % 10}" for t in templates)]
        (tmp_path / f"meta/ijbc_1N_{name}.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_from_lists_to_numbers(root):
    task = ijb(str(root), size=32)
    result = task.result(Blocks())
    assert result.flags == "N1D1F1"
    assert (result.images, result.templates, result.pairs) == (48, 16, 64)
    assert result.summary()["tar@far=1e-1"] == 1
    assert result.summary()["rank1"] == 1
    assert result.search.strangers == [4, 4]
    plain = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert [t["supported"] for t in plain["tar_at_far"]] == [False] * 6
    table = result.table()
    assert table.head[0] == "ijbc, N1D1F1"
    marked = [name for name, cell in table.rows if cell.endswith("; too few pairs for this FAR")]
    assert marked == [f"tar@far=1e-{k}" for k in range(1, 7)]  # of 56 different pairs
    assert ijb(str(root), size=32, norm=False, detector=False, flip=False).result(Blocks()).flags == "N0D0F0"


def test_scores_are_of_the_aligned_images(root):
    task = ijb(str(root), size=32, flip=False)
    item = task.dataset[0]
    assert item["image"].shape == (32, 32, 3)
    np.testing.assert_allclose(item["keypoints"], ARCFACE / 112, atol=1e-3)
    x = np.stack([task.dataset[i]["image"] for i in range(48)]).astype(np.float32)
    x = (x.reshape(48, 4, 8, 4, 8, 3).mean((2, 4)) - 127.5) / 127.5  # N 4 8 4 8 3 -> N 4 4 3
    pooled = pool_templates(x.reshape(48, 48), task.templates, task.media, task.detector_scores)
    scores = template_scores(pooled, *task.pairs[:2])
    same = task.pairs[2]
    threshold = np.sort(scores[~same])[::-1][5]  # FAR 0.1 of 56 different pairs: 5 above
    assert task.result(Blocks()).summary()["tar@far=1e-1"] == np.mean(scores[same] > threshold)


def test_lists_that_do_not_fit_are_named(root):
    (root / "meta/ijbc_1N_probe_mixed.csv").write_text("T,S\n99,1\n")
    with pytest.raises(DataError, match="ijbc: no image belongs to 1 templates, the first of them 99"):
        ijb(str(root), size=32).result(Blocks())
    lines = (root / "meta/ijbc_face_tid_mid.txt").read_text().splitlines()
    (root / "meta/ijbc_face_tid_mid.txt").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="list different images"):
        ijb(str(root), size=32)


def test_it_is_a_benchmark_among_the_others(root, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all/ijbc").symlink_to(root)
    (found,), _ = find_benchmarks(list(BENCHMARKS.values()), tmp_path / "all")
    outcome = run_benchmark(Blocks(), found, seed=5)
    assert outcome.warnings[-1] == "pairs: 64 of the protocol's 15658489; not comparable with published results"
    own, beside = tables([outcome], "mine")
    assert own == outcome.result.table()
    assert beside.head[1] == "IJB-C tar@far=1e-4"
    assert beside.rows[0][1] == f"{100 * outcome.result.summary()['tar@far=1e-4']:.2f} (too few pairs)"
    assert "96.06" in [row[1] for row in beside.rows]
    write_outcome(tmp_path / "ijbc.json", outcome, {"step": 3})
    written = json.loads((tmp_path / "ijbc.json").read_text())
    assert written["summary"] == outcome.result.summary()
    assert written["receipt"] == outcome.receipt.as_dict()
    write_page(tmp_path / "page.html", "mine", {}, [outcome])
    page = (tmp_path / "page.html").read_text()
    assert "<h2>IJB-C</h2>" in page
    assert page.count("data:image/png") == 1


def test_its_receipt_tells_lists_and_flags_apart(root):
    task = ijb(str(root), size=32)
    base = make_receipt(task, Blocks())
    assert base.norm == "N1D1"
    assert make_receipt(ijb(str(root), size=32), Blocks()) == base
    assert make_receipt(ijb(str(root), size=32, norm=False), Blocks()) == replace(base, norm="N0D1")
    task.media = task.media + (task.templates == 3)
    assert make_receipt(task, Blocks()) == replace(base, protocol=make_receipt(task, Blocks()).protocol)
    assert make_receipt(task, Blocks()).protocol != base.protocol


def test_constant_embeddings_find_nobody(root):
    class Constant(Blocks):
        def forward(self, images):
            return torch.full((len(images), 48), 0.1) * (1 + 1e-7 * torch.rand(len(images), 48))

    found = ijb(str(root), size=32).result(Constant()).summary()
    assert [found[n] for n in ("tar@far=1e-1", "tar@far=1e-3", "rank1", "tpir@fpir=0.1")] == [0] * 4
