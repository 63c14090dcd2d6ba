"""Reasons not to believe that an example withstands: what the loop saw that speaks against the search (2106.09947)."""

from dataclasses import dataclass
from enum import IntFlag

import torch
from torch import Tensor

from .trace import Seen

FLAT = 0.25  # share of gradients that are zero from which the search was blind
KEPT = (0.4, 1.5)  # share of what the gradients promised: out of this they mislead
AGREED = 0.3  # cosine of one gradient and the next, below which they are noise
SOON = 25  # passes in which, at its last pace, the margin would be at the boundary


class Doubt(IntFlag):
    """One row may have several; 0 is none."""

    ZERO_GRADIENT = 1
    BROKEN_PROMISE = 2
    NOISY_GRADIENT = 4
    NO_RISE = 8
    STILL_RISING = 16
    STRAYED = 32
    RANDOM = 64
    BLACK_BOX_AHEAD = 128
    STILL_FINDING = 256


@dataclass(frozen=True)
class Meaning:
    """what: ends the sentence "for 12 rows ..."; remedy: what to do."""

    what: str
    remedy: str


MEANINGS = {
    Doubt.ZERO_GRADIENT: Meaning(
        "the gradient is zero",
        "Attack without gradients (square, rays), or put attacks.models.BPDA round the part that has none.",
    ),
    Doubt.BROKEN_PROMISE: Meaning(
        "the margin rose far less, or far more, than the gradients promised",
        "Give the search more starts, smaller steps and a black-box attack (square, nes).",
    ),
    Doubt.NOISY_GRADIENT: Meaning(
        "the gradients before and after a step have next to nothing in common",
        "Average them over the model's randomness (attacks.models.Repeated), or attack without them (square, spsa).",
    ),
    Doubt.NO_RISE: Meaning(
        "the margin never rose above that of the clean input",
        "Check the gradients with advgan doctor, and attack without them (square, nes).",
    ),
    Doubt.STILL_RISING: Meaning(
        "the margin was still rising when the search ended",
        "Give it more steps.",
    ),
    Doubt.STRAYED: Meaning(
        "the goal was reached, but only outside the threat set",
        "Use an attack that stays inside it, such as apgd.",
    ),
    Doubt.RANDOM: Meaning(
        "the model answered one input in two ways",
        "Judge it on several passes: attacks.Victim(model, passes=20), with attacks.models.Repeated for its gradients.",
    ),
    Doubt.BLACK_BOX_AHEAD: Meaning(
        "queries without gradients came further than those with them",
        "Give a black-box attack (square, nes) more queries; the gradients are masked.",
    ),
    Doubt.STILL_FINDING: Meaning(
        "the last passes still came further than those before",
        "Give it more rounds and queries, or --effort exhaustive.",
    ),
}


def doubts(seen: Seen) -> Tensor:
    """[B] int64: the doubts about each row, or-ed together. What a row withstood is doubtful where it is not 0.

    A comparison with NaN, where there was nothing to measure, raises no doubt.
    """
    climbed = seen.gradients > 0
    fired = {
        Doubt.ZERO_GRADIENT: seen.flat > FLAT * seen.gradients,
        Doubt.BROKEN_PROMISE: (seen.kept < KEPT[0]) | (seen.kept > KEPT[1]),
        Doubt.NOISY_GRADIENT: seen.agreement < AGREED,
        Doubt.NO_RISE: climbed & (seen.lead <= seen.first),
        Doubt.STILL_RISING: climbed & (seen.lead <= 0) & (seen.pace * SOON > -seen.lead),
        Doubt.STRAYED: seen.strayed & (seen.lead <= 0),
        Doubt.RANDOM: seen.random,
    }
    flags = seen.noted.clone()
    for doubt, rows in fired.items():
        flags = flags | (int(doubt) * rows)
    return flags


def has(flags: Tensor, *which: Doubt) -> Tensor:
    """[B] bool: any of these is among the flags [B]."""
    return (flags & int(torch.tensor([int(doubt) for doubt in which]).sum())) != 0
