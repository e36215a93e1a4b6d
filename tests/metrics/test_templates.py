"""Templates by plain loops, and searches by the general ranking."""

import numpy as np
import pytest

from facetx.metrics import templates as module
from facetx.metrics.identification import rank_gallery, tpir_at_fpir
from facetx.metrics.templates import pool_templates, search_templates, template_scores


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)).astype(np.float32)
    return features, rng.permutation(np.arange(300) % 40 * 7 + 3), rng.integers(4, size=300), rng.random(300)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("detector", [True, False])
def test_pooling_is_the_plain_loop(images, norm, detector):
    features, template, medium, score = images
    found = pool_templates(features, template, medium, score if detector else None, norm)
    x = features.astype(np.float64)
    x = x if norm else unit(x)
    x = x * score[:, None] if detector else x
    for k, t in enumerate(sorted(set(template.tolist()))):
        media = [x[(template == t) & (medium == m)].mean(axis=0) for m in sorted(set(medium[template == t].tolist()))]
        np.testing.assert_allclose(found.features[k], unit(np.sum(media, axis=0)), atol=1e-6)
        assert found.ids[k] == t
    assert found.flags == f"N{int(norm)}D{int(detector)}"


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_scores_are_the_cosines_whatever_the_block(images, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    pooled = pool_templates(*images[:3])
    rng = np.random.default_rng(1)
    first, second = rng.choice(pooled.ids, (2, 500))
    row = {t: k for k, t in enumerate(pooled.ids.tolist())}
    expected = [pooled.features[row[a]] @ pooled.features[row[b]] for a, b in zip(first.tolist(), second.tolist())]
    np.testing.assert_allclose(template_scores(pooled, first, second), expected, atol=1e-6)
    with pytest.raises(ValueError, match="no image belongs to 1 templates, the first of them 4"):
        template_scores(pooled, [3, 4], [3, 3])


@pytest.mark.parametrize("block", [3, 1024])
def test_search_agrees_with_the_general_ranking(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(2)
    centers = unit(rng.normal(size=(30, 8)))
    subjects = rng.integers(30, size=200)
    probes = unit(centers[subjects] + rng.normal(size=(200, 8)) * 0.25)
    galleries = [(centers[order], order) for order in (rng.permutation(15), 15 + rng.permutation(15))]
    found = search_templates((probes, subjects), galleries, ranks=(1, 5), fpirs=(0.05, 0.2))
    plain = [rank_gallery(probes, subjects, *gallery) for gallery in galleries]
    assert found.ranks == {k: pytest.approx(np.mean([r.rank_k(k) for r in plain])) for k in (1, 5)}
    expected = [tpir_at_fpir(r, (0.05, 0.2)) for r in plain]
    assert found.tpir() == {
        fpir: pytest.approx(np.mean([points[k].tpir for points in expected])) for k, fpir in enumerate((0.05, 0.2))
    }
    assert [m + s for m, s in zip(found.mated, found.strangers)] == [200, 200]
    assert 0.3 < found.ranks[1] < found.ranks[5]


def test_ties_count_against_the_system_and_doubles_are_refused():
    same = np.ones((4, 2)) / np.sqrt(2)
    found = search_templates((same, [0, 1, 2, 9]), [(same[:3], [0, 1, 2])], ranks=(1, 3), fpirs=(0.5,))
    assert found.ranks == {1: 0, 3: 1}
    with pytest.raises(ValueError, match="two templates of one subject"):
        search_templates((same, [0, 1, 2, 9]), [(same[:3], [0, 1, 1])])
