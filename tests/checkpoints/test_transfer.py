"""Transfer learning by settings: where weights come from, what is trained, how fast, and that a resume stays exact."""

import logging
import multiprocessing
import os
import signal

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

import facetx
from facetx.backbones import BACKBONES
from facetx.checkpoints import write
from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.format import find_checkpoint
from facetx.checkpoints.meta import Meta, write_meta
from facetx.checkpoints.write import save_checkpoint
from facetx.config import check_settings, load_settings
from facetx.contract import InputContract
from facetx.data import DATASETS
from facetx.errors import CheckpointError, ConfigError, DataError
from facetx.nn.freeze import freeze, frozen_parts
from facetx.optim import layer_rates
from facetx.training import build, describe_run, loop, start_run
from facetx.training.sinks import read_rows


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)


def with_(raw: dict, **sections) -> dict:
    return {**raw, **{name: {**raw[name], **changes} for name, changes in sections.items()}}


@pytest.fixture
def plain(small) -> dict:
    """``small`` with two blocks and no evaluator."""
    raw = with_(small, model={"args": {**small["model"]["args"], "depth": 2}})
    return {**raw, "evaluators": [], "select": None}


@pytest.fixture
def source(plain, tmp_path):
    """A run of four steps, and its weights, trained on BGR."""
    raw = with_(plain, train={"steps": 4}, model={"input": {"color": "BGR", "mean": [100], "std": [50]}})
    start_run(check_settings(raw), tmp_path / "source")
    return tmp_path / "source"


def batch_of(run):
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return {"image": images, "label": torch.arange(6)}


def moved(run, steps=1) -> set[str]:
    """The entries of the backbone's state dict that training steps change."""
    before = {k: v.clone() for k, v in run.backbone.state_dict().items()}
    run.task.train()
    for step in range(steps):
        loop.training_step(run, batch_of(run), step)
    return {k for k, v in run.backbone.state_dict().items() if not torch.equal(v, before[k])}


# ---- init_from


def test_a_run_gives_its_weights_and_its_contract(plain, source):
    run = build(check_settings(with_(plain, model={"init_from": str(source)})))
    weights = find_checkpoint(source).weights()
    assert all(torch.equal(v, weights[k]) for k, v in run.backbone.state_dict().items())
    assert run.backbone.contract == InputContract(size=32, color="BGR", mean=(100,), std=(50,))


def test_a_contract_that_differs_from_the_weights_is_told(plain, source, caplog):
    told = {"init_from": str(source), "input": {"color": "RGB"}}
    run = build(check_settings(with_(plain, model=told)))
    assert run.backbone.contract == InputContract(size=32)
    assert (
        "model.input: RGB, mean (127.5,), std (127.5,), arcface, but the weights were trained on BGR, mean (100.0,)"
        in caplog.text
    )
    caplog.clear()
    build(check_settings(with_(plain, model={**told, "input": {"color": "BGR", "mean": [100], "std": [50]}})))
    assert not caplog.text


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_gives_its_weights(plain, source, tmp_path, suffix):
    weights = find_checkpoint(source).weights()
    file = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(weights, file)
    run = build(check_settings(with_(plain, model={"init_from": str(file)})))
    assert all(torch.equal(v, weights[k]) for k, v in run.backbone.state_dict().items())
    assert run.backbone.contract == InputContract(size=32)


def test_weights_that_do_not_fit_are_listed_before_training(plain, source):
    args = {**plain["model"]["args"], "depth": 1, "mlp_dim": 48, "qkv_bias": True}
    with pytest.raises(CheckpointError) as caught:
        build(check_settings(with_(plain, model={"init_from": str(source), "args": args})))
    message = str(caught.value)
    assert message.startswith("model.init_from: ")
    assert "missing (1): encoder.blocks.0.attention.qkv.bias" in message
    assert "unexpected (11): encoder.blocks.1." in message
    assert "misshaped (3): encoder.blocks.0.mlp.0.weight (32, 16) for (48, 16)" in message


