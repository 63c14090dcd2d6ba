"""The attacks by name: the list that the command line, the audit and the tests read."""

import inspect
from collections.abc import Callable
from typing import Any

from .combine import EachTarget, Restarts
from .decision.noise import gaussian_noise, uniform_noise
from .errors import InputError, unknown
from .gradient.apgd import APGD
from .gradient.fmn import FMN
from .gradient.pgd import bim, fgsm, mi_fgsm, ni_fgsm, pgd
from .loop import Attack
from .score.square import Square


def apgd_t(steps: int = 100, targets: int = 9, loss: str = "dlr") -> EachTarget:
    """APGD on each of the likeliest wrong classes in turn (arXiv 2003.01690)."""
    return EachTarget(APGD(steps, loss), targets)


def pgd_restarts(times: int = 5, steps: int = 40, share: float = 0.1, loss: str = "cross_entropy") -> Restarts:
    """PGD from several random starts (arXiv 1706.06083)."""
    return Restarts(pgd(steps, share, loss), times)


CATALOG: dict[str, Callable[..., Attack]] = {
    # gradients of the model
    "fgsm": fgsm,
    "bim": bim,
    "pgd": pgd,
    "pgd_restarts": pgd_restarts,
    "mi_fgsm": mi_fgsm,
    "ni_fgsm": ni_fgsm,
    "apgd": APGD,
    "apgd_t": apgd_t,
    "fmn": FMN,
    # scores only
    "square": Square,
    # decisions only
    "uniform_noise": uniform_noise,
    "gaussian_noise": gaussian_noise,
}


def attack_named(name: str, **options: Any) -> Attack:
    """The attack of that name with its options; raises InputError for a name or an option that is not there."""
    if name not in CATALOG:
        raise unknown("attack", name, CATALOG)
    known = inspect.signature(CATALOG[name]).parameters
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    try:
        return CATALOG[name](**options)
    except TypeError as error:
        raise InputError(f"The attack {name} cannot be made with {options}: {error}.") from None
