"""Exported files compute what PyTorch does, say what they are, and are evaluated like the run itself."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from conftest import ByPlace
from torch import nn

import facetx
from facetx.backbones import BACKBONES
from facetx.benchmarks.embedding_cache import EmbeddingCache
from facetx.benchmarks.receipts import make_receipt, network_digest, weights_digest
from facetx.checkpoints.exported import KEY, Facts, read_facts
from facetx.contract import InputContract
from facetx.data.base import Description
from facetx.data.mask_classes import colors_of
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import CheckpointError, ConfigError, DataError, ExportError, UnknownNameError
from facetx.evaluators import build_evaluator, predictions
from facetx.exporting import export, quantize
from facetx.exporting.beside import decisions_beside
from facetx.inference.model import FaceModel, load_task
from facetx.nn.backbone import Backbone
from facetx.tasks import TASKS, Task

onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
pytest.importorskip("onnxscript", reason="needs the extra 'export'")

SMALL = {"image_size": 32, "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32}
BGR = InputContract(size=32, color="BGR", mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))


def vit():
    backbone = BACKBONES.create("vit_p8s8_tiny", head_dim=8, **SMALL).eval()
    backbone.contract = BGR
    return backbone


def kprpe():
    backbone = BACKBONES.create("vit_kprpe_tiny", depth=1).eval()
    nn.init.normal_(backbone.bias.table.weight)  # it starts at zero, and would hide a wrong table
    return backbone


class Traits(Task):
    """Embedding, attributes and a mask, which hang on the image."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.traits = nn.Linear(backbone.embedding_dim, 28)
        self.mask = nn.Linear(backbone.embedding_dim, 3 * 16)
        self.attribute_names = SyntheticFaces(identities=2).attribute_names

    def forward(self, batch):
        return {"loss": self.predict(batch)["attributes"].sum()}

    def predict(self, batch):
        x = self.embed(batch)
        return {"embedding": x, "attributes": self.traits(x), "mask": self.mask(x).view(-1, 3, 4, 4)}

    def published(self):
        return self


def meta_of_traits():
    return {
        "step": 7,
        "license": "MIT",
        "settings": {"name": "traits", "seed": 3, "task": {"name": "traits"}, "model": {"name": "vit_p8s8_tiny"}},
        "data": {
            "attributes": list(SyntheticFaces(identities=2).attribute_names),
            "mask_classes": ["a", "b", "c"],
            "mask_colors": [[0, 0, 0], [9, 8, 7], [255, 1, 2]],
        },
    }


@pytest.fixture(scope="module")
def traits():
    torch.manual_seed(0)
    return FaceModel(Traits(vit()), "cpu", meta_of_traits())


@pytest.fixture(scope="module")
def onnx_file(traits, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "traits.onnx"
    export(traits, path)
    return path


def noise(batch, size=32):
    return torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-4 * wanted.abs().max().item())


def test_onnx_gives_what_predict_gives_by_name_at_any_batch(traits, onnx_file):
    session = onnxruntime.InferenceSession(str(onnx_file))
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("image", "tensor(uint8)", ["batch", 3, 32, 32])
    ]
    for batch in (1, 2, 5):
        images = noise(batch)
        with torch.no_grad():
            wanted = traits.model.predict({"image": images})
        found = session.run(list(wanted), {"image": images.numpy()})
        for value, name in zip(found, wanted):
            close(value, wanted[name])


def test_the_file_says_what_it_is_and_nothing_of_the_machine(traits, onnx_file):
    file = onnx.load(str(onnx_file))
    assert {o.domain: o.version for o in file.opset_import}[""] == 20
    facts = json.loads({p.key: p.value for p in file.metadata_props}[KEY])
    backbone = traits.backbone
    assert facts["difference"] <= 1e-4
    del facts["difference"]
    assert facts == {
        "format": 1,
        "task": "traits",
        "outputs": {"embedding": [16], "attributes": [28], "mask": [3, 4, 4]},
        "input": {"size": 32, "color": "BGR", "mean": [100, 110, 120], "std": [50, 60, 70], "alignment": "arcface"},
        "preprocessing": "in the graph: uint8 RGB (B, 3, H, W)",
        "keypoints": False,
        "attributes": list(traits.model.attribute_names),
        "mask_classes": ["a", "b", "c"],
        "mask_colors": [[0, 0, 0], [9, 8, 7], [255, 1, 2]],
        "license": "MIT",
        "source": {"name": "traits", "step": 7, "seed": 3, "model": "vit_p8s8_tiny"},
        "weights": weights_digest(traits.model),
        "network": network_digest(backbone),
        "precision": "fp32",
        "facetx": facetx.__version__,
        "torch": torch.__version__,
    }
    assert b"site-packages" not in onnx_file.read_bytes()
    assert str(__file__).encode() not in onnx_file.read_bytes()


