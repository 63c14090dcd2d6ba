"""Adversarial attacks on PyTorch classifiers: `run` an attack on a victim towards a goal under a threat model."""

from . import adapters, losses, models
from .api import run
from .card import Card, card_of
from .catalog import CATALOG
from .combine import Cascade, EachTarget, Restarts, Transferred
from .errors import InputError
from .gradient.apgd import APGD
from .gradient.fmn import FMN
from .gradient.patch import PatchAttack
from .gradient.pgd import GradientAscent, bim, fgsm, mi_fgsm, ni_fgsm, pgd
from .gradient.trained_patch import Patch, train_patch
from .loop import Attack
from .passes.forms import Form, fastest_form
from .result import Result
from .score.square import Square
from .threat import Goal, ThreatModel, l0, l1, l2, linf
from .victim import Access, AccessError, Victim
from .warm import Warm

__all__ = [
    "APGD",
    "CATALOG",
    "FMN",
    "Access",
    "AccessError",
    "Attack",
    "Card",
    "Cascade",
    "EachTarget",
    "Form",
    "Goal",
    "GradientAscent",
    "InputError",
    "Patch",
    "PatchAttack",
    "Restarts",
    "Result",
    "Square",
    "ThreatModel",
    "Transferred",
    "Victim",
    "Warm",
    "adapters",
    "bim",
    "card_of",
    "fastest_form",
    "fgsm",
    "l0",
    "l1",
    "l2",
    "linf",
    "losses",
    "mi_fgsm",
    "models",
    "ni_fgsm",
    "pgd",
    "run",
    "train_patch",
]
