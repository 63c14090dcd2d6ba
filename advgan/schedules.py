"""How a number changes in the course of training."""

import math
from dataclasses import dataclass
from typing import Literal

from attacks.errors import InputError

SHAPES = {
    "constant": lambda share: 0.0,
    "linear": lambda share: share,
    "cosine": lambda share: (1 - math.cos(math.pi * share)) / 2,
}


@dataclass(frozen=True)
class Schedule:
    """From `start` to `end` within the first `over` steps (None: the whole run), and `end` from there on."""

    start: float
    end: float | None = None  # None: as the start
    over: int | None = None
    shape: Literal["constant", "linear", "cosine"] = "cosine"

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise InputError(f"A schedule has no shape {self.shape!r}. Known: {', '.join(SHAPES)}.")
        if self.over is not None and self.over < 1:
            raise InputError(f"A schedule over {self.over} steps. It takes 1 or more, or None for the whole run.")
        if not all(math.isfinite(number) for number in (self.start, self.start if self.end is None else self.end)):
            raise InputError(f"A schedule from {self.start} to {self.end}. Both must be finite.")


def at(schedule: Schedule | float, step: int, steps: int) -> float:
    """The value for step number `step` (from 0) of a run of `steps`; a mere number stays what it is."""
    if not isinstance(schedule, Schedule):
        return schedule
    end = schedule.start if schedule.end is None else schedule.end
    share = min(1.0, step / (schedule.over or max(1, steps)))
    return schedule.start + (end - schedule.start) * SHAPES[schedule.shape](share)
