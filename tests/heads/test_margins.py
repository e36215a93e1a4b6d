"""Margins as functions of the cosine: values, the continuation beyond pi, warm-up, gradients."""

import math

import pytest
import torch

from facetx.heads.margins import AngularMargin, AnnealedMargin, NoMargin, angle, unfolded_cosine

MARGINS = [
    AngularMargin(m2=0.5),
    AngularMargin(m3=0.35),
    AngularMargin(1.35, 0.5, 0.2),
    AngularMargin(0.9, 0.4, 0.15),
    AngularMargin(m1=4),
    AngularMargin(m2=3.0),
    AnnealedMargin(4, 0),
    AnnealedMargin(3, 5),
]


@pytest.mark.parametrize("margin", MARGINS)
def test_the_target_falls_with_the_angle_everywhere(margin):
    theta = torch.linspace(0.01, math.pi - 0.01, 5001, dtype=torch.float64)
    assert (margin(theta.cos(), 1.0).diff() < 0).all()


@pytest.mark.parametrize("margin", MARGINS)
def test_a_margin_never_raises_the_cosine(margin):
    cosine = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    assert (margin(cosine, 1.0) <= cosine + 2e-6).all()


@pytest.mark.parametrize("margin", [*MARGINS, NoMargin()])
def test_factor_zero_leaves_the_cosine(margin):
    cosine = torch.linspace(-1, 1, 101)
    assert torch.equal(margin(cosine, 0.0), cosine)


def test_the_combined_margin_below_pi_is_its_equation():
    theta = torch.linspace(0.1, 2.0, 50, dtype=torch.float64)
    got = AngularMargin(1.2, 0.3, 0.1)(theta.cos(), 1.0)
    torch.testing.assert_close(got, torch.cos(1.2 * theta + 0.3) - 0.1)
    torch.testing.assert_close(AngularMargin(1.2, 0.3, 0.1)(theta.cos(), 0.5), torch.cos(1.1 * theta + 0.15) - 0.05)


def test_arcface_beyond_pi_continues_downwards():
    theta = math.pi - 0.2
    got = AngularMargin(m2=0.5)(torch.tensor(math.cos(theta), dtype=torch.float64), 1.0)
    assert got.item() == pytest.approx(-math.cos(theta + 0.5) - 2)
    assert got.item() < -1


def test_unfolded_cosine_is_sphereface_psi():
    for theta in (0.2, 1.0, 2.0, 3.0):
        k = int(4 * theta / math.pi)
        got = unfolded_cosine(torch.tensor(4 * theta, dtype=torch.float64)).item()
        assert got == pytest.approx((-1) ** k * math.cos(4 * theta) - 2 * k)


def test_annealing_blends_with_the_plain_cosine():
    cosine = torch.tensor([0.3], dtype=torch.float64)
    psi = AnnealedMargin(4, 0)(cosine, 1.0)
    torch.testing.assert_close(AnnealedMargin(4, 5)(cosine, 1.0), (5 * cosine + psi) / 6)


def test_exact_gradient_differentiates_the_margin_and_straight_through_does_not():
    for gradient, expected in (("exact", math.sin(1.5) / math.sin(1.0)), ("straight_through", 1.0)):
        cosine = torch.tensor(math.cos(1.0), dtype=torch.float64, requires_grad=True)
        value = AngularMargin(m2=0.5, gradient=gradient)(cosine, 1.0)
        value.backward()
        assert value.item() == pytest.approx(math.cos(1.5))
        assert cosine.grad.item() == pytest.approx(expected)


def test_the_angle_has_a_finite_gradient_at_the_ends():
    cosine = torch.tensor([-1.0, 1.0, 1.0000001], requires_grad=True)
    angle(cosine).sum().backward()
    assert cosine.grad.isfinite().all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AngularMargin(m2=-0.1), r"m2 \(radians\) must be in \[0, 3.14159\], got -0.1"),
        (lambda: AngularMargin(m2=28.6), r"m2 \(radians\) must be in"),
        (lambda: AngularMargin(m1=0.0), "m1 must be in"),
        (lambda: AngularMargin(m3=3), "m3 must be in"),
        (lambda: AngularMargin(gradient="approximate"), "gradient must be one of 'exact', 'straight_through', got"),
        (lambda: AnnealedMargin(annealing=-1), "annealing must be in"),
    ],
)
def test_wrong_margins_say_what_is_allowed(build, message):
    with pytest.raises(ValueError, match=message):
        build()