def test_a_loaded_file_is_a_model_like_the_run(traits, onnx_file):
    model = facetx.load_model(onnx_file)
    assert model.contract.as_dict() == traits.contract.as_dict()
    assert model.meta["step"] == 7
    faces = SyntheticFaces(identities=4, images_per_identity=4, size=32)
    images = [faces[i]["image"] for i in range(3)]
    np.testing.assert_allclose(model.embed(images), traits.embed(images), atol=1e-5)
    assert model.compare(*images[:2]) == pytest.approx(traits.compare(*images[:2]), abs=1e-5)
    for name, value in traits.predict(images).items():
        np.testing.assert_allclose(model.predict(images)[name], value, atol=1e-4)
    task = load_task(onnx_file)
    assert task.attribute_names == traits.model.attribute_names
    outputs = [o for _, _, (o,) in predictions(task, faces)]
    assert outputs[0]["mask"].shape == (16, 3, 4, 4)
    with pytest.raises(ConfigError, match="cannot be trained"):
        task({"image": noise(1)})
    with pytest.raises(ConfigError, match="no feature maps"):
        model.backbone.features(noise(1))
    with pytest.raises(ConfigError, match="runs on the CPU"):
        facetx.load_model(onnx_file, device="cuda")


def test_results_and_receipts_are_those_of_the_run_but_for_what_ran_it(traits, onnx_file, tmp_path):
    faces = SyntheticFaces(identities=8, images_per_identity=4, size=32)
    evaluator = build_evaluator("pairs", faces, {"folds": 2, "pairs_per_fold": 10})
    exported = facetx.load_model(onnx_file)
    a, b = traits.evaluate(evaluator), exported.evaluate(evaluator)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    assert a.summary() == pytest.approx(b.summary(), abs=1e-4)
    first, second = (make_receipt(evaluator, m.model, seed=3) for m in (traits, exported))
    assert second.versions == {**first.versions, "onnxruntime": onnxruntime.__version__}
    assert dataclasses.replace(second, versions=first.versions) == first
    kept, other = (EmbeddingCache.key(m.backbone, faces, [0, 1], "cpu", True, False) for m in (traits, exported))
    own = {"runtime": "onnxruntime", "weights": weights_digest(traits.model)}
    assert other == {**kept, **own}  # so neither is answered with the other's embeddings
    torch.manual_seed(1)
    others = FaceModel(Traits(traits.backbone), "cpu", traits.meta)
    assert export(others, tmp_path / "others.onnx").facts.weights != first.weights  # other heads on one backbone


def test_masks_are_those_of_pytorch_and_so_is_what_is_said_of_them(tmp_path):
    faces = SyntheticFaces(identities=10, images_per_identity=2, size=48)
    model = FaceModel(ByPlace(faces), "cpu")
    written = export(model, tmp_path / "masks.onnx")
    assert written.facts.outputs == {"mask": (11, 32, 32)}
    assert written.facts.mask_classes == faces.mask_classes
    assert written.facts.mask_colors == faces.description().mask_colors
    exported = facetx.load_model(tmp_path / "masks.onnx")
    images = [faces[i]["image"] for i in range(3)]
    np.testing.assert_allclose(exported.predict(images)["mask"], model.predict(images)["mask"], atol=1e-4)
    a, b = (m.evaluate("parsing", faces) for m in (model, exported))
    np.testing.assert_array_equal(a.counts, b.counts)
    assert {**a.as_dict(), "colors": a.colors} == {**b.as_dict(), "colors": b.colors}


