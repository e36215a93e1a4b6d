"""The loop: it learns, survives what is not finite, keeps the best, and tells what is wrong with the data."""

import logging
import re
import shutil
import time

import pytest
import torch
from PIL import Image

from facetx.checkpoints import write as checkpoint_module
from facetx.checkpoints.format import find_checkpoint
from facetx.config import check_settings
from facetx.data.sets.folder import ImageFolder
from facetx.errors import CheckpointError, ConfigError, DataError
from facetx.training import DivergedError, build, describe_run, loop, start_run
from facetx.training.probes import open_data
from facetx.training.sinks import read_rows


def settings_with(small, **sections):
    raw = {**small, **{k: {**small[k], **v} for k, v in sections.items()}}
    return check_settings(raw)


def test_it_learns_and_leaves_what_it_promises(small, tmp_path):
    start_run(settings_with(small, train={"steps": 60, "log_every": 5}, optim={"lr": 3e-3}), tmp_path)
    rows = read_rows(tmp_path / "metrics.jsonl")
    losses = [r["train/loss"] for r in rows if "train/loss" in r]
    assert losses[-1] < 0.7 * losses[0]
    assert rows[-1]["val/accuracy"] > 0.8
    for name in ("training.png", "roc.png", "val_scores.png", "val_pairs.png"):
        assert Image.open(tmp_path / "pictures" / name).size[0] > 300
    assert list((tmp_path / "tensorboard").iterdir())
    meta = find_checkpoint(tmp_path).meta
    assert meta.input.size == 32
    assert meta.as_dict()["settings"]["optim"]["lr"] == 3e-3
    assert meta.metrics["step"] == 60


def test_the_best_checkpoint_stays(small, tmp_path, monkeypatch):
    values = iter([0.9, 0.5, 0.6])
    own = loop.evaluate

    def scripted(run, evaluators, ema):
        results = own(run, evaluators, ema)
        value = next(values)

        class Scripted:
            accuracy = results["val"].accuracy

            def summary(self):
                return {"accuracy": value}

        return {"val": Scripted()}

    monkeypatch.setattr(loop, "evaluate", scripted)
    settings = settings_with(small, train={"steps": 18, "checkpoint_every": 7, "keep": 1})
    loop.train(settings, tmp_path)
    assert find_checkpoint(tmp_path, "BEST").step == 6
    assert find_checkpoint(tmp_path, "LAST").step == 18
    assert sorted(p.name for p in (tmp_path / "checkpoints").glob("step_*")) == ["step_00000006", "step_00000018"]


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(small):
    run = build(settings_with(small))
    batch = {"image": torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8), "label": torch.arange(6)}
    _, finite = loop.training_step(run, batch, 0)
    assert finite
    before = {k: v.clone() for k, v in run.task.state_dict().items()}
    moments = [v["exp_avg"].clone() for v in run.optimizer.state.values()]

    own = run.task.head.forward

    def broken(embeddings, labels):
        out = own(embeddings, labels)
        return {**out, "loss": out["loss"] * float("nan")}

    run.task.head.forward = broken
    scalars, finite = loop.training_step(run, batch, 1)
    assert not finite
    assert all(torch.equal(v, before[k]) for k, v in run.task.state_dict().items())
    assert all(torch.equal(v["exp_avg"], m) for v, m in zip(run.optimizer.state.values(), moments))

    progress = loop.Progress()
    progress.add({"loss": torch.tensor(2.0)}, torch.tensor(True))
    progress.add({"loss": scalars["loss"]}, finite)
    assert progress.row() == {"train/loss": 2.0, "train/skipped": 1}
    run.task.head.forward = own
    assert loop.training_step(run, batch, 2)[1]


def test_too_many_of_them_in_a_row_stop_the_run(small, tmp_path, monkeypatch):
    own = loop.training_step

    def from_the_fifth_on(run, batch, step):
        scalars, finite = own(run, batch, step)
        return (scalars, finite) if step < 4 else ({**scalars, "loss": scalars["loss"] * float("nan")}, ~finite)

    monkeypatch.setattr(loop, "training_step", from_the_fifth_on)
    settings = settings_with(small, train={"steps": 30, "stop_after_bad_steps": 5})
    with pytest.raises(DivergedError, match=r"steps 5 to 9: .* 5 in a row.*lower optim.lr"):
        loop.train(settings, tmp_path)
    assert find_checkpoint(tmp_path).step == 8


