"""How near does a perturber that knew only a victim's labels come to one that had its gradients?

MNIST, 8,000 examples of the test set to train on, 2,000 to measure on, eps 0.3. The same recipe for both: the labels'
one is trained against a copy that is taught in rounds (dynamic distillation), or once (static).
"""

from pathlib import Path

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


def test_labels_alone_come_within_ten_points_of_gradients(book: Book, tmp_path: Path):
    reference = with_gradients(tmp_path / "gradients")
    static, copy = from_labels_once(tmp_path / "static")
    write_down(book, "static", static, copy, reference)
    run, copy = from_labels(tmp_path / "dynamic")
    assert run.measures["success"] is not None
    write_down(book, "dynamic", run.measures["success"], copy, reference)
    assert run.measures["success"] >= reference - WITHIN


def victim() -> Victim:
    return Victim(outside(MODEL), Access.DECISION)


def data() -> tuple[Samples, Samples]:
    """To train on, and to measure on."""
    (x, labels), (unseen, theirs) = rows_of(MNIST, 0, 8000), rows_of(MNIST, 8000, 10_000)
    return Samples(x, labels, 10), Samples(unseen, theirs, 10)


def with_gradients(out: Path) -> float:
    return measured(train_perturber(outside(MODEL), data()[0], RECIPE, out, every=RECIPE.steps))


def from_labels(out: Path) -> tuple[Run, Distilled]:
    seen, unseen = data()
    return distill_dynamically(victim(), seen.x, RECIPE, out, DISTILLING, rounds=ROUNDS, held_out=unseen)


def from_labels_once(out: Path) -> tuple[float, Distilled]:
    seen, _ = data()
    found = distill(victim(), seen.x, DISTILLING)
    return measured(train_perturber(found.copy, seen, RECIPE, out, every=RECIPE.steps)), found


def measured(run: Run) -> float:
    """Success on the victim, over what it classifies rightly of the examples not trained on."""
    _, unseen = data()
    assert unseen.labels is not None
    return success(Generated(run.generator), outside(MODEL), unseen.x, unseen.labels).share  # type: ignore[arg-type]


def write_down(book: Book, how: str, share: float, found: Distilled, reference: float) -> None:
    _, unseen = data()
    book.add(
        suite="distillation",
        measured=f"success of a perturber from labels alone, {how}, {MODEL} {RECIPE.threat}",
        unit="share of 2,000 unseen, those rightly classified",
        repeats=1,
        ours=share,
        reference=reference,
        reference_is="the same recipe with the victim's gradients",
        bar=f"{reference - WITHIN:.3f}" if how == "dynamic" else None,
        note=f"{found.asked} queries, {int(found.queries.max())} of a row at most; the copy agrees on "
        f"{agreement(found.copy, outside(MODEL), unseen.x):.2%} of unseen clean inputs; {RECIPE.steps} steps, seed 0",
    )
