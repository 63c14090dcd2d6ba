"""How many passes does a trained generator's guess save a search, and from how many examples on is its training paid?

On examples that it was not trained on. Training costs the victim a forward and a gradient for each sample of each step,
and time of the generator's own; both are set against what is saved on one example. CPU seconds of one thread.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from outside import MNIST, SHARED, outside, rows_of
from record import Book
from torch import Tensor, nn

import attacks
from advgan.fit import Samples
from advgan.perturb import Generated, Perturbing, train_perturber
from attacks import APGD, Attack, Warm
from attacks.result import Result
from attacks.verdict import Verdict
from reports import zoo

SEARCHES: dict[str, Attack] = {"apgd": APGD(), "verdict": Verdict()}
ROWS = 500  # that are attacked


@dataclass(frozen=True)
class Case:
    model: str
    recipe: Perturbing

    @property
    def threat(self) -> str:
        return self.recipe.threat

    def __str__(self) -> str:
        return f"{self.model} {self.threat}, {self.recipe.steps} steps"

    def load(self) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
        """The victim, x to train on, x and labels to attack."""
        if self.model.startswith("digits"):
            return zoo.load()[self.model], zoo.training()[0], *zoo.held_out()
        (x, _), (unseen, labels) = rows_of(MNIST, 0, 8000), rows_of(MNIST, 8000, 10_000)
        return outside(self.model), x, unseen, labels


LITTLE = Perturbing(steps=1000, gan_weight=0.0, hinge_weight=0.0)
CASES = [
    Case("digits_standard", replace(LITTLE, threat="linf:0.1")),
    Case("digits_standard", replace(LITTLE, threat="linf:0.2")),
    Case("digits_robust", replace(LITTLE, threat="linf:0.1")),
    Case("advertorch_cln", replace(LITTLE, threat="linf:0.3", steps=600, width=24, depth=2, confidence=10.0)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_guess_saves(case: Case, book: Book, tmp_path: Path):
    if case.model.startswith("advertorch") and not SHARED.exists():
        pytest.skip("the outside weights and images are not here")
    victim, seen, _, _ = case.load()
    out = tmp_path / "run"
    run, training = timed(lambda: train_perturber(victim, Samples(seen), case.recipe, out, every=case.recipe.steps))
    write_down(book, case, Generated(run.generator), training)  # type: ignore[arg-type]


def write_down(book: Book, case: Case, guess: Generated, training: float) -> None:
    """training: seconds that it took."""
    victim, _, x, labels = case.load()
    x, labels = x[:ROWS], labels[:ROWS]
    paid = 2 * case.recipe.steps * case.recipe.batch
    alone = attack(guess, victim, x, labels, case)
    for name, search in SEARCHES.items():
        cold, cold_seconds = timed(lambda search=search: attack(search, victim, x, labels, case))
        warm, warm_seconds = timed(lambda search=search: attack(Warm(guess, search), victim, x, labels, case))
        if name == "verdict":  # one APGD is luck, from wherever it starts
            assert warm.fooled.sum() >= cold.fooled.sum() - len(x) // 100
        saved, gained = passes(cold) - passes(warm), (cold_seconds - warm_seconds) / len(x)
        notes = [
            f"left {int((~cold.fooled).sum())} without the guess and {int((~warm.fooled).sum())} with it",
            f"the guess alone leaves {int((~alone.fooled).sum())} of {len(x)}",
            f"training {paid} passes and {training:.0f} s",
            f"pays in passes from {examples(paid, saved)}",
            f"in seconds ({1000 * cold_seconds / len(x):.2f} and {1000 * warm_seconds / len(x):.2f} ms an example) "
            f"from {examples(training, gained)}",
        ]
        book.add(
            suite="warm start",
            measured=f"{name} after a generator's guess, {case}",
            unit="passes an example",
            repeats=1,
            ours=passes(warm),
            reference=passes(cold),
            reference_is=f"{name} alone",
            ratio=passes(cold) / passes(warm),
            note="; ".join(notes),
        )


def attack(search: Attack, victim: nn.Module, x: Tensor, labels: Tensor, case: Case) -> Result:
    return attacks.run(search, victim, x, labels, case.threat, batch_size=250)


def passes(result: Result) -> float:
    """Forwards and gradients for each example."""
    return float((result.queries + result.backwards).double().mean())


def examples(price: float, saved: float) -> str:
    return f"{math.ceil(price / saved)} examples on" if saved > 0 else "no number of examples on"


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the CPU seconds it takes."""
    start = time.process_time()
    return work(), time.process_time() - start


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