def published(folder, name, **args):
    """A checkpoint of a new network, its settings beside it, as ``scripts/import_weights.py`` writes it."""
    backbone = BACKBONES.create(name, **args)
    settings = {"name": "published", "model": {"name": name, "args": args}}
    meta = Meta.make(step=0, settings=settings, input=backbone.contract)
    return str(save_checkpoint(folder, meta, backbone.state_dict()).path)


# Width 32 and heads of 8: the authors' dim ** -0.5 is not head_dim ** -0.5.
SIZES = {"image_size": 32, "dim": 32, "depth": 1, "heads": 2, "head_dim": 8, "mlp_dim": 32}


@pytest.mark.parametrize(
    ("trained", "here", "told"),
    [
        ({"attention_scale": 32**-0.5}, {}, r"attention_scale \(not given here, 0.1767"),
        ({}, {"attention_scale": 32**-0.5}, r"attention_scale \(0.1767766952966369 here, not given there\)"),
        ({"heads": 1, "head_dim": 16}, {}, r"heads \(2 here, 1 there\), head_dim \(8 here, 16 there\)"),
        ({"activation": "relu6"}, {"activation": "gelu"}, r"activation \(gelu here, relu6 there\)"),
        ({"norm_residual": True}, {}, r"norm_residual \(not given here, True there\)"),
    ],
)
def test_the_network_must_be_that_of_the_weights_not_its_shapes_alone(plain, tmp_path, trained, here, told):
    path = published(tmp_path, "vit_p8s8_tiny", **{**SIZES, **trained})
    model = {"name": "vit_p8s8_tiny", "args": {**SIZES, **here, "dropout": 0.2}, "init_from": path}
    with pytest.raises(CheckpointError, match=f"computes something else .*\n  differs: {told}") as caught:
        build(check_settings({**plain, "model": model}))
    copied = yaml.safe_load(str(caught.value).rpartition("weights of ")[2])
    assert copied["model"]["args"] == {"dropout": 0.2, **SIZES, **trained}
    run = build(check_settings({**plain, "model": {**copied["model"], "init_from": path}}))
    weights = find_checkpoint(path).weights()
    assert all(torch.equal(v, weights[k]) for k, v in run.backbone.state_dict().items())


def test_weights_of_other_sizes_come_with_the_settings_to_copy(plain, tmp_path):
    path = published(tmp_path, "vit_p8s8_tiny", **SIZES)
    with pytest.raises(
        CheckpointError, match=r"(?s)misshaped .*differs: .*dim \(16 here, 32 there\).*model: .name: vit"
    ):
        build(check_settings(with_(plain, model={"init_from": path})))


@pytest.mark.parametrize(
    ("trained", "here"),
    [
        (("vit_p8s8_tiny", SIZES), ("vit_p8s8", {**SIZES, "attention_dropout": 0.1, "drop_path": 0.1})),  # another name
        (("effnet_vit_tiny", SIZES), ("effnet_vit_tiny", {**SIZES, "freeze_stem": True})),
        (("efficientnet_b0", {"image_size": 32}), ("efficientnet_b0", {"image_size": 48})),  # takes any size
        (("vit_kprpe_tiny", {"depth": 1}), ("vit_kprpe_tiny", {"depth": 1, "patch_size": 16, "dropout": 0.5})),
    ],
)
def test_the_same_network_may_be_written_otherwise(tmp_path, trained, here):
    path = published(tmp_path, trained[0], **trained[1])
    before = torch.get_rng_state()
    settings = check_settings({**_minimal(), "model": {"name": here[0], "args": here[1], "init_from": path}})
    drawn = [torch.random.set_rng_state(before), build_backbone(settings.model), torch.rand(1)]
    plain_ = [torch.random.set_rng_state(before), BACKBONES.create(here[0], **here[1]), torch.rand(1)]
    assert drawn[2] == plain_[2]  # the head, drawn next, is what it is without init_from
    weights = find_checkpoint(path).weights()
    assert all(torch.equal(v, weights[k]) for k, v in drawn[1].state_dict().items())


