"""Settings: what is right loads and builds, what is wrong is said with its place and a way out."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from facetx.config import check_settings, differences, load_settings, to_yaml
from facetx.config.yaml_file import parse
from facetx.errors import ConfigError
from facetx.training import build, describe_run

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(p for p in FOLDER.glob("*.yaml") if not p.stem.startswith("compare_"))  # those: test_variants.py

GOOD = """\
name: test
data:
  name: image_folder
  args: {root: somewhere}
model: vit_p8s8_tiny
head: cosface
optim: {lr: 1e-3}
train: {steps: 10, batch_size: 4}
"""


def write(tmp_path, text):
    path = tmp_path / "test.yaml"
    path.write_text(text)
    return path


def test_short_and_long_forms_are_the_same(tmp_path):
    short = load_settings(write(tmp_path, GOOD))
    assert short.model.name == "vit_p8s8_tiny"
    assert [h.name for h in short.head] == ["cosface"]
    long = GOOD.replace("model: vit_p8s8_tiny", "model: {name: vit_p8s8_tiny}").replace(
        "head: cosface", "head: [{name: cosface}]"
    )
    assert load_settings(write(tmp_path, long)) == short


def test_settings_written_out_read_back_the_same(tmp_path):
    settings = load_settings(write(tmp_path, GOOD))
    assert load_settings(write(tmp_path, to_yaml(settings))) == settings


# ruff: noqa: E501
# What is written in place of which line of GOOD, and the line, the key and the words that the message must have.
WRONG = {
    "misspelled key": ("optim: {lr: 1e-3}", "optim: {lr: 1e-3, weight_decai: 0}", 7, "optim.weight_decai", "did you mean 'weight_decay'?"),
    "misspelled top key": ("head: cosface", "heads: cosface", 6, "heads", "did you mean 'head'?"),
    "missing key": ("name: test\n", "", None, "name", "required"),
    "wrong type": ("steps: 10", "steps: ten", 8, "train.steps", "valid integer, got 'ten'"),
    "true is not 1": ("steps: 10", "steps: true", 8, "train.steps", "valid integer, got True"),
    "out of range": ("lr: 1e-3", "lr: -1", 7, "optim.lr", "greater than 0, got -1"),
    "unknown choice": ("optim: {lr: 1e-3}", "optim: {lr: 1e-3}\ndevice: gpu", 8, "device", "'auto', 'cpu' or 'cuda', got 'gpu'"),
    "unknown backbone": ("vit_p8s8_tiny", "vit_p8s9_tiny", 5, "model.name", "did you mean 'vit_p8s8_tiny'"),
    "unknown head": ("head: cosface", "head: {name: cosfase}", 6, "head.name", "did you mean 'cosface'"),
    "unknown argument": ("head: cosface", "head: {name: cosface, args: {margn: 0.3}}", 6, "head.args.margn", "did you mean 'margin'?"),
    "wrong argument type": ("head: cosface", "head: {name: cosface, args: {margin: big}}", 6, "head.args.margin", "valid number, got 'big'"),
    "provided argument": ("head: cosface", "head: {name: cosface, args: {num_classes: 3}}", 6, "head.args.num_classes", "leave it out"),
    "missing argument": ("  args: {root: somewhere}\n", "", 2, "data.args.root", "required"),
    "size of the encoder": ("model: vit_p8s8_tiny", "model: {name: vit_p8s8_tiny, args: {dept: 2}}", 5, "model.args.dept", "did you mean 'depth'?"),
    "unknown optimizer": ("lr: 1e-3", "name: adamv, lr: 1e-3", 7, "optim.name", "did you mean 'adam' or 'adamw'?"),
    "unknown schedule": ("optim:", "schedule: cosin\noptim:", 7, "schedule.name", "did you mean 'cosine'?"),
    "unknown transform": ("args: {root: somewhere}", "args: {root: somewhere}\n  transforms: [flip, flop]", 5, "data.transforms.1.name", "did you mean 'flip'?"),
    "unknown evaluator": ("optim:", "evaluators:\n  - lwf\noptim:", 8, "evaluators.0.name", "did you mean 'lfw'?"),
    "neither steps nor epochs": ("steps: 10, ", "", 8, "train", "either steps or epochs"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path, case):
    old, new, line, key, words = WRONG[case]
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    place = f"{path}:{line}" if line else str(path)
    matching = [text for text in str(caught.value).splitlines() if text.startswith(f"{place}: {key}: ")]
    assert matching, caught.value
    assert words in matching[0]


def test_all_problems_are_told_at_once_those_of_keys_first(tmp_path):
    text = GOOD.replace("lr: 1e-3", "lr: fast").replace("head: cosface", "head: cosfase").replace("steps:", "stepz:")
    first = "^2 problems in the settings; names and arguments of parts are looked at when these keys are mended\n"
    with pytest.raises(ConfigError, match=first) as caught:
        load_settings(write(tmp_path, text))
    for key in ("optim.lr", "train.stepz"):
        assert key in str(caught.value)
    text = GOOD.replace("head: cosface", "head: cosfase").replace("root: somewhere", "rooot: somewhere")
    with pytest.raises(ConfigError, match="^3 problems in the settings\n") as caught:
        load_settings(write(tmp_path, text))
    for key in ("head.name", "data.args.rooot", "data.args.root: is required"):
        assert key in str(caught.value)


def test_a_wrong_key_is_told_without_pytorch(tmp_path):
    write(tmp_path, GOOD.replace("lr: 1e-3", "lrr: 1e-3"))
    code = f"""