def test_int8_masks_stand_beside_those_of_fp32(tmp_path):
    faces = SyntheticFaces(identities=4, images_per_identity=2, size=32)
    facts = {"exported": {"attributes": []}}
    fine, other = (FaceModel(ByPlace(faces, noise=noise), "cpu", facts) for noise in (0.0, 0.5))
    fine.backbone.embedding_dim = 0  # as of a file that gives masks alone
    (table,) = decisions_beside(fine, other, faces)
    assert table.title == "A is fp32, B int8"
    assert table.rows[0][0] == "mean F1"
    a, b = (model.evaluate("parsing", faces).summary()["mean_f1"] for model in (fine, other))
    assert table.rows[0][1].startswith(f"{100 * a:.2f} %")
    assert table.rows[0][3].startswith(f"{100 * (b - a):+.2f} ")
    faces.mask_classes = ("background", "skin")
    with pytest.raises(DataError, match="no people, attributes or masks"):
        decisions_beside(fine, other, faces)


def test_keypoints_are_the_second_input(tmp_path):
    backbone = kprpe()
    path = tmp_path / "kprpe.onnx"
    written = facetx.export(backbone, path)
    assert written.facts.keypoints
    assert written.facts.task == "recognition"
    model = facetx.load_model(path)
    size = backbone.contract.size
    images, points = noise(3, size), torch.rand(3, 5, 2)
    with torch.no_grad():
        wanted = backbone(backbone.contract(images), points)
    close(model.backbone(images, points).numpy(), wanted)
    assert not np.allclose(model.backbone(images, points.flip(0)).numpy(), wanted.numpy(), rtol=1e-2)
    with pytest.raises(DataError, match="a backbone alone predicts nothing"):
        model.predict([np.zeros((size, size, 3), np.uint8)], keypoints=points[:1].numpy())


@pytest.mark.parametrize("name", ["facerec_tiny", "cct_tiny", "mobilefacenet", "timm:resnet10t"])
def test_families_export(tmp_path, name):
    """Those with attention biases, sequence pooling, convolutions; each export is checked against PyTorch."""
    written = export(BACKBONES.create(name).eval(), tmp_path / "x.onnx")
    assert written.facts.difference <= 1e-4


@pytest.mark.parametrize(("to", "suffix"), [("torchscript", ".pt"), ("exported", ".pt2")])
def test_pytorch_s_own_files(traits, tmp_path, to, suffix):
    path = tmp_path / f"x{suffix}"
    written = export(traits, path, to)
    extra = {"facetx.json": ""}
    if to == "torchscript":
        module = torch.jit.load(path, _extra_files=extra)
    else:
        module = torch.export.load(path, extra_files=extra).module()
    text = extra["facetx.json"]
    assert read_facts(text if isinstance(text, str) else text.decode(), "x") == written.facts
    images = noise(4)
    with torch.no_grad():
        found, wanted = module(images), traits.model.predict({"image": images})
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        close(found[name].numpy(), value)


def test_int8_is_near_and_says_so(traits, onnx_file, tmp_path):
    faces = SyntheticFaces(identities=12, images_per_identity=4, size=32)
    path = tmp_path / "x.int8.onnx"
    written = quantize(onnx_file, path, faces, count=16)
    assert written.facts.precision == "int8"
    assert 1e-4 < written.facts.difference < 0.3
    kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    coarse, fine = facetx.load_model(path), facetx.load_model(onnx_file)
    receipt = make_receipt(build_evaluator("pairs", faces, {"folds": 2, "pairs_per_fold": 5}), coarse.backbone)
    assert receipt.precision == "int8"
    (table,) = decisions_beside(fine, coarse, faces)  # its masks have other classes
    assert [row[0] for row in table.rows] == ["pairs", "attributes"]
    labels = torch.stack([torch.as_tensor(faces[i]["attributes"]) for i in range(len(faces))])
    images = [faces[i]["image"] for i in range(len(faces))]
    right = ((torch.from_numpy(fine.predict(images)["attributes"]) > 0) == (labels > 0.5)).float().mean()
    assert table.rows[1][1:3] == (str(labels.numel()), f"{100 * right:.2f} %")
    with pytest.raises(ExportError, match="is of int8"):
        quantize(path, tmp_path / "y.onnx")
    with pytest.raises(DataError, match="64x64 pixels, and the model takes 32x32"):
        quantize(onnx_file, tmp_path / "y.onnx", SyntheticFaces(identities=2, size=64))