def test_accumulation_is_the_same_step(small):
    gradients = []
    for parts in (1, 3):
        run = build(
            settings_with(
                small,
                optim={"accumulate": parts, "clip_norm": None},
                model={"args": {**small["model"]["args"], "dropout": 0.0}},
            )
        )
        torch.manual_seed(1)
        batch = {"image": torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8), "label": torch.arange(6)}
        loop.training_step(run, batch, 0)
        gradients.append([p.grad.clone() for p in run.task.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_unreadable_images_are_named_counted_and_skipped(small, faces, tmp_path, caplog):
    root = tmp_path / "faces"
    shutil.copytree(faces, root)
    for name in ("person_1/2.png", "person_3/0.png"):
        (root / name).write_bytes((root / name).read_bytes()[:200])
    data = {"args": {"root": str(root)}, "workers": 2}
    raw = {**small, "data": {**small["data"], **data}, "evaluators": [], "select": None}
    loop.train(check_settings(raw), tmp_path / "run")
    named = [r.message for r in caplog.records if "cannot be read as an image" in r.message]
    assert len(named) == 2
    assert "person_1/2.png" in " ".join(named)
    raw["data"] = {**raw["data"], "skip_limit": 1}
    with pytest.raises(DataError, match="more than data.skip_limit = 1 images are unreadable"):
        loop.train(check_settings(raw), tmp_path / "run2")


def test_an_image_of_another_size_is_named_with_the_remedy(small, faces, tmp_path):
    root = tmp_path / "faces"
    shutil.copytree(faces, root)
    odd = root / "person_2/1.png"
    Image.open(odd).resize((40, 36)).save(odd)
    raw = {**small, "data": {**small["data"], "args": {"root": str(root)}}, "evaluators": [], "select": None}
    raw["data"]["skip_limit"] = 0
    with pytest.raises(DataError, match=r"person_2/1.png: is 40x36, and would be squashed to 32x32.*crop: true"):
        loop.train(check_settings(raw), tmp_path / "run")
    raw["data"]["transforms"] = [{"name": "resize", "args": {"size": 32}}]
    assert loop.train(check_settings(raw), tmp_path / "run2").step == 12
    raw["data"] |= {"transforms": [], "crop": True}
    pairs = {"name": "pairs", "data": {"name": "image_folder", "args": {"root": str(root)}}, "allow_overlap": True}
    with pytest.raises(DataError, match=r"person_2/1.png: is 40x36, and would be squashed"):
        loop.train(check_settings({**raw, "evaluators": [pairs]}), tmp_path / "run3")
    raw["evaluators"] = [{**pairs, "crop": True}]
    assert loop.train(check_settings(raw), tmp_path / "run4").step == 12


@pytest.fixture
def no_step(monkeypatch):
    def step(*_):
        raise AssertionError("no step may be made")

    monkeypatch.setattr(loop, "training_step", step)


def test_an_evaluators_images_are_tried_before_the_first_step(small, faces, tmp_path, no_step):
    root = tmp_path / "faces"
    shutil.copytree(faces, root)
    for image in root.glob("*/*.png"):
        Image.open(image).resize((40, 40)).save(image)
    raw = {**small, "evaluators": [small["evaluators"][0], {**small["evaluators"][0]}]}
    raw["evaluators"][1] = {"name": "folder_pairs", "args": {**raw["evaluators"][0]["args"], "root": str(root)}}
    raw["evaluators"][1]["args"] |= {"name": "larger", "size": 40}
    with pytest.raises(DataError, match=r"evaluator larger: .*png: the image is 40x40, .* faces of 32x32"):
        loop.train(check_settings(raw), tmp_path / "run")


def test_an_evaluators_keypoints_are_looked_for_before_the_first_step(small, tmp_path, no_step):
    model = {"name": "vit_kprpe_tiny", "args": {"image_size": 32, "depth": 1}}
    data = {"name": "synthetic_faces", "args": {"identities": 6, "images_per_identity": 3, "size": 32}}
    with pytest.raises(DataError, match="evaluator val: .* this model needs five keypoints, and none are known"):
        loop.train(check_settings({**small, "model": model, "data": data}), tmp_path / "run")


def test_trying_reads_one_item_of_each_and_draws_no_random_number(small, monkeypatch):
    asked = []
    own = ImageFolder.__getitem__
    monkeypatch.setattr(ImageFolder, "__getitem__", lambda self, index: asked.append((self, index)) or own(self, index))
    run = build(settings_with(small))
    describe_run(run)  # with build, this is the dry run
    assert asked == []
    forward = run.backbone.forward
    run.backbone.forward = lambda x: forward(x) + torch.rand(1)
    before = torch.get_rng_state()
    open_data(run)
    used = {int(i) for i in (*run.evaluators[0].first, *run.evaluators[0].second)}
    assert [faces for faces, _ in asked] == [run.dataset, run.evaluators[0].dataset]
    assert asked[1][1] in used
    assert run.backbone.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_does_not_run_is_said_before_the_first_step(small, tmp_path, monkeypatch, no_step):
    def broken(self, images):
        raise IndexError("index 5 is out of bounds")

    monkeypatch.setattr("facetx.nn.transformer.FaceTransformer.forward", broken)
    monkeypatch.setattr(loop, "describe_run", lambda run: "")
    words = r"model vit_p8s8_tiny does not run on images of 32 pixels \(IndexError: index 5 .*model.args.image_size"
    with pytest.raises(ConfigError, match=words):
        loop.train(settings_with(small), tmp_path)


def test_a_full_disk_is_said_and_costs_no_checkpoint(small, tmp_path, monkeypatch, caplog):
    own = checkpoint_module.save_checkpoint
    full = {8}

    def save(folder, meta, *what):
        with monkeypatch.context() as patch:
            if meta.step in full:
                patch.setattr(checkpoint_module.torch, "save", no_space)
            return own(folder, meta, *what)

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "save_checkpoint", save)
    loop.train(settings_with(small), tmp_path)
    assert "step_00000008: could not be written" in caplog.text
    assert "No space left on device" in caplog.text
    assert find_checkpoint(tmp_path).step == 12

    full |= {4, 6, 12}
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match="Free some space and resume"):
        loop.train(settings_with(small), tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "cuda"}, "PyTorch finds no CUDA device"),
        ({"schedule": {"warmup_steps": 12}}, "12 steps of warm-up in a run of 12"),
        ({"optim": {"lr": 1e-3, "accumulate": 4}}, "accumulate: 4 does not divide train.batch_size 6"),
        ({"select": "other/accuracy"}, "'other/accuracy' is no value of an evaluator; they are val"),
        ({"train": {"steps": 5, "batch_size": 31}}, "30 images do not fill one batch of 31"),
        ({"model": {"name": "vit_p8s8_tiny", "args": {"image_size": 33}}}, "backbone vit_p8s8_tiny: patches of 8"),
        ({"head": {"name": "cosface", "args": {"margin": -1.0}}}, "head cosface: m"),
    ],
)
def test_what_cannot_be_built_is_said_before_the_first_step(small, changes, words):
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises((ConfigError, DataError), match=words):
        build(check_settings({**small, **changes}))