@pytest.mark.parametrize(
    ("there", "here", "told"), [(8, None, "left out: the neck"), (None, 8, "begins anew: the neck")]
)
def test_one_of_both_may_have_no_neck(tmp_path, caplog, there, here, told):
    name, args = "timm:test_convnext", {"image_size": 32}
    path = published(tmp_path, name, **args, embedding_dim=there)
    model = {"name": name, "args": {**args, "embedding_dim": here}, "init_from": path}
    found = build_backbone(check_settings({**_minimal(), "model": model}).model).state_dict()
    weights = find_checkpoint(path).weights()
    assert told in caplog.text
    assert {k for k in found if k.startswith("neck.")} == (set() if here is None else found.keys() - weights.keys())
    trunk = [k for k in found if not k.startswith("neck.")]
    assert trunk
    assert all(torch.equal(found[k], weights[k]) for k in trunk)


def test_a_checkpoint_of_a_backbone_that_is_not_here_says_so(plain, source):
    path, meta = find_checkpoint(source).path, find_checkpoint(source).meta.as_dict()
    meta["settings"]["model"]["name"] = "of_a_notebook"
    write_meta(path, Meta.make(**meta))
    with pytest.raises(CheckpointError, match=r"backbone of_a_notebook, which is not registered .* model.safetensors"):
        build(check_settings(with_(plain, model={"init_from": str(path)})))
    build(check_settings(with_(plain, model={"init_from": str(path / "model.safetensors")})))


def test_a_file_of_timms_own_weights_gives_the_features(plain, tmp_path, caplog):
    caplog.set_level(logging.INFO, "facetx")
    args = {"image_size": 32, "embedding_dim": 8, "options": {"img_size": 32, "depth": 1}}
    theirs = timm.create_model("test_vit", img_size=32, depth=1).state_dict()
    save_file(theirs, tmp_path / "theirs.safetensors")
    model = {"name": "timm:test_vit", "args": args, "init_from": str(tmp_path / "theirs.safetensors")}
    run = build(check_settings({**plain, "model": model}))
    features = run.backbone.trunk.state_dict()
    assert theirs.keys() - features.keys() == {"head.weight", "head.bias"}
    assert all(torch.equal(v, theirs[k]) for k, v in features.items())
    assert "has the features; left out: head.bias, head.weight; new: the neck; input: mean (127.5," in caplog.text
    assert run.backbone.contract == InputContract(size=32, mean=(127.5,) * 3, std=(127.5,) * 3)

    del theirs["norm.bias"]
    save_file({**theirs, "more": torch.zeros(1), "pos_embed": torch.zeros(1, 2, 64)}, model["init_from"])
    with pytest.raises(
        CheckpointError,
        match=r"(?s)missing \(1\): norm.bias.*unexpected \(1\): more\n.*misshaped \(1\): pos_embed \(1, 2, 64\) for",
    ):
        build(check_settings({**plain, "model": model}))


def test_a_resume_and_a_loaded_model_need_the_first_weights_no_more(plain, source, tmp_path):
    raw = with_(plain, model={"init_from": str(source)})
    start_run(check_settings(with_(raw, train={"steps": 4})), tmp_path / "run")
    source.rename(tmp_path / "gone")
    assert start_run(check_settings(raw), tmp_path / "run").step == 12
    assert facetx.load_model(tmp_path / "run", "cpu").contract.color == "BGR"
    assert find_checkpoint(tmp_path / "run").meta.input.mean == (100.0,)


def test_a_loaded_model_downloads_nothing(monkeypatch):
    asked = []
    own = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **a: asked.append(a["pretrained"]) or own(name, **a))
    raw = {"name": "timm:resnet18", "args": {"image_size": 32, "pretrained": True, "embedding_dim": 8}}
    model = check_settings({**_minimal(), "model": raw}).model
    theirs = InputContract(size=32, mean=(1, 2, 3), std=(4, 5, 6))
    assert build_backbone(model, theirs).contract == theirs
    assert asked == [False]