import sys
from facetx.config import load_settings
from facetx.errors import ConfigError
try:
    load_settings({str(tmp_path / "test.yaml")!r})
except ConfigError as error:
    print("did you mean 'lr'" in str(error), "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True False\n"


def test_a_head_with_a_wrong_key_is_told(tmp_path):
    for text, overrides in ((GOOD.replace("head: cosface", "head: {nmae: cosface}"), []), (GOOD, ["head.nme=cosface"])):
        with pytest.raises(ConfigError) as caught:
            load_settings(write(tmp_path, text), overrides)
        assert str(caught.value).startswith("1 problem ") or "head.name: is required" in str(caught.value)
        assert "unknown key; did you mean 'name'?" in str(caught.value)


def test_yaml_that_is_none_is_told_with_its_line(tmp_path):
    with pytest.raises(ConfigError, match=r"test.yaml:3: "):
        load_settings(write(tmp_path, "name: test\ndata: {a: 1\nmodel: b\n"))
    with pytest.raises(ConfigError, match=r"test.yaml:3: the key 'name' is given twice, first in line 1"):
        load_settings(write(tmp_path, "name: test\nseed: 1\nname: other\n"))
    with pytest.raises(ConfigError, match="keys and values"):
        load_settings(write(tmp_path, "- 1\n"))


MERGES = "name: " + "".join(f"&x{i} {{!!merge <<: " for i in range(30)) + "&x30 {a: 1}"
MERGES += "".join(f", !!merge <<: *x{i + 1}}}" for i in reversed(range(30)))
BOMB = "a0: &x0 [1]\n" + "".join(f"a{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\0b\n", "test.yaml: unacceptable character #x0000"),
        ("name: test\n? [a, b]\n: 1\n", "test.yaml:2: a key is a list or a mapping"),
        ("name: test\nseed: !!int x\n", "test.yaml:2: 'x' is no int"),
        ("seed: !!bool x\n", "test.yaml:1: 'x' is no bool"),
        ("seed: !!map x\n", "test.yaml:1: expected a mapping node"),
        ("seed: !!timestamp x\n", "test.yaml:1: could not determine a constructor for the tag .*timestamp"),
        ("seed: !!python/name:os.system x\n", "test.yaml:1: could not determine a constructor"),
        ("name: " + "[" * 5000, "test.yaml: lists and mappings lie in one another too deep"),
        ("name: &x [*x]\n", "a value is part of itself"),
        (BOMB, r"test.yaml:\d: more than 10000 values"),
        (MERGES, "test.yaml:1: more than 10000 values"),
        ("# " + "x" * 2**22, "test.yaml: has more than 262144 characters"),
    ],
    ids=["zero", "key", "int", "bool", "map", "time", "python", "deep", "itself", "bomb", "merges", "long"],
)
def test_hostile_yaml_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        load_settings(write(tmp_path, text))


def test_a_missing_file_names_those_that_are_there(tmp_path):
    write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"tst.yaml: no such file.*test.yaml"):
        load_settings(tmp_path / "tst.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("012", 12), ("on", "on"), ("no", "no"), ("true", True), ("null", None),
     ("0x10", 16), ("-3", -3), ("1_000", "1_000"), (".inf", float("inf")), ("2020-01-01", "2020-01-01"), ("~", None)],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text, value):
    got, _ = parse(f"a: {text}", "text")
    assert got["a"] == value
    assert type(got["a"]) is type(value)


