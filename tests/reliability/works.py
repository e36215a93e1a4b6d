"""What the driver kills: small trainings and preparations, each a function that is called in a folder of its own.

A work is done again by calling it again, as a user gives the same command again; it returns the script's exit code.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from facetx.config import check_settings
from facetx.data.align import template
from facetx.data.lists.landmarks import write_landmarks
from facetx.data.lists.pairs import Pairs, write_key_pairs
from facetx.errors import DataError
from facetx.prepare import convert as preparation
from facetx.prepare.align import align_set
from facetx.prepare.report import Report
from facetx.prepare.sources import Source, open_source
from facetx.training import start_run

Work = Callable[[], int]
STEPS = 12


def write_faces(root: Path) -> None:
    """Six identities of five PNGs of 16x16: a pattern of each identity's own, under noise. Beside the folder there are
    ``landmarks.csv`` and ``pairs.txt``."""
    rng = np.random.default_rng(0)
    for identity in range(6):
        pattern = rng.integers(0, 256, (2, 2, 3)).repeat(8, 0).repeat(8, 1)
        (root / f"person_{identity}").mkdir(parents=True)
        for i in range(5):
            noisy = np.clip(pattern + rng.normal(0, 40, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / f"person_{identity}/{i}.png")
    names = [f"person_{identity}/{i}.png" for identity in range(6) for i in range(5)]
    points = np.stack([template(16) + i % 2 for i in range(len(names))]).astype(np.float32)
    write_landmarks(root.parent / "landmarks.csv", names, points)
    first, second = ([f"person_{i // 2 % 6}/0" for i in range(12)], [f"person_{(i + 1) // 2 % 6}/1" for i in range(12)])
    write_key_pairs(root.parent / "pairs.txt", Pairs(first, second, np.arange(12) % 2 == 0, np.arange(12) // 6))


def training(faces: Path, workers: int) -> Work:
    """An epoch has 5 steps; a row is written each 3, a checkpoint each 4, and an evaluation is due each 6."""
    settings = check_settings(
        {
            "name": "killed",
            "data": {"name": "image_folder", "args": {"root": str(faces)}, "transforms": ["flip"], "workers": workers},
            "model": {
                "name": "vit_p8s8_tiny",
                "args": {
                    "image_size": 16, "dim": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp_dim": 16, "dropout": 0.1,
                },
            },
            "head": {"name": "cosface", "args": {"scale": 16.0, "margin": 0.1}},
            "optim": {"lr": 1e-3, "ema": 0.9},
            "train": {"steps": STEPS, "batch_size": 6, "log_every": 3, "checkpoint_every": 4, "keep": 2},
            "evaluators": [
                {
                    "name": "folder_pairs",
                    "every": 6,
                    "allow_overlap": True,
                    "args": {"root": str(faces), "part": "all", "folds": 2, "pairs_per_fold": 5, "name": "val"},
                }
            ],
            "select": "val/accuracy",
        }
    )  # fmt: skip

    def work() -> int:
        outcome = start_run(settings, Path("run"))
        return 128 + outcome.signal if outcome.signal else 0

    return work


def preparations(faces: Path) -> dict[str, Work]:
    """By name; each leaves ``out``, with or without an ending, and a report. Done, the same command says so."""

    def once(out: str, prepare: Callable[[Source], Report]) -> Work:
        def work() -> int:
            try:
                prepare(open_source(faces, faces.parent / "landmarks.csv"))
            except DataError as error:
                if not str(error).startswith(f"{out}: exists"):
                    raise
            return 0

        return work

    def convert(out: str, size: int | None = None, pairs: Path | None = None) -> Work:
        return once(out, lambda source: preparation.convert(source, out, None, pairs, size, "report.json"))

    def split(kind: str) -> Work:
        return once("out", lambda source: preparation.split(source, "out", 0.4, 0, kind, "report.json"))

    return {
        "convert to a folder": convert("out"),
        "convert to a .rec": convert("out.rec"),
        "convert to a list": convert("out.txt"),
        "convert to a .bin": convert("out.bin", pairs=faces.parent / "pairs.txt"),
        "align": once("out", lambda source: align_set(source, "out", 16, None, None, "report.json")),
        "pack": convert("out.packed", size=12),
        "split into folders": split("folder"),
        "split into lists": split("list"),
        "split into packs": split("packed"),
        "split into .rec files": split("rec"),
    }
