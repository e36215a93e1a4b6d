"""The running statistics behind adaptive margins: when they move, and where they are kept."""

import pytest
import torch

from facetx.heads import HEADS

DIM, CLASSES = 8, 5


def make(name, **args):
    return HEADS.create(name, embedding_dim=DIM, num_classes=CLASSES, **args)


def batch():
    return 10 * torch.randn(12, DIM), torch.randint(CLASSES, (12,))


def test_adaface_follows_the_lengths():
    head, (x, y) = make("adaface", momentum=0.25), batch()
    norms = x.norm(dim=1)
    head(x, y)
    torch.testing.assert_close(head.criterion.mean, 0.75 * 20 + 0.25 * norms.mean())
    torch.testing.assert_close(head.criterion.std, 0.75 * 100 + 0.25 * norms.std())


def test_adaface_asks_more_of_better_images():
    head = make("adaface", h=1.0).eval()
    head.criterion.mean.fill_(10)
    head.criterion.std.fill_(2)
    target = torch.full((3,), 0.5)
    poor, usual, good = head.criterion.margined(target, torch.tensor([1.0, 10.0, 90.0]))
    assert poor.item() == pytest.approx(torch.cos(target[0].arccos() + 0.4).item(), abs=1e-5)  # ArcFace
    assert usual.item() == pytest.approx(0.5 - 0.4, abs=1e-5)  # CosFace
    assert good.item() == pytest.approx(torch.cos(target[0].arccos() - 0.4).item() - 0.8, abs=1e-5)


def test_adaface_takes_one_image():
    head, (x, y) = make("adaface"), batch()
    assert head(x[:1], y[:1])["loss"].isfinite()
    assert head.criterion.std == 100


def test_curricularface_follows_the_target_cosines():
    head, (x, y) = make("curricularface", momentum=0.25), batch()
    result = head(x, y)
    torch.testing.assert_close(head.criterion.t, 0.25 * result["target_cosine"])


def test_magface_pulls_lengths_towards_the_upper_end():
    head, (x, y) = make("magface", scale=1e-3), batch()  # as good as no softmax
    x.requires_grad_()
    head(x, y)["loss"].backward()
    assert ((x * x.grad).sum(1)[x.norm(dim=1) > 10] < 0).all()


def test_magface_margin_reaches_from_low_to_high():
    criterion = make("magface").criterion
    target = torch.full((4,), 0.5)
    angles = criterion.margined(target, torch.tensor([1.0, 10.0, 60.0, 500.0])).arccos() - target.arccos()
    torch.testing.assert_close(angles, torch.tensor([0.45, 0.45, 0.625, 0.8]))


def test_magface_with_easy_margin_lets_images_on_the_far_side_be():
    plain, easy = make("magface").criterion, make("magface", easy_margin=True).criterion
    target, norms = torch.tensor([-0.5, -0.01, 0.0, 0.01, 0.5]), torch.full((5,), 60.0)
    want = torch.where(target > 0, plain.margined(target, norms), target)
    assert torch.equal(easy.margined(target, norms), want)
    assert (easy.margined(target, norms)[:3] > plain.margined(target, norms)[:3]).all()


@pytest.mark.parametrize("name", ["adaface", "curricularface"])
@pytest.mark.parametrize("engine", ["full", "chunked", "sampled"])
def test_statistics_stand_still_in_eval_and_live_in_the_state_dict(name, engine):
    head, (x, y) = make(name, engine=engine, momentum=0.5), batch()
    before = {k: v.clone() for k, v in head.criterion.state_dict().items()}
    head.eval()(x, y)
    assert all(torch.equal(v, before[k]) for k, v in head.criterion.state_dict().items())
    head.train()(x, y)
    moved = head.criterion.state_dict()
    assert all(not torch.equal(v, before[k]) for k, v in moved.items())

    resumed = make(name, engine=engine, momentum=0.5)
    resumed.load_state_dict(head.state_dict())
    assert torch.equal(resumed.eval()(x, y)["loss"], head.eval()(x, y)["loss"])