def _minimal() -> dict:
    return {
        "name": "x",
        "data": {"name": "synthetic_faces"},
        "model": "vit_tiny",
        "head": "cosface",
        "optim": {"lr": 1e-3},
        "train": {"steps": 1, "batch_size": 8},
    }


# ---- freeze, LoRA


def test_frozen_parts_stay_and_are_named(plain):
    run = build(check_settings(with_(plain, model={"freeze": ["tokens", "encoder.blocks.0"]})))
    changed = moved(run)
    assert {k.split(".")[0] for k in changed} == {"positions", "encoder", "pooling"}
    assert not any(k.startswith("encoder.blocks.0.") for k in changed)
    total = sum(p.numel() for p in run.backbone.parameters())
    trained = sum(p.numel() for p in run.backbone.parameters() if p.requires_grad)
    assert 0 < trained < total
    line = f"trained     {trained / 1e6:.2f} M of the backbone's {total / 1e6:.2f} M parameters; frozen: "
    assert f"{line}tokens, encoder.blocks.0\n" in describe_run(run)


def test_a_frozen_stem_keeps_its_batch_norm(plain):
    args = {"image_size": 32, "dim": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp_dim": 32}
    model = {"name": "effnet_vit_tiny", "args": args}
    changed = moved(build(check_settings({**plain, "model": {**model, "freeze": ["tokens.stem"]}})))
    assert changed
    assert not any(k.startswith("tokens.stem.") for k in changed)
    adapted = moved(build(check_settings({**plain, "model": {**model, "lora": {"rank": 2}}})))
    assert adapted == {f"encoder.blocks.0.attention.{layer}.{w}" for layer in ("qkv", "proj") for w in ("up", "down")}


def test_lora_trains_its_corrections_alone_and_can_be_loaded_and_gone_on_from(plain, source, tmp_path):
    raw = with_(plain, model={"init_from": str(source), "lora": {"rank": 2, "patterns": ["*.qkv"]}})
    run = build(check_settings(raw))
    assert moved(run, steps=2) == {f"encoder.blocks.{i}.attention.qkv.{w}" for i in (0, 1) for w in ("up", "down")}
    assert (
        "frozen: tokens, positions, encoder.blocks.0-1.norm1, encoder.blocks.0-1.attention.qkv.weight"
        in describe_run(run)
    )

    start_run(check_settings(raw), tmp_path / "lora")
    adapted = facetx.load_model(tmp_path / "lora", "cpu")
    again = build(check_settings(with_(plain, model={"init_from": str(tmp_path / "lora")})))
    assert not any("up" in name or "down" in name for name in again.backbone.state_dict())
    x = again.backbone.contract(batch_of(again)["image"])
    with torch.inference_mode():
        merged, corrected = again.backbone.eval()(x), adapted.backbone(x)
        untouched = facetx.load_model(source, "cpu").backbone(x)
    torch.testing.assert_close(merged, corrected, atol=1e-5, rtol=1e-4)
    assert (merged - untouched).abs().max() > 1e-4


def test_ranges_of_frozen_neighbors_are_written_as_one():
    model = BACKBONES.create("vit_tiny", depth=6)
    freeze(model, ["encoder.blocks.[0125]"])
    model.positions.positions.requires_grad_(False)
    model.encoder.norm.bias.requires_grad_(False)
    assert frozen_parts(model) == ["positions", "encoder.blocks.0-2,5", "encoder.norm.bias"]
    assert frozen_parts(BACKBONES.create("vit_tiny", depth=1)) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            {"freeze": ["encoder.bloks.0"]},
            r"freeze: no module matches 'encoder.bloks.0'; did you mean 'encoder.blocks.0'",
        ),
        ({"freeze": ["neck"]}, "freeze: 'neck' freezes nothing: there are no weights in neck"),
        ({"lora": {"patterns": ["*.query"]}}, r"lora: no linear layer matches '\*.query'; there are .*\*.qkv"),
        ({"lora": {"rank": 16}}, "rank must be at least 1 and below the layers' widths, got 16"),
        ({"lora": {"rank": 0}}, "model.lora.rank: input should be greater than or equal to 1"),
    ],
)
def test_what_matches_nothing_is_told_before_training(plain, model, words):
    with pytest.raises(ConfigError, match=words):
        build(check_settings(with_(plain, model=model)))


