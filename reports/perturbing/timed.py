"""How long does an example take: the generator's forward pass beside FGSM and 20 full steps of PGD?

Side by side, on the same batch of examples, lap by lap; nothing but the steps themselves, and the whole of `attacks.run`
with its judging and with examples let go once they are fooled.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import attacks
from attacks import Attack, ThreatModel
from reports.perturbing.compared import Aim, Held, pgd

LAPS, BATCH = 7, 256


def timed(forward: Callable[[Tensor, Tensor], Tensor], own: Attack, held: Held, aim: Aim) -> dict[str, Any]:
    """{"batch", "laps", "alone": {name: s}, "in_loop": {name: s}}: seconds per example, medians over the laps.

    forward: (x, labels) -> x_adv, the generator alone.
    """
    x, labels = held.x[:BATCH], held.labels[:BATCH]
    goal = aim.goal(labels)
    alone = {
        "generator": lambda: forward(x, labels),
        "fgsm": lambda: ascent(held.model, x, labels, aim.threat, 1),
        "pgd": lambda: ascent(held.model, x, labels, aim.threat, 20),
    }
    in_loop = {"generator": own, "fgsm": attacks.CATALOG["fgsm"](), "pgd": pgd()}
    looped = {
        name: lambda attack=attack: attacks.run(attack, held.model, x, goal, aim.threat)
        for name, attack in in_loop.items()
    }
    return {"batch": len(x), "laps": LAPS, "alone": _medians(alone, x), "in_loop": _medians(looped, x)}


def ascent(model: nn.Module, x: Tensor, labels: Tensor, threat: ThreatModel, steps: int) -> Tensor:
    """Plain steepest ascent of the cross entropy from x, and nothing else."""
    around = threat.around(x)
    length = around.radius * (1.0 if steps == 1 else 0.1)
    x_adv = x
    for step in range(steps):
        leaf = x_adv.detach().requires_grad_()
        (grad,) = torch.autograd.grad(cross_entropy(model(leaf), labels, reduction="sum"), leaf)
        x_adv = around.step(x_adv, grad, length, progress=(step + 1) / steps)
    return x_adv


def _medians(work: Mapping[str, Callable[[], Any]], x: Tensor) -> dict[str, float]:
    """Seconds per example of each, the lap of one beside that of the others; the first lap is not counted."""
    laps = [{name: _seconds(do, x.device) / len(x) for name, do in work.items()} for _ in range(LAPS + 1)]
    return {name: statistics.median(lap[name] for lap in laps[1:]) for name in work}


def _seconds(do: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    do()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
