"""Has the game collapsed? Judged from the rows of a run's history, so that a resumed run judges alike."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from attacks.errors import InputError

ADAM_EPSILON = 1e-8  # below it, Adam's steps fall short of the learning rate
NARROW = 0.05  # of the data's mean distance between samples
LOOKED_AT = 256  # samples between which distances are taken

Row = dict[str, Any]

FAULTS = {
    "critic_always_right": (
        lambda row: row.get("right") == 1.0,
        "the critic gave every real sample a higher score than the fake beside it",
        "Raise the penalty's weight, lower the learning rate, or take the relativistic objective with r1r2.",
    ),
    "no_gradient": (
        lambda row: row.get("slope", 1.0) < ADAM_EPSILON,
        "the generator's gradient is next to zero: it has stopped learning",
        "Take an objective that does not saturate (non_saturating, least squares, relativistic), or a penalty. A "
        "perturber whose victim passes next to no gradient on: train it against a copy (advgan.distill).",
    ),
    "one_mode": (
        lambda row: row.get("spread", 1.0) < NARROW,
        "the generator's samples hardly differ from each other",
        "Take the relativistic objective with r1r2, a larger batch, or another seed.",
    ),
}


class DivergedError(InputError):
    """The game left the finite numbers; the message says where the last good state is."""


def new_warnings(history: Sequence[Row], known: Sequence[Row], patience: int) -> list[Row]:
    """Faults that have held in all rows of the last `patience` steps, and were not reported since they began."""
    found = []
    for kind, (ill, what, remedy) in FAULTS.items():
        since = _held_since(history, ill)
        if since is None or history[-1]["step"] - since < patience:
            continue
        if not any(warning["kind"] == kind and warning["step"] >= since for warning in known):
            text = f"From step {since} to {history[-1]['step']} {what}."
            found.append({"kind": kind, "step": history[-1]["step"], "what": text, "remedy": remedy})
    return found


def is_well(row: Row) -> bool:
    return all(math.isfinite(value) for value in row.values() if isinstance(value, float)) and not any(
        ill(row) for ill, _, _ in FAULTS.values()
    )


def not_finite(row: Row) -> list[str]:
    """The names of what is NaN or infinite."""
    return [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]


def all_finite(net: nn.Module) -> bool:
    """Are all its parameters?"""
    return bool(get_total_norm([p.detach() for p in net.parameters()], torch.inf).isfinite())


def spread(fakes: Tensor, reals: Tensor) -> float:
    """The mean distance between fakes over that between as many real samples; 0: all alike, 1: as in the data."""
    apart, real_apart = (torch.pdist(x[:LOOKED_AT].flatten(1)).mean() for x in (fakes, reals))
    return float(apart / real_apart) if real_apart > 0 else 1.0


def _held_since(history: Sequence[Row], ill) -> int | None:
    since = None
    for row in reversed(history):
        if not ill(row):
            break
        since = row["step"]
    return since