def test_overrides_reach_every_level(tmp_path):
    text = GOOD + "evaluators:\n  - {name: synthetic_pairs, every: 100}\n"
    settings = load_settings(
        write(tmp_path, text),
        ["optim.lr=3e-4", "evaluators.0.every=500", "head.args.margin=0.2", "model.args.depth=2", "train.compile=true"],
    )
    assert settings.optim.lr == 3e-4
    assert settings.evaluators[0].every == 500
    assert settings.head[0].args == {"margin": 0.2}
    assert settings.model.args == {"depth": 2}
    assert settings.train.compile is True


@pytest.mark.parametrize(
    "overrides",
    [
        ["head.name=arcface"],
        ["head=arcface"],
        ["head={name: arcface}"],
    ],
)
def test_another_name_does_not_inherit_arguments(tmp_path, caplog, overrides):
    """CosFace's margin 0.2 is a cosine, ArcFace's an angle."""
    text = GOOD.replace("head: cosface", "head: {name: cosface, weight: 2.0, args: {margin: 0.2, scale: 32.0}}")
    (head,) = load_settings(write(tmp_path, text), overrides).head
    assert (head.name, head.args, head.weight) == ("arcface", {}, 2.0)
    expected = "head: arcface in place of cosface, with its own defaults: margin=0.2, scale=32.0 dropped"
    assert expected in caplog.text
    caplog.clear()
    (head,) = load_settings(write(tmp_path, text), ["head.args.margin=0.3", *overrides]).head
    assert (head.name, head.args) == ("arcface", {"margin": 0.3}), "whatever the order"
    (head,) = load_settings(write(tmp_path, text), ["head.name=cosface"]).head
    assert head.args == {"margin": 0.2, "scale": 32.0}


PARTS = """\
data:
  name: image_folder
  args: {root: somewhere}
  sampler: {name: identities, args: {images: 2}}
  transforms: [{name: shift, args: {pixels: 2}}, flip]
head: [{name: cosface, weight: 2.0, args: {margin: 0.2}}, {name: center_loss, weight: 0.1}]
evaluators: [{name: pairs, every: 5, data: {name: synthetic_faces, args: {identities: 7}}, args: {flip: false}}]
"""


@pytest.mark.parametrize(
    ("overrides", "at", "expected"),
    [
        (["data.sampler=shuffled"], "data.sampler", {"name": "shuffled", "args": {}}),
        (["data.transforms.0.name=resize", "data.transforms.0.args.size=8"], "data.transforms.0", {"name": "resize", "args": {"size": 8}}),
        (["head.0.name=arcface"], "head.0", {"name": "arcface", "args": {}, "weight": 2.0}),
        (["head.0.args.engine=full", "head.0=arcface"], "head.0", {"name": "arcface", "args": {"engine": "full"}, "weight": 2.0}),
        (["head.1.args.alpha=0.3", "head=[arcface, center_loss]"], "head.1", {"name": "center_loss", "args": {"alpha": 0.3}, "weight": 1.0}),
        (["evaluators.0.data.name=image_folder", "evaluators.0.data.args.root=x"], "evaluators.0.data", {"name": "image_folder", "args": {"root": "x"}}),
        (["evaluators.0=classification"], "evaluators.0.args", {}),
    ],
)  # fmt: skip
def test_parts_in_lists_and_in_parts_do_not_inherit_either(tmp_path, overrides, at, expected):
    kept = [line for line in GOOD.splitlines(keepends=True) if line.startswith(("name", "model", "optim", "train"))]
    found = load_settings(write(tmp_path, "".join(kept) + PARTS), overrides).model_dump(mode="json")
    assert (found["evaluators"][0]["every"], found["head"][1]["name"]) == (5, "center_loss")
    for key in at.split("."):
        found = found[int(key) if key.isdigit() else key]
    assert found == expected


def test_a_renamed_section_keeps_what_is_not_its_arguments(tmp_path, caplog):
    text = GOOD.replace("optim: {lr: 1e-3}", "optim: {lr: 1e-3, clip_norm: 0.5, args: {eps: 1e-6}}")
    assert text != GOOD
    for override in ("optim.name=sgd", "optim=sgd"):
        optim = load_settings(write(tmp_path, text), [override]).optim
        assert (optim.name, optim.lr, optim.clip_norm, optim.args) == ("sgd", 1e-3, 0.5, {})
    assert "optim: sgd in place of adamw" in caplog.text
    assert load_settings(write(tmp_path, text), ["optim.name=adamw"]).optim.args == {"eps": 1e-6}
    assert load_settings(write(tmp_path, GOOD), ["name=other"]).name == "other"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lr", "is no override; write key.subkey=value"),
        ("optim.lr.x=1", "optim.lr is 0.001 and has no keys"),
        ("optim.l=1", r"command line \(optim.l=1\): optim.l: unknown key; did you mean 'lr'\?"),
        ("evaluators.3.every=1", "evaluators is a list of 1"),
        ("train.steps=ten", r"command line \(train.steps=ten\): train.steps: .*valid integer"),
    ],
)
def test_a_wrong_override_is_named(tmp_path, override, words):
    text = GOOD + "evaluators: [lfw]\n" if "evaluators" in override else GOOD
    with pytest.raises(ConfigError, match=words):
        load_settings(write(tmp_path, text), [override])


