"""Are the answers right as often as they should be and, where they are not, is it the labels or the inputs?

The guesses are tried, not argued: what a model gets wrong for want of a normalisation it gets right with one.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .finding import Finding
from .look import Look

SURE = 1e-4  # a guess must be better than chance by this much
ENOUGH = 10  # wrong answers, below which no guess can be proved


def accuracy(look: Look) -> list[Finding]:
    """The first of these that explains wrong answers."""
    if look.labels is None:
        return _one_class_unlabelled(look)
    for ask in (_shifted, _scaled, _one_class, _near_chance, _never_predicted):
        finding = ask(look, look.labels)
        if finding:
            return [finding]
    return []


def _shifted(look: Look, labels: Tensor) -> Finding | None:
    n, right = len(labels), int((look.predicted == labels).sum())
    for shift in (1, -1):
        count = int((look.predicted == labels + shift).sum())
        if 2 * count > n and count > 2 * right and tail(count, n, 1 / look.logits.shape[1]) < SURE:
            low, high = ("low", "1 is added to") if shift > 0 else ("high", "1 is taken from")
            text = (
                f"Labels seem one too {low}: the model is right for {right} of {n}, and for {count} once {high} each."
            )
            return Finding("labels_shifted", "warning", text, "Number the labels as the model does.")
    return None


def _scaled(look: Look, labels: Tensor) -> Finding | None:
    """Other scalings of the inputs, each shown to the model where it is often wrong."""
    right = look.predicted == labels
    if int((~right).sum()) < ENOUGH:
        return None
    for what, remedy, change in _SCALINGS:
        logits = look.logits_at(change(look.x))
        if logits is None or not bool(logits.isfinite().all()):
            continue
        now = logits.argmax(1) == labels
        gained, lost = int((now & ~right).sum()), int((right & ~now).sum())
        better = int(now.sum()) > max(1.5 * int(right.sum()), len(now) / 2)
        if better and gained >= ENOUGH and tail(gained, gained + lost, 0.5) < SURE:
            text = f"The scaling of the inputs seems off: the model is right for {int(right.sum())} of {len(right)}, "
            return Finding("normalisation", "warning", f"{text}and for {int(now.sum())} once {what}.", remedy)
    return None


def _one_class(look: Look, labels: Tensor) -> Finding | None:
    wrong = int((look.predicted != labels).sum())
    if len(labels) < 8 or 10 * wrong < len(labels) or not _all_the_same(look):
        return None
    text = f"The model predicts class {int(look.predicted[0])} for all {len(labels)} inputs, and is wrong for {wrong}."
    return Finding("one_class", "warning", text, _LOOK_AT)


def _one_class_unlabelled(look: Look) -> list[Finding]:
    if len(look.x) < 8 or not _all_the_same(look):
        return []
    text = f"The model predicts class {int(look.predicted[0])} for all {len(look.x)} inputs."
    return [
        Finding("one_class", "note", text, f"Unless they are all of that class: {_LOOK_AT[0].lower()}{_LOOK_AT[1:]}")
    ]


def _all_the_same(look: Look) -> bool:
    return bool((look.predicted == look.predicted[0]).all())


def _near_chance(look: Look, labels: Tensor) -> Finding | None:
    n, right, chance = len(labels), int((look.predicted == labels).sum()), 1 / look.logits.shape[1]
    if chance**n > 0.025 or tail(right, n, chance) < 0.025 or right / n > (1 + chance) / 2:
        return None
    text = (
        f"The model gets {right} of {n} clean inputs right, which cannot be told from guessing ({100 * chance:.3g} %)."
    )
    return Finding("near_chance", "warning", text, _LOOK_AT)


def _never_predicted(look: Look, labels: Tensor) -> Finding | None:
    counts = torch.bincount(labels.clamp_min(0))
    often = (counts[: look.logits.shape[1]] >= 5).nonzero().squeeze(1).tolist()
    missing = [k for k in often if not bool((look.predicted == k).any())]
    if not missing:
        return None
    text = f"Never predicted, though five or more examples are labelled so: {', '.join(map(str, missing))}."
    return Finding("never_predicted", "note", text, "See that these classes are numbered as the model does.")


def tail(count: int, total: int, chance: float) -> float:
    """The probability that `count` or more of `total` come about by chance."""
    return sum(math.comb(total, k) * chance**k * (1 - chance) ** (total - k) for k in range(count, total + 1))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of all x, per channel of images."""
    kept = [0, *range(2, x.ndim)] if x.ndim > 2 else [0, 1]
    return x.mean(kept, keepdim=True), x.std(kept, keepdim=True).clamp_min(1e-6)


def _standardised(x: Tensor) -> Tensor:
    mean, deviation = _moments(x)
    return (x - mean) / deviation


def _taken_back(x: Tensor) -> Tensor:
    mean, deviation = _moments(x)
    return x * deviation + mean


_LOOK_AT = "Check the order of the classes, the scaling of the inputs and the weights before anything else."
_SCALINGS: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
    (
        "they are standardised (less their mean, over their deviation)",
        "Put the normalisation of its training into the model (attacks.models.Normalized).",
        _standardised,
    ),
    (
        "they run from -1 to 1",
        "Put it into the model: attacks.models.Normalized with mean 0.5 and std 0.5.",
        lambda x: 2 * x - 1,
    ),
    (
        "they run to 255",
        "Put it into the model: attacks.models.Normalized with mean 0 and std 1 / 255.",
        lambda x: 255 * x,
    ),
    ("a normalisation is taken back", "See whether the model normalises twice.", _taken_back),
)