def test_core_ml_says_what_it_takes_and_gives(traits, tmp_path):
    ct = pytest.importorskip("coremltools", reason="needs the extra 'export-coreml'")
    path = tmp_path / "x.mlpackage"
    for _ in range(2):  # an earlier one is replaced
        written = export(traits, path, "coreml")
    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    (image,) = spec.description.input
    assert (image.type.imageType.width, image.type.imageType.height) == (32, 32)
    assert image.type.imageType.colorSpace == image.type.imageType.BGR
    assert {o.name: tuple(o.type.multiArrayType.shape) for o in spec.description.output} == {
        "embedding": (1, 16),
        "attributes": (1, 28),
        "mask": (1, 3, 4, 4),
    }
    assert read_facts(spec.description.metadata.userDefined[KEY], "x") == written.facts
    assert (written.facts.precision, written.facts.difference) == ("fp16", None)
    assert [p.name for p in tmp_path.iterdir()] == ["x.mlpackage"]
    assert isinstance(traits.contract, InputContract)
    assert traits.contract == BGR


def test_core_ml_scales_as_the_contract_does(traits):
    from facetx.exporting.coreml import Scaled, scale_and_bias
    from facetx.exporting.graph import subject_of

    images = noise(2)
    scale, bias = scale_and_bias(BGR)
    scaled = scale * images.float().flip(1) + torch.tensor(bias).view(1, 3, 1, 1)  # what the image input does
    with torch.no_grad():
        embedding, *_ = Scaled(subject_of(traits).graph)(scaled)
        close(embedding.numpy(), traits.model.embed({"image": images}))


