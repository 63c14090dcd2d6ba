"""The attacks by name: the list that the command line, the audit and the tests read."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from .autoattack import AutoAttack
from .combine import EachTarget, Restarts, Transferred
from .decision.boundary import Boundary
from .decision.degradations import blur, contrast, salt_and_pepper
from .decision.hopskipjump import HopSkipJump
from .decision.noise import gaussian_noise, uniform_noise
from .decision.pointwise import Pointwise
from .decision.rays import RayS
from .errors import InputError, unknown
from .gradient.apgd import APGD
from .gradient.cw import CW
from .gradient.ddn import DDN
from .gradient.deepfool import DeepFool, superdeepfool
from .gradient.ead import EAD
from .gradient.fab import FAB
from .gradient.fmn import FMN
from .gradient.jsma import JSMA
from .gradient.patch import PatchAttack
from .gradient.pdpgd import PDPGD
from .gradient.pgd import bim, fgsm, mi_fgsm, ni_fgsm, pgd, pgd_adam
from .gradient.sigma_zero import SigmaZero
from .gradient.sparsefool import SparseFool
from .gradient.transfer import di_fgsm, si_fgsm, ti_fgsm, vmi_fgsm, vni_fgsm
from .loop import Attack
from .score.estimate import nes, spsa
from .score.one_pixel import OnePixel
from .score.simba import SimBA
from .score.square import Square
from .spatial.corruptions import Corruptions
from .spatial.rotate_translate import RotateTranslate
from .verdict import Effort, Verdict


def pma(steps: int = 100) -> APGD:
    """Probability margin attack (arXiv 2411.15210): its loss, climbed by APGD's steps instead of two-stage PGD's."""
    return APGD(steps, "probability_margin")


def apgd_restarts(times: int = 5, steps: int = 100, loss: str = "cross_entropy") -> Restarts:
    """APGD from several random starts (arXiv 2003.01690)."""
    return Restarts(APGD(steps, loss), times)


def transferred(surrogate: nn.Module | None = None, attack: str = "mi_fgsm", every: int = 0) -> Transferred:
    """An attack of this list on a surrogate, of which the victim is shown what it finds (arXiv 1605.07277)."""
    if not isinstance(surrogate, nn.Module):
        raise InputError(
            f"transferred:surrogate is {surrogate!r}; the torch.nn.Module to search on is needed, a model of the same "
            "inputs and classes as the victim (for several, attacks.models.Averaged)."
        )
    return Transferred(attack_named(attack), surrogate, every)


def apgd_t(steps: int = 100, targets: int = 9, loss: str = "dlr") -> EachTarget:
    """APGD on each of the likeliest wrong classes in turn (arXiv 2003.01690)."""
    return EachTarget(APGD(steps, loss), targets)


def fab_t(steps: int = 100, targets: int = 9) -> EachTarget:
    """FAB towards each of the likeliest wrong classes in turn (arXiv 2003.01690)."""
    return EachTarget(FAB(steps), targets)


def verdict(effort: Effort = "standard", rounds: int = Verdict.rounds, queries: int = Verdict.queries) -> Verdict:
    """Does an example stand? Passes go where they may still change the answer (see `attacks.verdict`)."""
    others = (
        [CATALOG[name] for name in CATALOG if name not in ("verdict", "transferred")] if effort == "exhaustive" else []
    )
    return Verdict(effort, rounds, queries, tuple(make() for make in others))


def pgd_restarts(times: int = 5, steps: int = 40, share: float = 0.1, loss: str = "cross_entropy") -> Restarts:
    """PGD from several random starts (arXiv 1706.06083)."""
    return Restarts(pgd(steps, share, loss), times)


CATALOG: dict[str, Callable[..., Attack]] = {
    # gradients of the model
    "fgsm": fgsm,
    "bim": bim,
    "pgd": pgd,
    "pgd_restarts": pgd_restarts,
    "pgd_adam": pgd_adam,
    "mi_fgsm": mi_fgsm,
    "ni_fgsm": ni_fgsm,
    "di_fgsm": di_fgsm,
    "ti_fgsm": ti_fgsm,
    "si_fgsm": si_fgsm,
    "vmi_fgsm": vmi_fgsm,
    "vni_fgsm": vni_fgsm,
    "apgd": APGD,
    "apgd_restarts": apgd_restarts,
    "pma": pma,
    "apgd_t": apgd_t,
    "autoattack": AutoAttack,
    "verdict": verdict,
    # gradients, for the smallest perturbation
    "fmn": FMN,
    "ddn": DDN,
    "deepfool": DeepFool,
    "superdeepfool": superdeepfool,
    "cw": CW,
    "fab": FAB,
    "fab_t": fab_t,
    "pdpgd": PDPGD,
    "ead": EAD,
    "sigma_zero": SigmaZero,
    "jsma": JSMA,
    "sparsefool": SparseFool,
    "patch": PatchAttack,
    # scores only
    "square": Square,
    "nes": nes,
    "spsa": spsa,
    "simba": SimBA,
    "one_pixel": OnePixel,
    # decisions only
    "boundary": Boundary,
    "hopskipjump": HopSkipJump,
    "rays": RayS,
    "pointwise": Pointwise,
    "uniform_noise": uniform_noise,
    "gaussian_noise": gaussian_noise,
    "salt_and_pepper": salt_and_pepper,
    "blur": blur,
    "contrast": contrast,
    "transferred": transferred,
    "rotate_translate": RotateTranslate,
    "corruptions": Corruptions,
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
