"""How near does a perturber that knew only a victim's labels come to one that had its gradients?

MNIST, 8,000 examples of the test set to train on, 2,000 to measure on, eps 0.3. The same recipe for both: the labels'
one is trained against a copy that is taught in rounds (dynamic distillation), or once (static). Means over the seeds.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outside import MNIST, SHARED, outside, rows_of
from record import Book

from advgan.distill import Distilled, Distilling, agreement, distill, distill_dynamically
from advgan.fit import Run, Samples
from advgan.perturb import Generated, Perturbing, success, train_perturber
from attacks import Access, Victim

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the outside weights and images are not here")

MODEL, ROUNDS, DISTILLING = "advertorch_cln", 5, Distilling(epochs=5)
# Going beyond the copy's boundary (confidence) is what carries over to the victim.
RECIPE = Perturbing(threat="linf:0.3", steps=600, width=24, depth=2, gan_weight=0.0, hinge_weight=0.0, confidence=10.0)
WITHIN = 0.10  # of the success with gradients
SEEDS = 3


def test_labels_alone_come_within_ten_points_of_gradients(book: Book, tmp_path: Path):
    reference = np.array([with_gradients(seed, tmp_path / f"gradients {seed}") for seed in range(SEEDS)])
    write_down(book, "static", from_labels_once, reference, tmp_path)
    dynamic = write_down(book, "dynamic", from_labels, reference, tmp_path)
    assert dynamic.mean() >= reference.mean() - WITHIN


def victim() -> Victim:
    return Victim(outside(MODEL), Access.DECISION)


def data() -> tuple[Samples, Samples]:
    """To train on, and to measure on."""
    (x, labels), (unseen, theirs) = rows_of(MNIST, 0, 8000), rows_of(MNIST, 8000, 10_000)
    return Samples(x, labels, 10), Samples(unseen, theirs, 10)


def with_gradients(seed: int, out: Path) -> float:
    return measured(train_perturber(outside(MODEL), data()[0], recipe(seed), out, every=RECIPE.steps))


def from_labels(seed: int, out: Path) -> tuple[float, Distilled]:
    seen, unseen = data()
    run, found = distill_dynamically(
        victim(), seen.x, recipe(seed), out, replace(DISTILLING, seed=seed), rounds=ROUNDS, held_out=unseen
    )
    assert run.measures["success"] is not None
    return run.measures["success"], found


def from_labels_once(seed: int, out: Path) -> tuple[float, Distilled]:
    seen, _ = data()
    found = distill(victim(), seen.x, replace(DISTILLING, seed=seed))
    return measured(train_perturber(found.copy, seen, recipe(seed), out, every=RECIPE.steps)), found


def recipe(seed: int) -> Perturbing:
    return replace(RECIPE, seed=seed)


def measured(run: Run) -> float:
    """Success on the victim, over what it classifies rightly of the examples not trained on."""
    _, unseen = data()
    assert unseen.labels is not None
    return success(Generated(run.generator), outside(MODEL), unseen.x, unseen.labels).share  # type: ignore[arg-type]


def write_down(
    book: Book, how: str, make: Callable[[int, Path], tuple[float, Distilled]], reference: np.ndarray, folder: Path
) -> np.ndarray:
    """[SEEDS]: the shares fooled."""
    made = [make(seed, folder / f"{how} {seed}") for seed in range(SEEDS)]
    shares, found = np.array([share for share, _ in made]), made[-1][1]
    _, unseen = data()
    book.add(
        suite="distillation",
        measured=f"success of a perturber from labels alone, {how}, {MODEL} {RECIPE.threat}",
        unit="share of 2,000 unseen, those rightly classified",
        repeats=SEEDS,
        ours=float(shares.mean()),
        reference=float(reference.mean()),
        reference_is="the same recipe with the victim's gradients",
        bar=f"{reference.mean() - WITHIN:.3f}" if how == "dynamic" else None,
        note=f"seeds 0 to {SEEDS - 1}: {told(shares)}, with gradients {told(reference)}; {found.asked} queries, "
        f"{int(found.queries.max())} of a row at most; the last copy agrees on "
        f"{agreement(found.copy, outside(MODEL), unseen.x):.2%} of unseen clean inputs; {RECIPE.steps} steps",
    )
    return shares


def told(shares: np.ndarray) -> str:
    return " ".join(f"{share:.4f}" for share in shares)
