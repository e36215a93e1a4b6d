"""The table of benchmarks, results by group, and one model on what is there."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from conftest import Blocks
from PIL import Image

from facetx.benchmarks.catalog import BENCHMARKS, find_benchmark, get_benchmark, how_to_get, published
from facetx.benchmarks.groups import groups_table, read_groups, results_by_group
from facetx.benchmarks.paired import compare_results
from facetx.benchmarks.results import read_result
from facetx.benchmarks.suite import find_benchmarks, published_table, run_benchmark, summary_table, write_outcome
from facetx.data.lists.pairs import Pairs, read_pairs, write_pairs
from facetx.data.sets.bins import write_bin
from facetx.errors import DataError, UnknownNameError
from facetx.evaluators.sampling import sample_pairs
from facetx.plots.page import hardest_pairs, write_page, write_results
from facetx.plots.pictures import write_pictures


@pytest.fixture
def root(faces, tmp_path):
    """A data root with "lfw" as a folder and "calfw" as a .bin: the same 40 pairs of 32x32 images in 10 folds."""
    labels = np.repeat(np.arange(6), 5)
    sampled = sample_pairs(labels, folds=2, pairs_per_fold=10)
    order = np.concatenate([[2 * f, 2 * f + 1, 10 + 2 * f, 11 + 2 * f] for f in range(5)])
    order = np.concatenate([order, 20 + order])  # 10 folds of 2 + 2, from 2 of 10 + 10
    folders = sorted(p for p in faces.iterdir())
    key = [f"{folders[i].name}/{folders[i].name}_{j + 1:04d}" for i in range(6) for j in range(5)]
    data = tmp_path / "data"
    for i, name in enumerate(key):
        file = data / "lfw/images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.open(folders[i // 5] / f"{i % 5}.png").save(file)
    first, second = sampled.first[order], sampled.second[order]
    same = sampled.same[order]
    pairs = Pairs([key[i] for i in first], [key[i] for i in second], same, np.repeat(np.arange(10), 4))
    write_pairs(data / "lfw/pairs.txt", pairs)
    encoded = [(data / "lfw/images" / f"{key[i]}.png").read_bytes() for i in np.stack([first, second], 1).ravel()]
    write_bin(data / "calfw.bin", encoded, same)
    return data


def test_the_table_is_the_fields():
    pairs = ["lfw", "sllfw", "calfw", "cplfw", "talfw", "agedb_30", "cfp_ff", "cfp_fp"]
    assert list(BENCHMARKS) == [*pairs, "ijbb", "ijbc"]
    assert {b.name for b in BENCHMARKS.values() if b.pairs == 7000} == {"cfp_ff", "cfp_fp"}
    assert published("agedb_30")["ViT-P12S8, MS1M"] == {"accuracy": 98.05}
    assert published("ijbc")["ViT-P8S8, MS1M"]["tar@far=1e-4"] == 95.96
    assert [len(published(name)) for name in BENCHMARKS] == [7, 7, 7, 7, 7, 7, 0, 7, 0, 4]
    assert all(50 < v < 100 for n in BENCHMARKS for row in published(n).values() for v in row.values())
    with pytest.raises(UnknownNameError, match="did you mean 'cfp_fp'"):
        get_benchmark("cfpfp")


def test_what_is_there_is_found_and_the_rest_explained(root, tmp_path):
    there, absent = find_benchmarks(list(BENCHMARKS.values()), root)
    assert [(f.benchmark.name, f.path.name) for f in there] == [("lfw", "lfw"), ("calfw", "calfw.bin")]
    assert len(absent) == 8
    told = how_to_get(BENCHMARKS["cfp_fp"], root)
    assert f"{root / 'cfp_fp'}.bin" in told
    assert "cfpw.io" in told
    assert "Protocol or pairs.txt" in told
    assert f"looked for {root / 'ijbc'}/loose_crop and {root / 'ijbc'}/meta" in how_to_get(BENCHMARKS["ijbc"], root)
    assert find_benchmark(BENCHMARKS["lfw"], tmp_path) is None


def test_the_official_protocol_file_serves_as_well(root):
    listed = read_pairs(root / "lfw/pairs.txt")
    (root / "lfw").rename(root / "agedb_30")
    (root / "agedb_30/pairs.txt").unlink()
    lines = [f"{a}.png {b}.png {int(s)}" for a, b, s in zip(listed.first, listed.second, listed.same)]
    (root / "agedb_30/agedb_30_pair.txt").write_text("\n".join(lines) + "\n")
    found = find_benchmark(BENCHMARKS["agedb_30"], root)
    assert found.protocol.name == "agedb_30_pair.txt"
    evaluator = found.open(size=16)
    assert (len(evaluator.same), len(np.unique(evaluator.fold))) == (40, 10)
    np.testing.assert_array_equal(evaluator.same, listed.same)


def test_one_folder_serves_both_protocols_of_cfp(tmp_path):
    (tmp_path / "cfp/images").mkdir(parents=True)
    (tmp_path / "cfp/Protocol").mkdir()
    there, _ = find_benchmarks(list(BENCHMARKS.values()), tmp_path)
    assert [(f.benchmark.name, f.path) for f in there] == [(n, tmp_path / "cfp") for n in ("cfp_ff", "cfp_fp")]
    (tmp_path / "cfp_fp/images").mkdir(parents=True)
    (tmp_path / "cfp_fp/pairs.txt").touch()
    assert find_benchmark(BENCHMARKS["cfp_fp"], tmp_path).protocol == tmp_path / "cfp_fp/pairs.txt"


def test_folder_and_bin_give_one_number_and_one_page(root, tmp_path):
    there, absent = find_benchmarks(list(BENCHMARKS.values()), root)
    outcomes = [run_benchmark(Blocks(16), found, seed=5) for found in there]
    folder, packed = outcomes
    np.testing.assert_allclose(folder.result.scores, packed.result.scores, atol=1e-6)
    assert folder.receipt == packed.receipt
    assert folder.warnings[-1].startswith("pairs: 40 of the protocol's 6000")

    row = summary_table(outcomes).rows[0]
    assert row[2] == f"{100 * folder.result.accuracy.mean:.2f}"
    assert row[-1].endswith(" (too few pairs)")
    beside = published_table(outcomes, "mine")
    assert list(beside.head[1:]) == ["LFW", "CALFW"]
    assert beside.rows[0][0] == "mine"
    assert any(row[1:] == ("99.83", "95.92") for row in beside.rows)

    write_outcome(tmp_path / "lfw.json", folder, {"step": 3})
    written = json.loads((tmp_path / "lfw.json").read_text())
    assert written["title"] == "LFW"
    assert written["inputs"]["images"] == len(np.unique([folder.evaluator.first, folder.evaluator.second]))
    assert read_result(tmp_path / "lfw.json")[1] == folder.receipt

    write_page(tmp_path / "page.html", "a <model>", {"step": 3}, outcomes, [how_to_get(b, root) for b in absent])
    page = (tmp_path / "page.html").read_text()
    assert "a &lt;model&gt;" in page
    assert page.count("<section>") == 5
    sources = re.findall(r'src="([^"]{20})', page)
    assert all(s.startswith("data:image/") for s in sources)
    assert len(sources) == 1 + 2 * (1 + 2 * 2 * 10)  # ROC; of each a histogram, and ten pairs of each kind
    assert not re.search(r"(src|href)=\"?http", page)
    open_tags = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Balance().feed(page)
    assert open_tags == []


def test_awkward_names_keep_the_columns(root, tmp_path):
    """A bar in a title is no border of a cell."""
    outcome = replace(run_benchmark(Blocks(16), find_benchmark(BENCHMARKS["lfw"], root)), title="a | b")
    text = write_results(tmp_path / "r", "x | <y>", {}, [outcome])
    assert "a | b" in text.splitlines()[2]
    markdown = (tmp_path / "r.md").read_text().splitlines()
    rows = [line for line in markdown if line.startswith("| ")]
    assert len({line.replace("\\|", "").count("|") for line in rows[:3]}) == 1
    assert "| a \\| b " in rows[2]
    page = (tmp_path / "r.html").read_text()
    assert "<td>a | b</td>" in page
    assert "<td>x | &lt;y&gt;</td>" in page


def test_one_fold_has_its_page_and_its_file(root, tmp_path):
    listed = read_pairs(root / "lfw/pairs.txt")
    order = np.argsort(~listed.same, kind="stable")
    first, second = ([ends[i] for i in order] for ends in (listed.first, listed.second))
    write_pairs(root / "lfw/pairs.txt", Pairs(first, second, listed.same[order], np.zeros(40, int)))
    outcome = run_benchmark(Blocks(16), find_benchmark(BENCHMARKS["lfw"], root), labels={"n": {"person_0": "a"}})
    assert any(text.startswith("one fold: no accuracy") for text in outcome.warnings)
    text = write_results(tmp_path / "r", "mine", {}, [outcome])
    assert text.splitlines()[2].split()[:5] == ["LFW", "40", "-", "-", "-"]
    assert f"<h2>LFW: AUC {100 * outcome.result.auc:.2f} %</h2>" in (tmp_path / "r.html").read_text()
    write_outcome(tmp_path / "lfw.json", outcome, {})
    again, receipt = read_result(tmp_path / "lfw.json")
    assert again.as_dict() == outcome.result.as_dict()
    assert "accuracy" not in again.summary()
    assert compare_results(again, receipt, again, receipt).mcnemar.p == 1
    assert write_pictures(tmp_path, [], {"lfw": again}, [outcome.evaluator])[0].name == "roc.png"


def test_hardest_pairs_are_the_most_mistaken(root):
    outcome = run_benchmark(Blocks(16), find_benchmark(BENCHMARKS["lfw"], root))
    scores, same = outcome.result.scores, outcome.result.same
    assert scores[hardest_pairs(outcome, True, 3)].tolist() == sorted(scores[same])[:3]
    assert scores[hardest_pairs(outcome, False, 3)].tolist() == sorted(scores[~same])[:-4:-1]


def test_groups_by_image_person_and_number(root, tmp_path):
    rows = ["image,site,half", *(f"person_{i},{'north' if i < 3 else 'south'}," for i in range(6))]
    rows += ["person_0/person_0_0001.png,,x", "person_0/person_0_0002,,x"]
    (tmp_path / "g.csv").write_text("\n".join(rows) + "\n")
    labels = read_groups(tmp_path / "g.csv")
    assert labels["half"] == {"person_0/person_0_0001.png": "x", "person_0/person_0_0002": "x"}
    found = find_benchmark(BENCHMARKS["lfw"], root)
    outcome = run_benchmark(Blocks(16), found, labels={"site": labels["site"]})
    names = [p.parent.name for p in outcome.evaluator.dataset.paths]
    ends = [
        (names[a] < "person_3", names[b] < "person_3")
        for a, b in zip(outcome.evaluator.first, outcome.evaluator.second)
    ]
    north, south = outcome.groups["site"]
    assert north.same + north.different == sum(a and b for a, b in ends)
    assert south.same + south.different == sum(not a and not b for a, b in ends)
    chosen = np.array([a and b for a, b in ends])
    right = (outcome.result.scores > outcome.result.accuracy.thresholds.mean()) == outcome.result.same
    assert north.accuracy == right[chosen].mean()
    assert groups_table("site", outcome.groups["site"]).head[0] == "site"

    packed = run_benchmark(Blocks(16), find_benchmark(BENCHMARKS["calfw"], root), labels={"n": {"0": "a", "1": "a"}})
    (group,) = packed.groups["n"]
    assert group.same + group.different == 1
    with pytest.raises(DataError, match="no pair has both images in one group of 'n'; .*'nobody'.*person_0_0001"):
        results_by_group(outcome.evaluator, outcome.result, {"n": {"nobody": "a"}})


@pytest.mark.parametrize(
    ("text", "told"),
    [("", ":1: expected the header"), ("name,race\n", ":1: expected"), ("image,race\na\n", ":2: expected 2")],
)
def test_a_file_of_groups_that_is_none(tmp_path, text, told):
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(DataError, match=r"g\.csv" + told):
        read_groups(tmp_path / "g.csv")


def test_embeddings_do_not_touch_the_random_state(root):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    run_benchmark(Blocks(16), find_benchmark(BENCHMARKS["lfw"], root))
    assert torch.equal(before, torch.get_rng_state())
