"""Several calls timed in turn, so that a busy machine slows all of them alike and ratios stay fair."""

import gc
import time
from collections.abc import Callable

import numpy as np
from torch import nn


class Race:
    """Each lap runs every call once, each lap beginning with the next of them."""

    def __init__(self, calls: dict[str, Callable[[], object]]):
        self.calls = calls
        self.seconds: dict[str, list[float]] = {name: [] for name in calls}
        self.laps = 0

    def warm_up(self) -> None:
        for call in self.calls.values():
            call()
        gc.collect()
        gc.freeze()

    def lap(self) -> None:
        names = list(self.calls)
        first = self.laps % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            start = time.perf_counter()
            self.calls[name]()
            self.seconds[name].append(time.perf_counter() - start)
        self.laps += 1

    def times(self, name: str) -> np.ndarray:
        """[laps] seconds."""
        return np.array(self.seconds[name])

    def median(self, name: str) -> float:
        return float(np.median(self.seconds[name]))


def quartiles(ratios: np.ndarray) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile of the laps' ratios."""
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return float(low), float(middle), float(high)


def passes_of(model: nn.Module, call: Callable[[], object], at: nn.Module | None = None) -> tuple[int, int]:
    """(rows sent forward through the model, rows of gradients that came back to its input) during one call.

    at: the module whose inputs are counted; None is the first layer, for some libraries run a Sequential's layers
        themselves, past the module's own hooks.
    """
    counted = at if at is not None else next(module for module in model.modules() if not list(module.children()))
    forward, backward = 0, 0

    def count(_module, inputs):
        nonlocal forward
        forward += len(inputs[0])
        if inputs[0].requires_grad:
            inputs[0].register_hook(count_gradient)

    def count_gradient(gradient):
        nonlocal backward
        backward += len(gradient)

    handle = counted.register_forward_pre_hook(count)
    try:
        call()
    finally:
        handle.remove()
    return forward, backward