class Odd(Backbone):
    """A network that tracing gets wrong, or that no other program knows."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.contract, self.embedding_dim = kind, InputContract(size=16), 4
        self.number = nn.Parameter(torch.ones(1))

    def forward(self, images, keypoints=None):
        x = images.mean(dim=(2, 3)) * self.number
        if self.kind == "unknown":
            return torch.special.bessel_j0(torch.cat([x, x], 1)[:, :4])
        if self.kind == "nan":
            return torch.cat([x, x.log()], 1)[:, :4] / 0
        if self.kind == "fixed":
            return torch.cat([x, x], 1)[:, :4] * (2.0 if x.shape[0] == 2 else 1.0)
        if self.kind == "data" and x.sum() > 100:
            x = x + 1
        return torch.cat([x, x.new_ones(len(x), 1)], 1)  # the length is a plain number to torch.export

    def features(self, images, keypoints=None):
        return []


@pytest.mark.parametrize(
    ("kind", "to", "words"),
    [
        ("unknown", "onnx", r"Odd cannot be exported to ONNX: the operation \w+.\w*bessel_j0"),
        ("fixed", "torchscript", r"output 'embedding' differs from PyTorch's by 1 .* at batch 1"),
        ("nan", "exported", "output 'embedding' is not finite in PyTorch itself"),
        ("batch", "exported", "Odd cannot be exported to an exported program"),
        ("data", "onnx", "Odd cannot be exported to ONNX"),
    ],
)
def test_what_cannot_be_exported_leaves_no_file(tmp_path, kind, to, words):
    suffix = {"onnx": ".onnx", "torchscript": ".pt", "exported": ".pt2"}[to]
    with pytest.raises(ExportError, match=words):
        export(Odd(kind), tmp_path / f"x{suffix}", to)
    assert not list(tmp_path.iterdir())


def test_a_mistake_says_what_to_do(traits, onnx_file, tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="no export to 'onx'; did you mean 'onnx'"):
        export(traits, tmp_path / "x.onnx", "onx")
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        export(traits, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match="opset 5: facetx writes opsets 18 to 23"):
        export(traits, tmp_path / "x.onnx", opset=5)
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        export(tmp_path, tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="is an exported one already"):
        export(onnx_file, tmp_path / "x.onnx")
    for package, to, suffix in (("onnxscript", "onnx", ".onnx"), ("coremltools", "coreml", ".mlpackage")):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, package, None)
            with pytest.raises(ConfigError, match=r"pip install 'facetx\[export"):
                export(traits, tmp_path / f"x{suffix}", to)
    assert not list(tmp_path.iterdir())


def test_images_to_check_on_must_fit(traits, tmp_path):
    with pytest.raises(DataError, match="64x64 pixels, and the model takes 32x32"):
        export(traits, tmp_path / "x.pt", "torchscript", images=SyntheticFaces(identities=2, size=64))
    written = export(traits, tmp_path / "x.pt", "torchscript", images=SyntheticFaces(identities=2, size=32))
    assert written.checked.endswith(", drawn faces and synthetic(2 x 20)")
    elsewhere = {
        **traits.meta,
        "settings": {**traits.meta["settings"], "data": {"name": "packed", "args": {"path": "no"}}},
    }
    written = export(FaceModel(traits.model, "cpu", elsewhere), tmp_path / "x.pt", "torchscript")
    assert written.checked.endswith(", of noise, drawn faces")


def rewritten(onnx_file, path, change):
    file = onnx.load(str(onnx_file))
    facts = json.loads({p.key: p.value for p in file.metadata_props}[KEY])
    change(file, facts)
    if facts:
        onnx.helper.set_model_props(file, {KEY: json.dumps(facts)})
    else:
        del file.metadata_props[:]
    onnx.save(file, str(path))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file, facts: facts.clear(), "does not say what it expects"),
        (lambda file, facts: facts.update(format=2), "exported in format 2"),
        (lambda file, facts: facts.update(outputs={"embedding": [17]}), "its description says otherwise"),
        (lambda file, facts: facts.update(weights="x"), "its description is damaged .weights"),
        (lambda file, facts: facts["input"].update(std=[0.0]), "its description is damaged"),
        (lambda file, facts: facts.pop("input"), "its description is damaged .input"),
        (lambda file, facts: facts.update(surprise=1), "its description is damaged .surprise"),
    ],
)
def test_files_of_others_are_refused(onnx_file, tmp_path, change, words):
    with pytest.raises(CheckpointError, match=words):
        facetx.load_model(rewritten(onnx_file, tmp_path / "x.onnx", change))


def test_a_damaged_file_is_named(onnx_file, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(onnx_file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="x.onnx: is no ONNX file that can be run"):
        facetx.load_model(path)
    with pytest.raises(DataError, match="y.onnx: no such file"):
        facetx.load_model(tmp_path / "y.onnx")


def test_nothing_beside_the_file_is_read(onnx_file, tmp_path):
    """Weights in another file, by whatever path, are not looked for."""
    file = onnx.load(str(onnx_file))
    path = tmp_path / "x.onnx"
    onnx.save(file, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(CheckpointError, match="is no ONNX file that can be run"):
        facetx.load_model(path)


def test_the_export_leaves_the_model_as_it_was(tmp_path):
    backbone = vit().train()
    before = weights_digest(backbone)
    buffer = io.BytesIO()
    export(backbone, tmp_path / "x.pt2", "exported")
    assert backbone.training
    assert all(p.requires_grad for p in backbone.parameters())
    assert weights_digest(backbone) == before
    torch.save(backbone.state_dict(), buffer)  # no tensor of the tracing is left in it


def test_facts_are_strict():
    with pytest.raises(ValueError, match="weights"):
        Facts(task="x", outputs={"embedding": (4,)}, input=BGR, weights="1", network="2", facetx="0", torch="2")


@pytest.mark.parametrize(
    ("name", "args", "decoder"),
    [
        ("timm:mobilevitv2_050", {"image_size": 64, "embedding_dim": None}, {"finest": 2}),
        ("vit_p8s8_tiny", SMALL, {"detail": 8, "context": True}),
    ],
)
def test_a_parsing_task_is_exported_with_its_classes(tmp_path, name, args, decoder):
    classes = ("background", "skin", "hair")
    data = Description(1, (), classes, colors_of(classes))
    task = TASKS.create("parsing", backbone=BACKBONES.create(name, **args), data=data, width=8, **decoder).eval()
    facts = export(task, tmp_path / "parsing.onnx").facts
    size = args["image_size"]
    assert facts.outputs == {"mask": (3, size, size)}
    assert facts.mask_classes == classes
    assert facts.difference < 1e-5
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "parsing.onnx")).run(
        ["mask"], {"image": noise(3, size).numpy()}
    )
    assert found.shape == (3, 3, size, size)
