"""After minutes of training on one thread, are a generator's samples recognised, and do they cover the data?

Every score is taken of as many samples as images are held out, of the same classes, and stands beside the score of the
images held out themselves; both are compared with the training images.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from outside import MNIST, SHARED, outside, rows_of
from race import quartiles
from record import Book
from torch import Tensor, nn

from advgan import measures
from advgan.fit import Recipe, Run, Samples, fit
from advgan.recipes import RECIPES
from reports import zoo

SEEDS = 5  # runs of each task
NOISE = 1  # seed of the samples that are scored
COMPARED = ("frechet", "precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class Task:
    """Images within [0, 1], in two parts, a judge that took no part in finding the recipe, and spaces to compare in."""

    name: str
    recipe: Recipe
    training: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    judge: nn.Module
    judge_is: str
    spaces: dict[str, Callable[[Tensor], Tensor]]  # name -> ([n, ...] -> [n, D])
    minutes: float  # of CPU time that a run may take
    covers: float | None  # the share of the held-out images' coverage and recall to be reached


def digits() -> Task:
    """The judge is the classifier that comes with the package; the recipe was found with another."""
    judge = zoo.load()["digits_standard"]
    assert isinstance(judge, nn.Sequential)
    return Task(
        "digits",
        RECIPES["digits"],
        zoo.training(),
        zoo.held_out(),
        judge=judge,
        judge_is="digits_standard",
        spaces={"pixels": pixels, "penultimate layer of digits_standard": judge[:-1]},
        minutes=10,
        covers=0.9,
    )


def pixels(x: Tensor) -> Tensor:
    return x.flatten(1)


def mnist() -> Task:
    if not (SHARED / MNIST).exists():
        pytest.skip(f"peer: ../shared/data/{MNIST} is not there")
    parts = rows_of(MNIST, 0, 8000), rows_of(MNIST, 8000, 10_000)
    judge = outside("advertorch_adv")
    return Task(
        "mnist",
        RECIPES["images"],
        *parts,
        judge=judge,
        judge_is="advertorch_adv",
        spaces={"pixels": pixels},
        minutes=20,
        covers=None,
    )


@pytest.fixture(autouse=True)
def one_thread(threads) -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("make", [digits, mnist])
def test_samples_are_recognised_and_cover_the_data(make: Callable[[], Task], book: Book, tmp_path: Path):
    task = make()
    real = scores(task, task.held_out[0])
    found: list[dict[str, float]] = []
    minutes = []
    for seed in range(SEEDS):
        start = time.process_time()
        run = trained(task, seed, tmp_path / str(seed))
        minutes.append((time.process_time() - start) / 60)
        found.append(scores(task, run.sample(len(task.held_out[0]), task.held_out[1], NOISE)))
    for name, reference in real.items():
        values = np.array([each[name] for each in found])
        low, middle, high = quartiles(values / reference)
        book.add(
            suite="gan images",
            measured=f"{task.name}: {name}",
            unit="distance" if name.startswith(("frechet", "distance")) else "share",
            repeats=SEEDS,
            ours=float(values.mean()),
            reference=reference,
            reference_is=f"{len(task.held_out[0])} images held out",
            ratio=middle,
            ratio_low=low,
            ratio_high=high,
            bar=bar(task, name),
            note=f"each seed {told(values)}; CPU minutes {told(np.array(minutes))}; "
            f"compared with {len(task.training[0])} training images",
        )
    assert max(minutes) <= task.minutes
    for name, reference in real.items():
        mean = np.mean([each[name] for each in found])
        if name.startswith("recognised"):
            assert mean >= 0.95
        if task.covers and name.startswith(("coverage", "recall")):
            assert mean >= task.covers * reference, name


def trained(task: Task, seed: int, folder: Path) -> Run:
    x, labels = task.training
    recipe = replace(task.recipe, seed=seed)
    return fit(recipe, Samples(2 * x - 1, labels, 10, task.name), folder, every=recipe.steps)


@torch.no_grad()
def scores(task: Task, x: Tensor) -> dict[str, float]:
    """Of x [n, ...], of the classes of the images held out, in their order."""
    right = torch.cat([task.judge(part).argmax(1) for part in x.split(500)]) == task.held_out[1]
    found = {f"recognised by {task.judge_is}": float(right.double().mean())}
    training = task.training[0]
    for space, features in task.spaces.items():
        compared = measures.compare(features(training), features(x))
        found |= {f"{name}, {space}": compared[name] for name in COMPARED}
    nearest = torch.cdist(x.flatten(1).double(), training.flatten(1).double()).min(1).values
    return found | {"distance to the nearest training image, mean": float(nearest.mean())}


def bar(task: Task, name: str) -> float | str:
    if name.startswith("recognised"):
        return 0.95
    return task.covers if task.covers and name.startswith(("coverage", "recall")) else ""


def told(values: np.ndarray) -> str:
    """Each of them, and the standard error of their mean."""
    each = " ".join(f"{value:.3g}" for value in values)
    return each if len(values) < 2 else f"{each} (s.e. {values.std(ddof=1) / math.sqrt(len(values)):.2g})"
