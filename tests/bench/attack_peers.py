"""DeepFool, FAB, Square, Boundary, HopSkipJump and the minimal-norm attacks as other libraries call them."""

import sys
import types
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from peers import _import, installed, pgd_calls
from torch import Tensor, nn

Attack = Callable[[], Tensor]  # gives x_adv


def adv_lib() -> ModuleType | None:
    """Adversarial-library, where it is installed (`pip install --no-deps adv-lib`); its plotting client is left out."""
    stand_in = types.ModuleType("visdom")
    stand_in.Visdom = object  # type: ignore[attr-defined]
    sys.modules.setdefault("visdom", stand_in)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import adv_lib.attacks

            return adv_lib.attacks
    except ImportError:
        return None


def library(name: str) -> ModuleType:
    """A peer's module; the test that needs it is skipped where it is not installed."""
    pytest.importorskip(name.partition(".")[0], reason="not installed (extra: bench)")
    return _import(name)


def pgd(peer: str, model: nn.Module, x: Tensor, labels: Tensor, norm: str, eps: float) -> Tensor:
    """x_adv of 40 steps of a tenth of eps, from the input."""
    library(peer)
    found = pgd_calls(model, x, labels, norm, eps, 40, 0.1, random_start=False)[peer]()
    if peer == "foolbox":  # unclipped, clipped, success
        return found[1]  # type: ignore[index]
    return torch.as_tensor(found)


def calls(name: str, model: nn.Module, x: Tensor, labels: Tensor, eps: float) -> dict[str, Attack]:
    """Library -> a call of its version of the attack, with the options that its own authors chose or, where they would
    run for hours, as many steps as are named here."""
    here = installed()
    return {library: make(model, x, labels, eps) for library, make in _MAKERS[name].items() if library in here}


def _torchattacks(kind: str, **options):
    def make(model, x, labels, eps):
        library = _import("torchattacks")
        given = {**options, "eps": eps} if kind in ("FAB", "Square") else options
        attack = getattr(library, kind)(model, **given)
        return lambda: attack(x, labels)

    return make


def _foolbox(kind: str, **options):
    def make(model, x, labels, eps):
        library = _import("foolbox")
        attack = getattr(library.attacks, kind)(**options)
        wrapped = library.PyTorchModel(model, bounds=(0, 1))
        return lambda: attack(wrapped, x, labels, epsilons=None)[0]

    return make


def _art(kind: str, eps_named: bool = False, **options):
    def make(model, x, labels, eps):
        classifier = _import("art.estimators.classification").PyTorchClassifier(
            model=model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        given = {**options, "eps": eps} if eps_named else options
        attack = getattr(_import("art.attacks.evasion"), kind)(classifier, verbose=False, **given)
        one_hot = np.eye(10, dtype=np.float32)[labels.numpy()]
        return lambda: torch.from_numpy(attack.generate(x.numpy(), one_hot))

    return make


QUERIES = 1000  # of Square
BOUNDARY_STEPS = 1000
HOPS = 5

# ART's decision attacks go example by example, for many minutes: they are not the fastest.
_MAKERS: dict[str, dict[str, Callable[..., Attack]]] = {
    "deepfool": {
        "torchattacks": _torchattacks("DeepFool"),
        "foolbox": _foolbox("L2DeepFoolAttack"),
        "art": _art("DeepFool", batch_size=128),
    },
    "fab": {"torchattacks": _torchattacks("FAB", norm="L2", steps=100)},
    "square": {
        "torchattacks": _torchattacks("Square", norm="L2", n_queries=QUERIES),
        "art": _art("SquareAttack", eps_named=True, norm=2, max_iter=QUERIES, batch_size=128),
    },
    "boundary": {
        "foolbox": _foolbox("BoundaryAttack", steps=BOUNDARY_STEPS),
    },
    "hopskipjump": {
        "foolbox": _foolbox("HopSkipJumpAttack", steps=HOPS),
    },
}
