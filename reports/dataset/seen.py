"""What a model says of examples as they were read back, and whether they lie where they should."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attacks import ThreatModel, Victim
from attacks.victim import borrowed
from reports.answers import Answers
from reports.sources.dataset import unit_floats

AT_ONCE = 256  # rows shown to the model at a time
REACHED = ("fooled", "already")


@dataclass(frozen=True)
class Seen:
    """Of n inputs as they are stored."""

    prediction: np.ndarray  # [n] int64
    margin: (
        np.ndarray
    )  # [n] float64: the best other class's lead over the label; targeted, the target's over the best other
    reached: np.ndarray  # [n] bool: the goal is
    size: np.ndarray  # [n] float64, in the units of x; NaN where the clean input is not known
    inside: np.ndarray  # [n] bool; True where that cannot be told


def look(
    victim: Victim | None,
    x: np.ndarray,
    rows: pd.DataFrame,
    clean: Tensor | None,
    threat: ThreatModel,
    levels: int | None,
    device: torch.device,
    seed: int,
) -> Seen:
    """x: [n, ...] uint8 or float32 as stored, of one run; clean: [n, ...] as read. What is None is taken on trust."""
    parts = [
        (
            *_answered(victim, x[at], rows.iloc[at], device, seed),
            *_measured(x[at], None if clean is None else clean[at], threat, levels),
        )
        for at in _slices(max(1, len(x)))
    ]
    return Seen(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _answered(victim: Victim | None, x: np.ndarray, rows: pd.DataFrame, device: torch.device, seed: int):
    """Prediction, margin and reached."""
    if victim is None or len(x) == 0:
        return rows.prediction.to_numpy(), rows.margin.to_numpy(), rows.outcome.isin(REACHED).to_numpy()
    with borrowed(victim.model, seed):
        logits = victim.logits(torch.from_numpy(unit_floats(x)).to(device))
    label, target = (torch.tensor(rows[name].to_numpy(), device=device) for name in ("label", "target"))
    aimed = target >= 0
    plain, lead = Answers.of(logits, label), Answers.of(logits, target.clamp_min(0))
    margin = torch.where(aimed, -lead.margin, plain.margin)
    reached = torch.where(aimed, plain.prediction == target, plain.prediction != label)
    return tuple(tensor.cpu().numpy() for tensor in (plain.prediction, margin.double(), reached))


def _measured(x: np.ndarray, clean: Tensor | None, threat: ThreatModel, levels: int | None):
    """Size and inside."""
    if clean is None or len(x) == 0:
        return np.full(len(x), np.nan), np.ones(len(x), bool)
    stored, threat = torch.from_numpy(unit_floats(x)), replace(threat, levels=levels)
    size = replace(threat, eps=float("inf")).around(clean).size(stored)
    return size.numpy(), threat.around(clean).size(stored).isfinite().numpy()


def borne_out(rows: pd.DataFrame, said: Seen) -> np.ndarray:
    """[n] bool: inside the threat set, and the goal is reached where the row says so and only there."""
    claimed = rows.outcome.isin(REACHED).to_numpy()
    return said.inside & (said.reached == claimed) & (said.prediction == rows.prediction.to_numpy())


def _slices(n: int) -> Iterator[slice]:
    return (slice(first, first + AT_ONCE) for first in range(0, n, AT_ONCE))
