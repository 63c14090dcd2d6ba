"""What is found out about a finished perturber, on examples that it was not trained on?"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from advgan.perturb import Generated, Perturber
from advgan.success import predictions
from reports.perturbing import compared, pictured, timed
from reports.perturbing.compared import AT_ONCE, Aim, Held
from reports.perturbing.victims import Victims
from reports.sources.dataset import Batch


def examined(perturber: Perturber, victims: Victims, batch: Batch) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is said of it, JSON-able, and the arrays that are shown. Both are measured through `attacks.run`."""
    aim = Aim(perturber.threat, perturber.target, perturber.classes)
    held = {name: Held.of(model, batch, aim) for name, model in victims.all.items()}
    first = held[victims.first]
    if not bool(first.counted.any()):
        return {"clean": _clean(first)}, {}
    attack = Generated(perturber)
    found = compared.ran(attack, first, aim)
    made = _made(perturber, first, aim)
    around, noise = compared.as_long(made, first, aim)
    told = {
        "clean": _clean(first),
        "compared": compared.plain([*compared.compared(found, first, aim), compared.row("as_long", first, noise)]),
        "by_class": compared.by_class(first, found, victims.classes),
        "transfer": compared.transfer(attack, held, aim) if len(held) > 1 else None,
        "timed": timed.timed(lambda x, labels: perturber(x, labels, _nothing(x, perturber)), attack, first, aim),
    }
    return told, _pictures(perturber, first, made, around)


def _clean(held: Held) -> dict[str, int]:
    correct = int((predictions(held.model, held.x) == held.labels).sum())
    return {"correct": correct, "of": len(held.x), "counted": int(held.counted.sum())}


@torch.no_grad()
def _made(perturber: Perturber, held: Held, aim: Aim) -> Tensor:
    """[n, ...]: what it makes of each example, from one noise for all."""
    parts = zip(held.x.split(AT_ONCE), aim.goal(held.labels).labels.split(AT_ONCE), strict=True)
    return torch.cat([perturber(x, labels, _nothing(x, perturber)) for x, labels in parts])


def _nothing(x: Tensor, perturber: Perturber) -> Tensor:
    return x.new_zeros(len(x), perturber.latent)


def _pictures(perturber: Perturber, held: Held, made: Tensor, noise: Tensor) -> dict[str, np.ndarray]:
    arrays = pictured.kept(held, made, noise)
    if perturber.kind != "image":
        arrays["perturbation"] = _alone(perturber, held).cpu().numpy()
    return arrays


@torch.no_grad()
def _alone(perturber: Perturber, held: Held) -> Tensor:
    """[1 or classes, ...]: the perturbations that are the same whatever the input, as they move a mid-grey one."""
    labels = torch.arange(perturber.classes if perturber.kind == "per_class" else 1, device=held.x.device)
    low, high = perturber.threat.bounds
    grey = torch.full((len(labels), *perturber.shape), (low + high) / 2, device=held.x.device)  # type: ignore[operator]
    return perturber(grey, labels, _nothing(grey, perturber)) - grey