def test_the_dry_run_tells_the_cost(small):
    text = describe_run(build(check_settings(small)))
    for words in ("30 images of 6 identities", "12 of 6 images", "GMACs", "MiB on cpu"):
        assert words in text
    assert "\n  input       32x32 RGB, (x - 127.5) / 127.5, aligned to arcface\n" in text
    assert "\n  head        0.00 M parameters\n" in text
    small["head"], small["data"]["sampler"] = "triplet", {"name": "identities", "args": {"images": 3}}
    assert "\n  head " not in describe_run(build(check_settings(small)))


def test_what_it_tells_at_the_end_is_short(small, tmp_path, caplog):
    caplog.set_level(logging.INFO, "facetx")
    outcome = loop.train(settings_with(small), tmp_path / "run")
    assert "of which evaluations took" in caplog.records[-1].message
    assert repr(outcome).startswith("Outcome(step=12, total_steps=12, signal=0, ")
    caplog.clear()
    loop.train(check_settings({**small, "evaluators": [], "select": None}), tmp_path / "bare")
    assert "evaluations" not in caplog.text


def test_the_share_of_time_that_data_is_waited_for_is_in_the_rows(small, tmp_path, monkeypatch, capsys, plain_pictures):
    read = loop.batches_of

    def slowly(loader):
        for batch in read(loader):
            time.sleep(0.05)
            yield batch

    monkeypatch.setattr(loop, "batches_of", slowly)
    loop.train(settings_with(small), tmp_path / "run")
    rows = [row for row in read_rows(tmp_path / "run/metrics.jsonl") if "time/data_wait" in row]
    assert len(rows) == 4
    assert all(0.05 < row["time/data_wait"] <= 1 for row in rows)
    assert re.search(r"step 12/12  loss [\d.]+, \d+ images/s, \d+ % waiting for data, ", capsys.readouterr().err)
