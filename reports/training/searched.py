"""How are samples found that a classifier takes for another class than was asked for, and what is told of them?"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advgan.run import Run
from advgan.unrestricted import Unrestricted, unrestricted
from attacks.errors import InputError
from reports.sources import models
from reports.sources.told import victim_of

LEVELS = 255


@dataclass(frozen=True, eq=False)
class Found:
    """The samples [m, ...] that were found, the classes asked for [m], and what to say."""

    x: Tensor
    labels: Tensor
    told: list[str]


def search(run: Run, n: int, labels: Tensor | None, seed: int, against: str, judge: str | None) -> Found:
    """Among the first n samples. InputError for models that cannot be used with the run."""
    device = next(run.generator.parameters()).device
    victim, other = _model("--against", against, run, device), None
    if judge is not None:
        if judge == against:
            raise InputError(f"--judge {judge} is the model that is searched against. Name another one to judge.")
        other = _model("--judge", judge, run, device)
    found = unrestricted(run, victim_of(victim), n, labels=labels, judge=other, seed=seed)
    x, labels = found.result.x_adv[found.found], found.labels[found.found]
    return Found(x, labels, _told(found, against, judge, _in_8_bits(victim, x, labels, device)))


def _model(option: str, spec: str, run: Run, device: torch.device) -> nn.Module:
    found = models.load(spec)
    if len(found) != 1:
        raise InputError(f"{option} {spec} means {', '.join(found)}. Name one, say {option} digits:standard.")
    (model,) = found.values()
    count = models.classes_of(f"{option} {spec}", model.to(device), run.sample(2).to(device))
    if run.classes is not None and count < run.classes:
        raise InputError(f"{option} {spec} knows {count} classes, and {run.folder} makes {run.classes}.")
    return model


def _in_8_bits(victim: nn.Module, x: Tensor, labels: Tensor, device: torch.device) -> float | None:
    """The share of images that are still mistaken once they are saved."""
    if x.ndim != 4 or not len(x):
        return None
    with torch.no_grad():
        named = victim(((x * LEVELS).round() / LEVELS).to(device)).argmax(1).cpu()
    return float((named != labels).double().mean())


def _told(found: Unrestricted, against: str, judge: str | None, saved: float | None) -> list[str]:
    stood, hits, measures = int(found.stood.sum()), int(found.found.sum()), found.measures()
    told = [f"{against} takes {stood} of {len(found.labels)} samples for what was asked for; {hits} were changed so "]
    told[0] += "that it does not."
    if hits and judge is not None:
        told.append(
            f"{judge} still takes {measures['agreement']:.1%} of those for it, and took "
            f"{measures['agreement_at_start']:.1%} of them for it before the change."
        )
    if saved is not None:
        told.append(f"Rounded to 8 bits, {saved:.1%} of them are still mistaken.")
    if stood:
        told.append(f"Forward passes for each: {measures['forwards']:.1f}, gradients: {measures['backwards']:.1f}.")
    return told