# ---- layer_decay


def test_rates_fall_from_the_head_to_the_tokens(plain):
    run = build(check_settings(with_(plain, optim={"lr": 1e-2, "layer_decay": 0.5})))
    rates = {n: g["lr_scale"] for g in run.optimizer.param_groups for n in g["names"]}
    decays = {n: g["weight_decay"] for g in run.optimizer.param_groups for n in g["names"]}
    assert rates["head.weight"] == rates["backbone.encoder.norm.weight"] == 1
    assert rates["backbone.encoder.blocks.1.mlp.0.weight"] == rates["backbone.encoder.blocks.1.norm1.bias"] == 0.5
    assert rates["backbone.encoder.blocks.0.attention.qkv.weight"] == 0.25
    for name in ("tokens.proj.weight", "positions.positions", "pooling.token"):
        assert rates[f"backbone.{name}"] == 0.125
    assert rates.keys() == {n for n, _ in run.task.named_parameters()}
    assert decays["backbone.encoder.blocks.0.attention.qkv.weight"] == 0.05
    assert decays["backbone.positions.positions"] == decays["backbone.encoder.blocks.0.norm1.weight"] == 0

    loop.training_step(run, batch_of(run), 0)
    assert [g["lr"] for g in run.optimizer.param_groups] == [1e-2 * g["lr_scale"] for g in run.optimizer.param_groups]
    assert run.optimizer.param_groups[0]["lr"] == 1e-2  # what the log shows is the base rate


def test_adams_first_steps_are_as_long_as_the_rates_say(plain):
    lengths = {}
    for decay in (None, 0.5):
        run = build(check_settings(with_(plain, optim={"lr": 1e-3, "weight_decay": 0.0, "layer_decay": decay})))
        before = {k: v.detach().clone() for k, v in run.backbone.named_parameters()}
        loop.training_step(run, batch_of(run), 0)
        lengths[decay] = {k: (v - before[k]).norm().item() for k, v in run.backbone.named_parameters()}
    ratio = {k: lengths[0.5][k] / lengths[None][k] for k in lengths[None]}
    assert ratio["encoder.blocks.1.mlp.3.weight"] == pytest.approx(0.5, rel=1e-2)
    assert ratio["tokens.proj.weight"] == pytest.approx(0.125, rel=1e-2)


def test_models_of_timm_have_timms_layers_and_others_are_refused():
    small_vit = {"depth": 3, "embed_dim": 24, "num_heads": 2}
    model = BACKBONES.create("timm:vit_tiny_patch16_224", image_size=32, embedding_dim=8, options=small_vit)
    rates = layer_rates(model, 0.5)
    assert rates["neck.1.weight"] == 1
    assert rates["trunk.blocks.2.attn.qkv.weight"] == 0.5
    assert rates["trunk.blocks.0.attn.qkv.weight"] == 0.125
    assert rates["trunk.patch_embed.proj.weight"] == rates["trunk.cls_token"] == 0.0625
    assert rates.keys() == {n for n, _ in model.named_parameters()}
    pooled = BACKBONES.create("cct_tiny", image_size=32, depth=1)
    assert layer_rates(pooled, 0.5)["pooling.score.weight"] == 1
    with pytest.raises(ConfigError, match="optim.layer_decay: known for transformers and for timm's models"):
        layer_rates(BACKBONES.create("iresnet18"), 0.5)


# ---- the head first


