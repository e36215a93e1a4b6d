"""``scripts/benchmark.py ijbc``: pooling of templates, 1:1 and 1:N, at the size of IJB-C."""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from facetx.metrics.roc import tar_at_far
from facetx.metrics.templates import pool_templates, search_templates, template_scores


def measure(peak_bytes: Callable[[str], float], machine: str) -> None:
    """IJB-C's own numbers of images, templates, pairs, probes and galleries, on simulated embeddings of 512 numbers."""
    images, templates, pairs, genuine, galleries = 469_375, 23_124, 15_658_489, 19_557, (1772, 1759)
    rng = np.random.default_rng(0)
    of_gallery = np.arange(sum(galleries))  # the first templates are the galleries, one a subject
    subject = np.append(of_gallery, rng.integers(len(of_gallery), size=templates - len(of_gallery)))
    template = np.append(np.arange(templates), rng.integers(templates, size=images - templates))
    medium = rng.integers(8, size=images)
    features = rng.standard_normal((images, 512), np.float32)
    centers = rng.standard_normal((len(of_gallery), 512), np.float32)
    for start in range(0, images, 10_000):
        features[start : start + 10_000] += 0.12 * centers[subject[template[start : start + 10_000]]]
    first = rng.integers(len(of_gallery), templates, size=pairs)
    second = rng.integers(templates, size=pairs)
    first[:genuine] = rng.integers(len(of_gallery), templates, size=genuine)
    second[:genuine] = subject[first[:genuine]]  # the gallery's template of that subject
    same = subject[first] == subject[second]
    print(f"{images:,} images, {templates:,} templates, {pairs:,} pairs, {machine}")

    times, before = [("", time.perf_counter())], time.process_time()
    pooled = pool_templates(features, template, medium, np.ones(images), norm=False)
    times.append(("pooling", time.perf_counter()))
    scores = template_scores(pooled, first, second)
    times.append(("1:1 scores", time.perf_counter()))
    tars = tar_at_far(scores, same, (1e-4, 1e-3, 1e-2, 1e-1))
    times.append(("TAR at FAR", time.perf_counter()))
    parts = np.split(np.arange(templates), np.cumsum(galleries))
    *held, probes = ((pooled.features[part], subject[part]) for part in parts)
    found = search_templates(probes, held)
    times.append(("1:N search", time.perf_counter()))
    cpu = time.process_time() - before

    for (_, began), (name, ended) in pairwise(times):
        print(f"{name:12}{ended - began:8.1f} s")
    wall, memory = times[-1][1] - times[0][1], peak_bytes("cpu") / 2**30
    print(f"{'together':12}{wall:8.1f} s, {cpu:.1f} s of processor time, peak memory {memory:.2f} GiB")
    print("  ".join(f"TAR {100 * t.tar:.2f} % at FAR {t.target:g}" for t in tars))
    print("  ".join(f"rank {k}: {100 * rate:.2f} %" for k, rate in found.ranks.items()), end="  ")
    print("  ".join(f"TPIR {100 * rate:.2f} % at FPIR {fpir:g}" for fpir, rate in found.tpir().items()))