@pytest.mark.parametrize(
    ("override", "place", "words"),
    [
        ("data.transforms=[{name: shift, args: {pixel: 2}}]", "command line", "data.transforms.0.args.pixel: unknown"),
        ("data.transforms=[flip, flop]", "command line", "data.transforms.1.name: no transform"),
        ("evaluators=[{name: lfw, args: {}}]", "command line", "evaluators.0.args.pairs: is required"),
        ("head=arcface", "8", "head.weigth: unknown key"),  # what a new name keeps stays in its line
        ("head.name=arcface", "8", "head.weigth: unknown key"),
    ],
)
def test_what_an_override_replaces_is_not_where_its_mistakes_are(tmp_path, override, place, words):
    text = GOOD.replace(
        "{root: somewhere}", "{root: somewhere}\n  transforms: [flip, {name: shift, args: {pixels: 2}}]"
    )
    weight = "weigth" if "weigth" in words else "weight"
    text = text.replace("head: cosface", f"head:\n  {weight}: 2.0\n  name: cosface\n  args: {{margin: 0.2}}")
    text += "evaluators:\n  - {name: lfw, args: {root: somewhere, pairs: somewhere}}\n"
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path, [override])
    begin = f"command line ({override})" if place == "command line" else f"{path}:{place}"
    assert [line for line in str(caught.value).splitlines() if line.startswith(f"{begin}: {words}")], caught.value


def test_settings_of_several_runs_name_the_script_for_them(tmp_path):
    path = write(tmp_path, GOOD + "variants:\n  a: {}\n")
    with pytest.raises(ConfigError, match=rf"^{path}:9: variants: .* python scripts/compare.py {path}$"):
        load_settings(path)


def test_differences_are_dotted():
    assert list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4})) == [
        ("a.c", 2, 3),
        ("d", None, 4),
    ]


def test_the_schema_is_up_to_date():
    from facetx.config.schema import SCHEMA_FILE, schema_text

    written = Path(__file__).parents[2] / SCHEMA_FILE
    assert written.read_text() == schema_text(), f"run: python -m facetx.config.schema > {SCHEMA_FILE}"


def test_the_reference_is_up_to_date_and_names_every_part():
    from facetx.config.reference import REFERENCE_FILE, TABLES, reference_text

    written = (Path(__file__).parents[2] / REFERENCE_FILE).read_text(encoding="utf-8")
    assert written == reference_text() + "\n", "run: python -m facetx.config.reference"
    for _, table, _ in TABLES.values():
        for name in table:
            assert f"\n### `{name}`\n" in written
    assert re.search(
        r"\| `train.steps` +\| `None` +\| Optimizer steps in all. Give either this or epochs. +\|", written
    )
    assert re.search(r"\| `model` +\| required +\| The backbone\.", written)
    assert "`cosface(scale=64.0, margin=0.35, engine=..., chunk_size=..., sample_rate=...)`" in written


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_loads_and_builds(path, faces, monkeypatch):
    raw = yaml.safe_load(path.read_text())
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert f"--config configs/{path.name}" in path.read_text(), "a config's header tells its command"
    overrides = []
    if raw["data"]["name"] == "image_folder":
        overrides = [f"data.args.root={faces}", "data.args.part=all", "train.batch_size=6", "train.epochs=999"]
        overrides.append("evaluators=[]")
        overrides.append("select=null")
    if raw["data"]["name"] in ("celeba", "mask_folder", "celebamask_hq", "lapa"):  # not here; drawn faces stand in
        overrides = ["data.name=synthetic_faces", "data.crop=false", "evaluators=[]", "select=null"]
    if "init_from" in raw["model"]:  # another config's run
        overrides.append("model.init_from=null")
    settings = load_settings(path, overrides)
    assert settings.name == path.stem
    assert settings.model.name in describe_run(build(settings))


def test_settings_from_plain_values(small):
    settings = check_settings(small)
    assert json.loads(settings.model_dump_json())["train"]["steps"] == 12
    with pytest.raises(ConfigError, match="settings: train.steps"):
        check_settings({**small, "train": {"steps": 0, "batch_size": 2}})