def test_the_head_is_trained_first_and_then_all(plain):
    args = {"image_size": 32, "embedding_dim": 8}
    raw = {**with_(plain, train={"head_first_steps": 2}), "model": {"name": "efficientnet_b0", "args": args}}
    run = build(check_settings(raw))
    assert "the head alone for the first 2 steps" in describe_run(run)
    head = run.task.head.weight.detach().clone()
    assert moved(run, steps=2) == set()  # batch norm's statistics and weight decay included
    assert not torch.equal(run.task.head.weight, head)
    assert not run.backbone.training
    before = {k: v.clone() for k, v in run.backbone.state_dict().items()}
    loop.training_step(run, batch_of(run), 2)
    assert run.backbone.training
    still = {k for k, v in run.backbone.state_dict().items() if torch.equal(v, before[k])}
    assert not {k for k in still if k.endswith(("running_mean", "_conv_stem.weight", "neck.1.weight"))}


def test_what_is_frozen_stays_frozen_after_the_head(plain):
    raw = with_(plain, train={"head_first_steps": 1}, model={"freeze": ["tokens"]})
    run = build(check_settings(raw))
    changed = moved(run, steps=3)
    assert any(k.startswith("encoder.") for k in changed)
    assert not any(k.startswith("tokens.") for k in changed)


def test_the_head_cannot_be_first_where_it_has_no_weights_or_no_step_is_left(plain):
    triplet = with_(
        plain, train={"head_first_steps": 2}, data={"sampler": {"name": "identities", "args": {"images": 2}}}
    )
    with pytest.raises(ConfigError, match="no head here has weights"):
        build(check_settings({**triplet, "head": "triplet"}))
    with pytest.raises(ConfigError, match="train.head_first_steps: 12 in a run of 12"):
        build(check_settings(with_(plain, train={"head_first_steps": 12})))


# ---- all of it, resumed


def killed_at(raw: dict, folder, step: int) -> None:
    """The run in a process of its own, which gets a kill -9 at ``step``."""
    own = loop.training_step

    def target():
        write.free_memory = lambda: 0  # so that a checkpoint is there when its step is over
        loop.training_step = lambda run, batch, now: (
            os.kill(os.getpid(), signal.SIGKILL) if now == step else own(run, batch, now)
        )
        start_run(check_settings(raw), folder)

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


# Checkpoints are written every 4 steps and the head is alone for the first 6: taken up before, and behind, its end.
@pytest.mark.parametrize("step", [5, 6, 9])
@pytest.mark.parametrize("kind", ["whole", "lora", "sgd"])
def test_a_killed_run_ends_as_an_unbroken_one(plain, source, tmp_path, step, kind):
    raw = with_(plain, train={"head_first_steps": 6}, optim={"layer_decay": 0.7, "ema": 0.9})
    raw = with_(raw, model={"init_from": str(source), "freeze": ["tokens"]})
    if kind == "lora":
        raw = with_(raw, model={"lora": {"rank": 2}})
    if kind == "sgd":
        raw = with_(raw, optim={"name": "sgd"})
    start_run(check_settings(raw), tmp_path / "straight")
    killed_at(raw, tmp_path / "run", step)
    assert find_checkpoint(tmp_path / "run").step == step // 4 * 4
    start_run(check_settings(raw), tmp_path / "run")
    first, second = (find_checkpoint(tmp_path / name) for name in ("straight", "run"))
    assert first.step == second.step == 12
    a, b = first.state(), second.state()
    assert all(torch.equal(v, b["task"][k]) for k, v in a["task"].items())
    weights = second.weights()
    assert all(torch.equal(v, weights[k]) for k, v in first.weights().items())
    for name, moments in a["moments"].items():
        assert all(torch.equal(v, b["moments"][name][k]) for k, v in moments.items())
    rows = [
        [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_rows(folder / "metrics.jsonl")]
        for folder in (tmp_path / "straight", tmp_path / "run")
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"freeze": ["encoder.blocks.1"]}}, r"trained other parameters.*\n  missing \(11\): .*blocks\.0\."),
        ({"optim": {"name": "sgd", "lr": 1e-3}}, r"is another one, see .*\n  missing \(1\): momentum_buffer\n"),
    ],
)
def test_moments_of_other_parameters_are_refused(plain, tmp_path, change, words):
    raw = with_(plain, model={"freeze": ["encoder.blocks.0"]})
    start_run(check_settings(with_(raw, train={"steps": 4})), tmp_path / "run")
    with pytest.raises(CheckpointError, match=words):
        start_run(check_settings(with_(raw, **change)), tmp_path / "run", with_changes=True)


