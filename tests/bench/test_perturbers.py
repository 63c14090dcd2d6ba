"""After minutes of training on one thread, how many images that it has not seen does a perturber fool, and how fast?

Only images count that the victim classifies rightly when clean. Noise of the same norm stands beside each figure.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from outside import CIFAR, MNIST, SHARED, outside, rows_of
from race import quartiles
from record import Book
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import attacks
from advgan.fit import Run, Samples
from advgan.perturb import Generated, Perturbing, build, train_perturber
from advgan.success import predictions
from attacks.loop import Attack
from attacks.victim import borrowed

TRAINING = "cifar10_jpeg_train.parquet"
SEEDS = 3
STEPS = 20  # of PGD, in the race

ON_CIFAR = Perturbing(threat="linf:8/255", gan_weight=0, hinge_weight=0, width=32, depth=3, steps=2000)
ON_MNIST = Perturbing(threat="linf:0.3", gan_weight=0, hinge_weight=0, width=16, depth=1, steps=1500, batch=64)


@dataclass(frozen=True)
class Task:
    """A victim, what is trained against it, and what is to be reached."""

    victim: str
    recipe: Perturbing
    others: tuple[str, ...] = ()
    bar: float | None = None  # of success
    minutes: float = 30  # of CPU time that a run may take

    @property
    def name(self) -> str:
        return f"{self.victim} {self.recipe.threat} {self.recipe.kind}"

    def parts(self) -> tuple[Samples, Samples]:
        """What is trained on, and what is held out."""
        if self.victim.startswith("resnet"):
            parts = rows_of(TRAINING, 0, 10_000), rows_of(CIFAR, 0, 2000)
        else:
            parts = rows_of(MNIST, 0, 8000), rows_of(MNIST, 8000, 10_000)
        training, held = (Samples(x, labels, 10, self.victim) for x, labels in parts)
        return training, held


TASKS = [
    Task("resnet32", ON_CIFAR, ("resnet20",), 0.947),
    Task("resnet32", replace(ON_CIFAR, kind="universal", steps=400), ("resnet20",), 0.75),
    Task("resnet32", replace(ON_CIFAR, gan_weight=0.1, hinge_weight=0.1), ("resnet20",)),
    Task("advertorch_cln", ON_MNIST, ("ddn_mnist",), 0.983),
    Task("advertorch_adv", ON_MNIST, ("advertorch_cln",)),
]


@pytest.fixture(autouse=True)
def one_thread(threads) -> None:
    torch.set_num_threads(1)
    if not SHARED.exists():
        pytest.skip(f"peer: {SHARED} is not there")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.name} gan {task.recipe.gan_weight:g}")
def test_images_that_were_not_trained_on_are_fooled(task: Task, book: Book, tmp_path: Path):
    victim, (training, held) = outside(task.victim), task.parts()
    others = {name: outside(name) for name in task.others}
    found, minutes = [], []
    for seed in range(1, SEEDS + 1):
        recipe, start = replace(task.recipe, seed=seed), time.process_time()
        folder = tmp_path / str(seed)
        run = train_perturber(victim, training, recipe, folder, held_out=held, others=others, every=recipe.steps)
        minutes.append((time.process_time() - start) / 60)
        found.append(run.measures)
        last = run
    shares = np.array([each["success"] for each in found])
    beside = beside_it(task, victim, held)
    low, middle, high = quartiles(shares)
    book.add(
        suite="perturbers",
        measured=f"{task.name}: success, gan_weight {task.recipe.gan_weight:g}",
        unit="share",
        repeats=SEEDS,
        ours=float(shares.mean()),
        reference=beside["noise"],
        reference_is="uniform noise of the same norm, 10 tries",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        bar=task.bar or "",
        note="; ".join(
            [
                *(f"{name} {share:.4f}" for name, share in beside.items()),
                *(f"{name} {value:.4f}" for name, value in told(last).items()),
                f"CPU minutes {max(minutes):.1f}",
            ]
        ),
    )
    assert max(minutes) <= task.minutes
    assert beside["noise"] < shares.mean()
    assert task.bar is None or shares.mean() >= task.bar


def told(run: Run) -> dict[str, float]:
    kept = ("success_8bit", "transfer", "held_out")
    return {name: value for name in kept if (value := run.measures.get(name)) is not None}


def beside_it(task: Task, victim: nn.Module, held: Samples) -> dict[str, float]:
    """What others fool of the same images: noise; of the hard victim also PGD and the verdict."""
    assert held.labels is not None
    right = predictions(victim, held.x) == held.labels
    x, labels = held.x[right], held.labels[right]
    contenders = {"noise": attacks.CATALOG["uniform_noise"](tries=10)}
    if task.victim == "advertorch_adv":
        contenders |= {"PGD-40": attacks.pgd(40), "verdict": attacks.CATALOG["verdict"]()}
    threat = task.recipe.threat_model
    return {
        name: float(attacks.run(attack, victim, x, labels, threat, batch_size=250).fooled.double().mean())
        for name, attack in contenders.items()
    }


@pytest.mark.parametrize(("name", "recipe"), [("resnet32", ON_CIFAR), ("advertorch_cln", ON_MNIST)])
def test_a_perturber_is_fifty_times_as_fast_as_pgd(name: str, recipe: Perturbing, book: Book, repeats: int):
    """Untrained: its weights do not change how long it takes. PGD drops no row, and the perturber's pass is its own."""
    victim, task = outside(name), Task(name, recipe)
    x = task.parts()[1].x[:100]
    labels = predictions(victim, x)
    perturber = build(recipe, tuple(x.shape[1:]), 10)[0].eval()
    threat = perturber.threat.around(x)
    z = torch.zeros(len(x), perturber.latent)
    pairs = []
    with borrowed(victim):
        for _ in range(repeats):
            own = seconds(lambda: perturber.within(threat, labels, z))
            pairs.append(seconds(lambda: pgd(victim, x, labels, recipe)) / own)
    low, middle, high = quartiles(np.array(pairs))
    fast, slow = (
        end_to_end(attack, victim, x, labels, recipe) for attack in (Generated(perturber), attacks.pgd(STEPS))
    )
    book.add(
        suite="perturbers",
        measured=f"{name}: examples a second, PGD-{STEPS} = 1",
        unit="ratio",
        repeats=repeats,
        ours=len(x) / own,
        reference=len(x) / own / middle,
        reference_is=f"PGD, {STEPS} full steps, no row dropped",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        bar=50.0,
        note=f"end to end in run, with the judging pass and with rows dropped: {slow / fast:.1f}",
    )
    if name == "resnet32":
        assert middle >= 50


def pgd(victim: nn.Module, x: Tensor, labels: Tensor, recipe: Perturbing) -> Tensor:
    threat, moved = recipe.threat_model.around(x), x
    length = threat.radius / 4
    for _ in range(STEPS):
        with torch.enable_grad():
            leaf = moved.detach().requires_grad_()
            (grad,) = torch.autograd.grad(cross_entropy(victim(leaf), labels, reduction="sum"), leaf)
        moved = threat.step(moved, grad, length)
    return moved


def end_to_end(attack: Attack, victim: nn.Module, x: Tensor, labels: Tensor, recipe: Perturbing) -> float:
    return seconds(lambda: attacks.run(attack, victim, x, labels, recipe.threat_model))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
