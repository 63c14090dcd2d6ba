"""How a number changes in the course of training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from attacks.errors import InputError

Shape = Literal["constant", "linear", "cosine", "geometric"]
SHAPES: dict[Shape, Callable[[float, float, float], float]] = {  # of the start, the end and the share of the way
    "constant": lambda start, end, share: start,
    "linear": lambda start, end, share: start + (end - start) * share,
    "cosine": lambda start, end, share: start + (end - start) * (1 - math.cos(math.pi * share)) / 2,
    "geometric": lambda start, end, share: start * (end / start) ** share,
}


@dataclass(frozen=True)
class Schedule:
    """`start` for a share `held` of the run, to `end` within the next `over` steps (None: all of them), then `end`."""

    start: float
    end: float | None = None  # None: as the start
    over: int | None = None
    shape: Shape = "cosine"
    held: float = 0.0

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise InputError(f"A schedule has no shape {self.shape!r}. Known: {', '.join(SHAPES)}.")
        if self.over is not None and self.over < 1:
            raise InputError(f"A schedule over {self.over} steps. It takes 1 or more, or None for the whole run.")
        if not 0 <= self.held < 1:
            raise InputError(f"A schedule held for {self.held} of the run. It takes a share from 0 to below 1.")
        ends = (self.start, self.start if self.end is None else self.end)
        if not all(map(math.isfinite, ends)):
            raise InputError(f"A schedule from {self.start} to {self.end}. Both must be finite.")
        if self.shape == "geometric" and min(ends) <= 0:
            raise InputError(f"A geometric schedule from {self.start} to {self.end}. Both must be above 0.")


def at(schedule: Schedule | float, step: int, steps: int) -> float:
    """The value for step number `step` (from 0) of a run of `steps`; a mere number stays what it is."""
    if not isinstance(schedule, Schedule):
        return schedule
    end = schedule.start if schedule.end is None else schedule.end
    held = schedule.held * max(1, steps)
    share = min(1.0, max(0.0, step - held) / (schedule.over or max(1, steps) - held))
    return SHAPES[schedule.shape](schedule.start, end, share)
