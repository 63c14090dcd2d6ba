"""Training runs that never took place, with numbers that look like those of runs that did."""

import json
from pathlib import Path

import numpy as np

from reports.training import page, saved
from reports.training.saved import SavedRun
from tests.reports.synthetic import examples

VERSIONS = {"advgan": "0.1.0", "python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.6"}
STEPS = 2000
CLASSES = tuple(str(digit) for digit in range(10))


def write(
    folder: Path,
    *,
    warnings: tuple[str, ...] = (),
    finished: bool = True,
    conditional: bool = True,
    shape: tuple[int, ...] = (1, 8, 8),
    classes: tuple[str, ...] = CLASSES,
) -> SavedRun:
    """A run on images, with its page."""
    x, y = examples(240, shape, len(classes), seed=1)
    real, _ = examples(60, shape, len(classes), seed=2)
    noise = np.random.default_rng(0)
    last = STEPS if finished else STEPS // 3
    measures = {
        "samples": 240.0, "reference": 1198.0, "recognised": 0.9625, "frechet": 0.418, "precision": 0.93,
        "recall": 0.87, "density": 1.07, "coverage": 0.91, "real_recognised": 0.985, "real_frechet": 0.211,
        "real_precision": 0.95, "real_recall": 0.94, "real_density": 1.01, "real_coverage": 0.955,
    }  # fmt: skip
    _begin(folder, last, measures, warnings, finished, conditional)
    for step in range(0, last + 1, 200):
        blur = np.float32(1 - step / STEPS)
        shown = (1 - blur) * x[:10] + blur * noise.random((10, *shape), dtype=np.float32)
        np.savez(folder / "samples" / f"step-{step}.npz", x=shown, labels=y[:10])
    saved.write_json(folder, saved.ABOUT, about("digits", shape, list(classes) if conditional else []))
    if finished:
        distance = noise.gamma(9, 0.2, 240)
        pictures = {"x": x, "y": y, "copied": x[:12], "near": real[:12], "copied_distance": np.sort(distance)[:12]}
        pictures |= {"distance": distance}
        saved.write_pictures(folder, {**pictures, "real_distance": noise.gamma(9, 0.19, 600)})
    return _with_page(folder)


def write_points(folder: Path) -> SavedRun:
    """A run on the ring of eight."""
    measures = {"samples": 2500.0, "modes": 8.0, "high_quality": 0.9812, "reverse_kl": 0.0131}
    _begin(folder, STEPS, measures, (), True, False)
    noise, angle = np.random.default_rng(0), 2 * np.pi * np.arange(8) / 8
    centres = np.stack([np.cos(angle), np.sin(angle)], 1)
    for step in range(0, STEPS + 1, 200):
        spread = 0.012 + 0.6 * (1 - step / STEPS) ** 2
        x = centres[noise.integers(0, 8, 600)] + spread * noise.standard_normal((600, 2))
        np.savez(folder / "samples" / f"step-{step}.npz", x=x.astype(np.float32))
    told = about("ring", (2,), [])
    told["data"] |= {"centres": centres.tolist(), "deviation": 0.01, "training": None, "held_out": None}
    saved.write_json(folder, saved.ABOUT, told)
    saved.write_pictures(folder, {"x": centres[noise.integers(0, 8, 2500)] + 0.012 * noise.standard_normal((2500, 2))})
    return _with_page(folder)


def _with_page(folder: Path) -> SavedRun:
    run = SavedRun.load(folder)
    (folder / saved.PAGE).write_text(page.page(run), encoding="utf-8")
    return run


def about(name: str, shape: tuple[int, ...], classes: list[str]) -> dict:
    return {
        "command": f"advgan train gan \\\n  --data {name} \\\n  --seed 0",
        "data": {
            "name": name, "shape": list(shape), "classes": classes, "training": 1198, "held_out": 599,
            "sha256": "ab" * 32,
        },
        "judge": "digits:standard",
        "features": "pixels",
        "versions": VERSIONS,
    }  # fmt: skip


def _begin(
    folder: Path, last: int, measures: dict, warnings: tuple[str, ...], finished: bool, conditional: bool
) -> None:
    (folder / "samples").mkdir(parents=True)
    noise, history = np.random.default_rng(3), []
    for step in range(20, last + 1, 20):
        entry = {"step": step, "critic": 0.69 - 0.2 * np.exp(-step / 400) + 0.02 * noise.standard_normal()}
        entry |= {"generator": 0.7 + 0.5 * np.exp(-step / 300) + 0.03 * noise.standard_normal()}
        if step % 200 == 0:
            good = 1 - np.exp(-step / 500)
            entry |= {name: value * good for name, value in measures.items() if not name.startswith("real")}
        history.append({name: value if name == "step" else float(value) for name, value in entry.items()})
    config = {
        "kind": "dcgan", "width": 32, "latent": 16, "objective": "relativistic", "penalty": "r1r2", "weight": 1.0,
        "steps": STEPS, "batch": 64, "lr": 2e-4, "betas": [0.0, 0.99], "seed": 0, "conditional": conditional,
    }  # fmt: skip
    told = {"format": 1, "config": config, "measures": measures if finished else {}, "history": history}
    (folder / "run.json").write_text(
        json.dumps(
            {**told, "warnings": [{"kind": "one_mode", "step": 400, "what": text, "remedy": ""} for text in warnings]}
        )
    )
