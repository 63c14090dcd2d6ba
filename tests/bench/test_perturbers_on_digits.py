"""How many digits does a perturber fool: with AdvGAN's weights and without, in L1, and knowing labels alone?

Over the 599 digits held out, as far as `digits_standard` classifies them rightly; three seeds, on one thread.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from race import quartiles
from record import Book

import attacks
from advgan.distill import Distilled, distill, distill_dynamically
from advgan.perturb import Generated, Perturbing, success, train_perturber
from advgan.samples import Samples
from advgan.success import predictions
from attacks import Access, Victim
from reports import zoo

SEEDS = 3
FREE = Perturbing(threat="linf:0.1", width=24, depth=2, steps=1000, gan_weight=0, hinge_weight=0)
ADVGAN = replace(FREE, gan_weight=1.0, hinge_weight=1.0)


@pytest.fixture(autouse=True)
def one_thread(threads) -> None:
    torch.set_num_threads(1)


def successes(recipe: Perturbing, folder: Path) -> tuple[np.ndarray, float]:
    """Of each seed, and the CPU minutes of the longest."""
    victim, (x, labels), (unseen, theirs) = zoo.load()["digits_standard"], zoo.training(), zoo.held_out()
    shares, minutes = [], []
    for seed in range(1, SEEDS + 1):
        start = time.process_time()
        asked = replace(recipe, seed=seed)
        held = Samples(unseen, theirs, 10)
        run = train_perturber(
            victim, Samples(x, labels, 10), asked, folder / str(seed), held_out=held, every=recipe.steps
        )
        minutes.append((time.process_time() - start) / 60)
        shares.append(run.measures["success"])
    return np.array(shares), max(minutes)


def beside(attack: attacks.Attack, threat: str) -> float:
    victim, (x, labels) = zoo.load()["digits_standard"], zoo.held_out()
    right = predictions(victim, x) == labels
    return float(attacks.run(attack, victim, x[right], labels[right], threat).fooled.double().mean())


def test_what_the_weights_of_advgan_cost(book: Book, tmp_path: Path):
    (paper, _), (free, minutes) = (
        successes(recipe, tmp_path / name) for name, recipe in (("paper", ADVGAN), ("free", FREE))
    )
    low, middle, high = quartiles(paper - free)
    book.add(
        suite="perturbers",
        measured=f"digits {FREE.threat}: success with gan_weight 1 and hinge_weight 1 (AdvGAN's), and with 0 and 0",
        unit="share",
        repeats=SEEDS,
        ours=float(paper.mean()),
        reference=float(free.mean()),
        reference_is="both weights 0; the ratio is the difference",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        note=f"PGD-20 {beside(attacks.pgd(20), FREE.threat):.4f}; CPU minutes {minutes:.1f} without the critic",
    )


def test_an_l1_perturber_beside_apgd(book: Book, tmp_path: Path):
    threat = "l1:4"
    shares, minutes = successes(replace(FREE, threat=threat), tmp_path)
    apgd = beside(attacks.APGD(), threat)
    low, middle, high = quartiles(shares / apgd)
    noise = beside(attacks.CATALOG["gaussian_noise"](tries=10), threat)
    book.add(
        suite="perturbers",
        measured=f"digits {threat}: success, gan_weight 0",
        unit="share",
        repeats=SEEDS,
        ours=float(shares.mean()),
        reference=apgd,
        reference_is="APGD, 100 steps",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        note=f"PGD-20 {beside(attacks.pgd(20), threat):.4f}; noise {noise:.4f}; CPU minutes {minutes:.1f}",
    )
    assert noise < shares.mean() <= apgd


BLIND = replace(
    FREE, threat="linf:0.2", confidence=10.0, steps=500
)  # what goes beyond the copy's boundary carries over
ROUNDS = 5


@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_from_labels_alone(how: str, book: Book, tmp_path: Path):
    seeing, _ = successes(BLIND, tmp_path / "seeing")
    blind, copies = zip(*(from_labels(how, seed, tmp_path / str(seed)) for seed in range(1, SEEDS + 1)), strict=True)
    low, middle, high = quartiles(np.array(blind) - seeing)
    book.add(
        suite="distillation",
        measured=f"success of a perturber from labels alone, {how}, digits {BLIND.threat}",
        unit="share",
        repeats=SEEDS,
        ours=float(np.mean(blind)),
        reference=float(seeing.mean()),
        reference_is="the same recipe with the victim's gradients; the ratio is the difference",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        note=f"{copies[0].asked} queries, {int(copies[0].queries.max())} of a row at most; "
        f"the copy gives {min(each.agreement for each in copies):.2%} of all answers, or more",
    )


def from_labels(how: str, seed: int, folder: Path) -> tuple[float, Distilled]:
    model, (x, _), (unseen, labels) = zoo.load()["digits_standard"], zoo.training(), zoo.held_out()
    victim, recipe = Victim(model, Access.DECISION), replace(BLIND, seed=seed)
    if how == "dynamic":
        run, copy = distill_dynamically(victim, x, recipe, folder, rounds=ROUNDS)
    else:
        copy = distill(victim, x)
        run = train_perturber(copy.copy, Samples(x), recipe, folder, every=recipe.steps)
    return success(Generated(run.generator), model, unseen, labels).share, copy  # type: ignore[arg-type]
