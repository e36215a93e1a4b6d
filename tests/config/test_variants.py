"""Variants: one YAML for several runs, checked before the first."""

from pathlib import Path

import pytest
import yaml

from facetx.config import check_settings
from facetx.config.variants import load_variants
from facetx.errors import ConfigError
from facetx.training.sweep import describe_variants

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("compare_*.yaml"))


@pytest.fixture
def written(small, tmp_path):
    def write(variants, **changes):
        path = tmp_path / "variants.yaml"
        text = yaml.safe_dump(small | changes, sort_keys=False)
        path.write_text(text + yaml.safe_dump({"variants": variants}, sort_keys=False))
        return path

    return write


def line_of(path, text):
    (n,) = [n for n, line in enumerate(path.read_text().splitlines(), start=1) if text in line]
    return f"{path}:{n}"


def test_a_variant_without_changes_is_the_run_itself(written, small):
    (plain,) = load_variants(written({"plain": None})).values()
    assert plain == check_settings({**small, "name": "small_plain"})


def test_changes_are_laid_over_key_by_key(written):
    variants = load_variants(
        written(
            {
                "dotted": {"optim.lr": 5e-4, "data.transforms.1.args.pixels": 1},
                "nested": {"model": {"args": {"depth": 2}}, "head": {"weight": 2.0}},
                "other_part": {"model": {"name": "cct_tiny", "args": {"image_size": 32}}, "head": "softmax"},
                "joint": {"head": ["softmax", {"name": "center_loss", "weight": 0.003}]},
            }
        )
    )
    dotted, nested, other, joint = variants.values()
    assert (dotted.optim.lr, dotted.optim.name) == (5e-4, "adamw")
    assert [t.args for t in dotted.data.transforms] == [{}, {"pixels": 1}]
    assert nested.model.args["depth"] == 2
    assert nested.model.args["dim"] == 16
    assert (nested.head[0].weight, nested.head[0].args["margin"]) == (2.0, 0.1)
    assert other.model.args == {"image_size": 32}
    assert (other.head[0].name, other.head[0].args) == ("softmax", {})
    assert [h.name for h in joint.head] == ["softmax", "center_loss"]


def test_a_variant_of_another_name_takes_its_own_defaults(written, caplog):
    (variant,) = load_variants(written({"a": {"head": "arcface"}})).values()
    assert variant.head[0].args == {}
    assert "head: arcface in place of cosface, with its own defaults: scale=16.0, margin=0.1 dropped" in caplog.text
    caplog.clear()
    (variant,) = load_variants(written({"a": {"head": {"name": "arcface", "args": {"scale": 8.0}}}})).values()
    assert variant.head[0].args == {"scale": 8.0}
    assert "margin=0.1 dropped" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"head.name": "arcface", "head.args.margin": 0.3},
        {"head.args.margin": 0.3, "head.name": "arcface"},
        {"head": {"args": {"margin": 0.3}}, "head.name": "arcface"},
        {"head.args": {"margin": 0.3}, "head": "arcface"},
    ],
)
def test_a_variants_arguments_are_for_its_own_part_whatever_the_order(written, caplog, changes):
    (variant,) = load_variants(written({"a": changes})).values()
    assert (variant.head[0].name, variant.head[0].args) == ("arcface", {"margin": 0.3})
    assert "scale=16.0 dropped; to keep one, say it anew: head.args.scale=..." in caplog.text


def test_overrides_reach_all_or_one(written):
    path = written({"a": {}, "b": {"optim": {"lr": 1e-2}}})
    a, b = load_variants(path, ["optim.lr=1e-5", "variants.b.optim.weight_decay=0.5"]).values()
    assert (a.optim.lr, a.optim.weight_decay) == (1e-5, 0.05)
    assert (b.optim.lr, b.optim.weight_decay) == (1e-2, 0.5)


def test_all_problems_of_all_variants_are_told_with_their_lines(written):
    path = written(
        {
            "fine": {},
            "a": {"model": {"args": {"dimm": 8}}},
            "b": {"head.args.margin": "wide"},
            "c": {"optim": {"lr": -1}},
            "d": {"train.steps": 99},
            "e/f": {},
            "g": 7,
        }
    )
    with pytest.raises(ConfigError) as caught:
        load_variants(path)
    head, *lines = str(caught.value).splitlines()
    assert head == "6 problems in the settings"
    expected = {
        f"{line_of(path, 'dimm')}: model.args.dimm: unknown key; did you mean 'dim'?",
        f"{line_of(path, 'wide')}: head.args.margin: input should be a valid number, got 'wide'",
        f"{line_of(path, 'lr: -1')}: optim.lr: input should be greater than 0, got -1",
        f"{line_of(path, '  d:')}: variants.d: train.steps is 99, and 12 in the first; all variants share it",
        f"{line_of(path, 'e/f')}: variants: 'e/f' cannot be a folder's name; use letters, digits and _ . + -",
        f"{line_of(path, 'g: 7')}: variants.g: expected keys and values to change, got 7",
    }
    assert set(lines) == expected


def test_a_mistake_in_what_all_share_is_told_once(written):
    with pytest.raises(ConfigError, match="^1 problem in the settings\n.*seed: "):
        load_variants(written({"a": {}, "b": {}}, seed=-1))


@pytest.mark.parametrize("variants", [None, {}, ["a", "b"]])
def test_a_file_without_variants(written, variants):
    with pytest.raises(ConfigError, match="needs the settings of a run, and 'variants:'"):
        load_variants(written(variants))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_comparison_loads_and_builds(path, faces, small):
    assert f"scripts/compare.py configs/{path.name}" in path.read_text(), "a config's header tells its command"
    raw = yaml.safe_load(path.read_text())
    assert raw["name"] == path.stem
    overrides = ["evaluators=[]"]
    if raw["data"]["name"] == "image_folder":
        overrides += [f"data.args.root={faces}", "data.args.part=all", "data.args.landmarks=null"]
        overrides += ["data.args.test_images=0", "train.batch_size=8"]
    described = describe_variants(load_variants(path, overrides))
    assert [line.split(":")[0] for line in described.splitlines() if line[:1].strip()] == list(raw["variants"])


def test_what_a_variant_replaces_is_not_where_its_mistakes_are(written, small):
    base = {**small["data"], "transforms": ["flip", {"name": "resize", "args": {"size": 32}}]}
    path = written({"a": {"data.transforms": ["flip", {"name": "resize", "args": {}}]}}, data=base)
    with pytest.raises(ConfigError) as caught:
        load_variants(path)
    assert f"{line_of(path, 'args: {}')}: data.transforms.1.args.size: is required" in str(caught.value)
