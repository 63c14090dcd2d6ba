"""PGD as other libraries call it, where they are installed: with the same steps, step size and kind of start."""

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
from torch import Tensor, nn

PEERS = {"torchattacks": "torchattacks", "foolbox": "foolbox", "art": "adversarial-robustness-toolbox"}
Call = Callable[[], object]


def installed() -> dict[str, str]:
    """Name -> version of the peers that are here."""
    found = {}
    for name, distribution in PEERS.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def pgd_calls(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    norm: str,
    eps: float,
    steps: int,
    share: float,
    random_start: bool = True,
) -> dict[str, Call]:
    """Name -> a call that runs PGD in steps of `share` times eps, from a random start or the input, all in a batch."""
    makers = {"torchattacks": _torchattacks, "foolbox": _foolbox, "art": _art}
    return {name: makers[name](model, x, labels, norm, eps, steps, share, random_start) for name in installed()}


def _torchattacks(model, x, labels, norm, eps, steps, share, random_start) -> Call:
    library = _import("torchattacks")
    kind = library.PGD if norm == "linf" else library.PGDL2
    attack = kind(model, eps=eps, alpha=share * eps, steps=steps, random_start=random_start)
    return lambda: attack(x, labels)


def _foolbox(model, x, labels, norm, eps, steps, share, random_start) -> Call:
    library = _import("foolbox")
    kind = library.attacks.LinfPGD if norm == "linf" else library.attacks.L2PGD
    attack = kind(rel_stepsize=share, steps=steps, random_start=random_start)
    wrapped = library.PyTorchModel(model, bounds=(0, 1))
    return lambda: attack(wrapped, x, labels, epsilons=eps)


def _art(model, x, labels, norm, eps, steps, share, random_start) -> Call:
    classifier = _import("art.estimators.classification").PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = _import("art.attacks.evasion").ProjectedGradientDescentPyTorch(
        classifier,
        norm=np.inf if norm == "linf" else 2,
        eps=eps,
        eps_step=share * eps,
        max_iter=steps,
        num_random_init=int(random_start),
        batch_size=len(x),
        verbose=False,
    )
    return lambda: attack.generate(x.numpy(), labels.numpy())


def _import(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
