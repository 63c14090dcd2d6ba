"""What is lost when adversarial examples are put on the 8-bit grid: beside plain rounding, beside searching there.

python -m pytest tests/bench/test_dataset.py --threads 1
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from record import Book
from torch import Tensor, nn

import attacks
from attacks.repair import Repair
from reports.sources import data, models

SHARED = Path(__file__).parents[3] / "shared" / "data"
CIFAR, MNIST = SHARED / "cifar10_jpeg_test.parquet", SHARED / "mnist_test.npz"
LOST = 0.01  # of what fools between the levels, at a given eps; of the smallest perturbations none
LARGER = 1.05

FIXED = [
    ("resnet20", CIFAR, "apgd", "linf:8/255", 300),
    ("resnet20", CIFAR, "apgd", "l2:0.5", 300),
    ("resnet32", CIFAR, "apgd", "linf:8/255", 300),
    ("resnet32", CIFAR, "apgd", "l2:0.5", 300),
    ("resnet2b", CIFAR, "apgd", "linf:8/255", 300),
    ("resnet2b", CIFAR, "apgd", "l2:0.5", 300),
    ("resnet20", CIFAR, "square:queries=500", "linf:8/255", 100),
    ("advertorch_adv", MNIST, "apgd", "linf:76/255", 200),  # 0.3 is 76.5 levels, which no image can use
    ("ddn_mnist", MNIST, "apgd", "l2:1.5", 200),
]
SMALLEST = [
    ("ddn_mnist", MNIST, "ddn", "l2:inf", 60),
    ("ddn_mnist", MNIST, "fmn", "linf:inf", 60),
    ("resnet20", CIFAR, "ddn", "l2:inf", 60),
    ("resnet2b", CIFAR, "ddn", "l2:inf", 60),
    ("resnet20", CIFAR, "fmn", "linf:inf", 40),
    ("resnet32", CIFAR, "fmn", "l2:inf", 40),
    ("advertorch_adv", MNIST, "fmn", "linf:inf", 60),
]


@dataclass
class Ran:
    """Of the rows that were fooled between the levels: where that was, and what came of them on the grid."""

    model: nn.Module
    x: Tensor
    labels: Tensor
    found: attacks.Result
    rounded: attacks.Result
    repaired: attacks.Result
    direct: attacks.Result  # the same attack, searching on the grid


def ran(name: str, path: Path, text: str, threat: str, examples: int) -> Ran:
    from reports.options import attack_from_text

    model = models.load(f"{SHARED}/models.py:{name}")[name]
    batch = next(data.load(str(path)).batches(examples, examples))
    attack, between = attack_from_text(text), attacks.ThreatModel.parse(threat)
    on_grid, until = replace(between, levels=255), getattr(attack, "until", "first")
    found = attacks.run(attack, model, batch.x, batch.labels, between, batch_size=100, ids=batch.ids)
    at = (found.step > 0).nonzero().squeeze(1)
    found, x, labels, ids = found.keep(at), batch.x[at], batch.labels[at], batch.ids[at]
    access = attacks.card_of(attack).access

    def on_the_grid(**budget: int) -> attacks.Result:
        return attacks.run(Repair(found.x_adv, access), model, x, labels, on_grid, until=until, **budget)

    direct = attacks.run(attack, model, x, labels, on_grid, batch_size=100, ids=ids)
    return Ran(model, x, labels, found, on_the_grid(max_queries=2), on_the_grid(), direct)


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="peer: the folder of outside models and data is not here")


@needs_shared
@pytest.mark.parametrize(("name", "path", "text", "threat", "examples"), FIXED)
def test_at_most_one_in_a_hundred_is_lost_on_the_grid(name, path, text, threat, examples, book: Book):
    r = ran(name, path, text, threat, examples)
    lost, n = int((~r.repaired.fooled).sum()), len(r.x)
    book.add(
        suite="data sets",
        measured=f"{text} {threat}, {name}, {examples} images: fooled between the levels and lost on the grid",
        unit="examples",
        repeats=1,
        ours=lost,
        reference=n,
        reference_is="fooled between the levels",
        ratio=lost / max(1, n),
        bar=LOST,
        note=f"rounding inside the ball alone loses {int((~r.rounded.fooled).sum())}, searching on the grid "
        f"{int((~r.direct.fooled).sum())}",
    )
    assert lost <= LOST * n


@needs_shared
@pytest.mark.parametrize(("name", "path", "text", "threat", "examples"), SMALLEST)
def test_the_smallest_perturbations_all_stay_and_hardly_grow(name, path, text, threat, examples, book: Book):
    r = ran(name, path, text, threat, examples)
    lost, n = int((~r.repaired.fooled).sum()), len(r.x)
    size = float(r.repaired.size.median())
    references = {
        "the median between the levels": float(r.found.size.median()),
        "the median of the same attack on the grid": float(r.direct.size.median()),
    }
    if threat.startswith("l2"):
        references["the median that the linearised model allows on the grid"] = float(bound(r).median())
    for what, reference in references.items():
        book.add(
            suite="data sets",
            measured=f"{text} {threat}, {name}, {examples} images: median size on the grid",
            unit="size",
            repeats=1,
            ours=size,
            reference=reference,
            reference_is=what,
            ratio=size / reference,
            bar=LARGER,
            note=f"lost {lost} of {n}; rounding alone {int((~r.rounded.fooled).sum())}, searching on the grid "
            f"{int((~r.direct.fooled).sum())}",
        )
    assert lost == 0
    assert size <= LARGER * references["the median of the same attack on the grid"]
    if threat.startswith("l2"):
        assert size <= LARGER * references["the median that the linearised model allows on the grid"]


def bound(r: Ran) -> Tensor:
    """[n]: the L2 size of the smallest whole-level perturbation that gains what the one between the levels does.

    With the margin linearised there: of all whole d with grad . d >= grad . delta, the one of least L2 norm is
    round(m grad) for the least such m, up to the last coordinates that share it.
    """
    x_adv = r.found.x_adv.clone().requires_grad_()
    logits = r.model(x_adv)
    to = logits.scatter(1, r.labels[:, None], -torch.inf).argmax(1)
    lead = logits.gather(1, to[:, None]) - logits.gather(1, r.labels[:, None])
    (grad,) = torch.autograd.grad(lead.sum(), x_adv)
    grad = (grad / grad.flatten(1).abs().amax(1).view(-1, *[1] * (grad.ndim - 1))).flatten(1)
    need = (grad * ((x_adv - r.x) * 255).flatten(1)).sum(1).detach()
    short, enough = torch.zeros_like(need), torch.full_like(need, 1e6)
    for _ in range(60):
        middle = (short + enough) / 2
        gains = (grad * (grad * middle[:, None]).round()).sum(1) >= need
        short, enough = torch.where(gains, short, middle), torch.where(gains, middle, enough)
    return (grad * enough[:, None]).round().norm(dim=1) / 255
