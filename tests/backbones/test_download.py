"""Published weights: downloaded once, compared at each use, and nothing in them is run."""

import hashlib
import os
from collections import OrderedDict

import pytest
import torch
from torchvision import models

from facetx.backbones import BACKBONES
from facetx.backbones.download import published_weights
from facetx.contract import InputContract
from facetx.errors import CheckpointError

IMAGENET = InputContract(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """(state dict, name) -> URL of a file on this machine whose name has its hash; PyTorch's cache is empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))

    def write(content, name="net"):
        file = tmp_path / name
        torch.save(content, file)
        digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        return file.rename(tmp_path / f"{name}-{digits}.pth").as_uri()

    return write


def cached(url):
    return os.path.join(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])


def test_a_file_is_downloaded_once_and_compared_at_each_use(publish, tmp_path):
    url = publish({"a": torch.arange(3.0)})
    assert torch.equal(published_weights(url, "net")["a"], torch.arange(3.0))
    for file in tmp_path.glob("net-*.pth"):
        file.unlink()
    assert torch.equal(published_weights(url, "net")["a"], torch.arange(3.0))  # from the cache

    torch.save({"a": torch.zeros(3)}, cached(url))  # someone put another file there
    with pytest.raises(CheckpointError, match=r"net-.*pth: damaged, or not the published weights of net; delete it"):
        published_weights(url, "net")


def test_a_file_that_is_not_the_published_one_is_not_even_kept(publish, tmp_path):
    url = publish({"a": torch.zeros(3)})
    (file,) = tmp_path.glob("net-*.pth")
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match=r"could not download the weights of net \(invalid hash value"):
        published_weights(url, "net")
    assert not os.path.exists(cached(url))


def test_a_url_that_leads_nowhere_or_has_no_hash_is_told(publish, tmp_path):
    with pytest.raises(CheckpointError, match=r"could not download the weights of net .*set pretrained: false"):
        published_weights((tmp_path / "net-01234567.pth").as_uri(), "net")
    with pytest.raises(CheckpointError, match="weights of net at .* have no hash in their name"):
        published_weights((tmp_path / "net.pth").as_uri(), "net")


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_of_the_right_hash_runs_nothing(publish, tmp_path):
    url = publish({"a": torch.zeros(1), "hook": Hostile(tmp_path / "trap")})
    with pytest.raises(CheckpointError, match="holds more than the weights of net"):
        published_weights(url, "net")
    assert not (tmp_path / "trap").exists()


def test_imagenet_weights_reach_the_stem_and_the_cnn_with_their_scaling(publish, monkeypatch):
    from efficientnet_pytorch import EfficientNet, utils

    published = EfficientNet.from_name("efficientnet-b0").state_dict()
    monkeypatch.setitem(utils.url_map, "efficientnet-b0", publish(published, "efficientnet-b0"))
    model = BACKBONES.create("effnet_vit_tiny", depth=1, pretrained=True)
    assert all(torch.equal(value, published[key]) for key, value in model.tokens.stem.state_dict().items())
    assert model.contract.mean == pytest.approx(IMAGENET.mean)
    assert model.contract.std == pytest.approx(IMAGENET.std)
    model = BACKBONES.create("efficientnet_b0", pretrained=True)
    trunk = model.trunk.state_dict()
    assert all(torch.equal(value, published[key]) for key, value in trunk.items())
    assert published.keys() - trunk.keys() == {"_fc.weight", "_fc.bias"}
    assert model.contract.std == pytest.approx(IMAGENET.std)
    assert BACKBONES.create("efficientnet_b0").contract == InputContract()


@pytest.mark.parametrize("name", ["resnet18", "mnasnet0_5", "densenet121", "googlenet"])
def test_torchvisions_weights_reach_its_networks(name, publish, monkeypatch):
    published = models.get_model(name, weights=None).state_dict()
    names = {key: value for key, value in published.items() if value.ndim}  # old files lack batch norm's counts
    if name == "densenet121":
        names = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for key, v in names.items()}
    else:
        names = dict(published)
    content = OrderedDict(names)
    content._metadata = published._metadata
    weights = models.get_model_weights(name)
    url = publish(content, name)
    monkeypatch.setattr(weights.DEFAULT.value, "__dict__", {**vars(weights.DEFAULT.value), "url": url})
    model = BACKBONES.create(f"torchvision:{name}", image_size=64, pretrained=True)
    assert all(torch.equal(value, published[key]) for key, value in model.trunk.state_dict().items())
    if name == "googlenet":  # it would scale such images again, to what it was trained on
        assert model.contract.mean == model.contract.std == (127.5, 127.5, 127.5)
        assert not model.trunk.transform_input
    else:
        assert model.contract.std == pytest.approx(IMAGENET.std)
