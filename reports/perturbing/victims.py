"""Which classifiers are to be fooled, which are shown what was made for those, and do they fit the data?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from attacks import Access
from attacks.errors import InputError
from reports.perturbing.asked import Asked
from reports.sources import models
from reports.sources.dataset import Batch
from reports.sources.told import access_of

OTHER = {"digits:standard": "digits:robust", "digits:robust": "digits:standard"}


@dataclass(frozen=True, eq=False)
class Victims:
    """Name -> model, in eval mode, on the device."""

    fooled: dict[str, nn.Module]  # trained against; the first is the one that is measured
    shown: dict[str, nn.Module]  # took no part
    classes: list[str]  # as many as they have; numbers where the data name none

    @property
    def first(self) -> str:
        """The name of the one that is measured."""
        return next(iter(self.fooled))

    @property
    def all(self) -> dict[str, nn.Module]:
        return {**self.fooled, **self.shown}


def victims(asked: Asked, batch: Batch, names: list[str], device: torch.device) -> Victims:
    """InputError for a model that cannot be found, does not answer such inputs, or has other classes than the rest.

    Where no model was named to be shown what is made, a digits model is that was not trained against.
    """
    fooled, _ = models.load_several(asked.model, weights=None if asked.weights is None else Path(asked.weights))
    blind = [name for name, model in fooled.items() if access_of(model) is not Access.GRADIENT]
    if blind:
        raise InputError(
            f"{blind[0]} gives no gradients, and a perturber is trained through them. From Python, train one against a "
            "copy (advgan.distill); or show it what was made for another model: --transfer."
        )
    shown = _told_apart(models.load_several(_shown(asked))[0], fooled)
    counts = {}
    for option, found in (("--model", fooled), ("--transfer", shown)):
        for name, model in found.items():
            counts[name] = models.classes_of(f"{option} {name}", model.to(device), batch.x[:2].to(device))
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"The models have different numbers of classes ({told}); name some of the same classes.")
    count = next(iter(counts.values()))
    if count < len(names):
        raise InputError(
            f"The data have {len(names)} classes, and the model answers with {count}: it was trained for other classes."
        )
    return Victims(fooled, shown, [*names, *(str(k) for k in range(len(names), count))])


def _shown(asked: Asked) -> Sequence[str]:
    twice = [spec for spec in asked.transfer if spec in asked.model]
    if twice:
        raise InputError(f"--transfer {twice[0]} is trained against (--model). Name a model that took no part.")
    usual = [OTHER[asked.model[0]]] if len(asked.model) == 1 and asked.model[0] in OTHER else []
    return asked.transfer or usual


def _told_apart(shown: dict[str, nn.Module], fooled: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Those of a name that a model has which is fooled get another one."""
    return {f"{name} (transfer)" if name in fooled else name: model for name, model in shown.items()}