def test_rates_and_decays_that_change_on_a_resume_are_those_of_the_settings(plain, tmp_path):
    raw = with_(plain, optim={"layer_decay": 0.5, "weight_decay": 0.1})
    start_run(check_settings(with_(raw, train={"steps": 4})), tmp_path / "run")
    other = check_settings(with_(raw, optim={"layer_decay": 0.25, "weight_decay": 0.2}))
    groups = start_run(other, tmp_path / "run", with_changes=True).run.optimizer.param_groups
    assert {g["lr_scale"] for g in groups} == {1, 0.25, 0.25**2, 0.25**3}
    assert {g["weight_decay"] for g in groups} == {0, 0.2}


def test_what_is_trained_is_said_before_the_first_step(plain, tmp_path, caplog):
    caplog.set_level(logging.INFO, "facetx")
    start_run(check_settings(with_(plain, train={"steps": 1}, model={"freeze": ["tokens"]})), tmp_path / "run")
    assert "frozen: tokens" in caplog.text


def test_the_settings_are_yaml(tmp_path):
    text = """
name: fine
data: synthetic_faces
model:
  name: vit_tiny
  init_from: runs/first
  freeze: [tokens, "encoder.blocks.[0-2]"]
  lora: {rank: 4, alpha: 8, patterns: ["*.qkv"]}
head: cosface
optim: {lr: 1e-4, layer_decay: 0.75}
train: {steps: 10, batch_size: 4, head_first_steps: 5}
"""
    (tmp_path / "fine.yaml").write_text(text)
    settings = load_settings(tmp_path / "fine.yaml")
    assert settings.model.freeze == ("tokens", "encoder.blocks.[0-2]")
    assert settings.model.lora.alpha == 8
    assert (settings.optim.layer_decay, settings.train.head_first_steps) == (0.75, 5)


# ---- heads and what they need of the run


def test_center_loss_cannot_be_switched_on_later(plain, tmp_path):
    start_run(check_settings(with_(plain, train={"steps": 4})), tmp_path / "run")
    both = {**plain, "head": [plain["head"], {"name": "center_loss", "weight": 0.01}]}
    with pytest.raises(CheckpointError, match=r"from its first step .*switched on later(.*\n)+.*head.parts.1.centers"):
        start_run(check_settings(both), tmp_path / "run", with_changes=True)
    start_run(check_settings(with_(both, train={"steps": 4})), tmp_path / "both")
    assert start_run(check_settings(both), tmp_path / "both").step == 12


@pytest.mark.parametrize("head", ["contrastive", "triplet", "circle", "logistic_pairs", "npairs"])
def test_a_pair_loss_on_batches_without_pairs_is_told(head):
    raw = {
        **_minimal(),
        "head": ["cosface", head],
        "data": {"name": "synthetic_faces", "args": {"identities": 100, "size": 32}},
    }
    raw["model"] = {"name": "vit_tiny", "args": {"image_size": 32, "depth": 1}}
    with pytest.raises(ConfigError, match=rf"head {head}: .* sampler 'shuffled' only \d+% .* set data.sampler"):
        build(check_settings(raw))
    raw["data"]["sampler"] = {"name": "identities", "args": {"images": 1}}
    with pytest.raises(ConfigError, match="sampler 'identities' only 0%"):
        build(check_settings(raw))
    raw["data"]["sampler"]["args"]["images"] = 2
    assert build(check_settings(raw)).steps_per_epoch


def test_labels_beyond_the_classes_are_told_before_training(plain, monkeypatch):
    def too_few():
        data = DATASETS["image_folder"](**plain["data"]["args"])
        data.num_classes = 5
        return data

    monkeypatch.setitem(DATASETS._table, "too_few", too_few)
    with pytest.raises(DataError, match="labels run from 0 to 5, and with 5 classes they must be in 0 to 4"):
        build(check_settings({**plain, "data": "too_few"}))
