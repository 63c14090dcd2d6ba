"""AutoAttack: the four attacks whose worst case per example is the field's usual verdict (arXiv 2003.01690)."""

from typing import Literal

from .combine import Cascade, EachTarget, Restarts
from .errors import unknown
from .gradient.apgd import APGD
from .gradient.fab import FAB
from .score.square import Square

Version = Literal["standard", "plus"]


def autoattack(version: Version = "standard", steps: int = 100, targets: int = 9, queries: int = 5000) -> Cascade:
    """AutoAttack (arXiv 2003.01690; L1: 2103.01208), with the published numbers of steps.

    "standard": APGD on cross entropy, targeted APGD on DLR over the likeliest `targets` classes, targeted FAB over the
    same, Square. "plus": APGD on cross entropy and on DLR, FAB and Square with five restarts each, then both targeted.
    Models of 2 classes up: fewer targets where there are fewer classes; DLR's form for three classes and for two is
    that of `losses.dlr`. Each attack sees the rows that the earlier ones left; one that falls leaves at once.
    """
    aimed = (EachTarget(APGD(steps, "dlr"), targets), EachTarget(FAB(steps), targets))
    if version == "standard":
        return Cascade((APGD(steps), *aimed, Square(queries)))
    if version == "plus":
        untargeted = (APGD(steps), APGD(steps, "dlr"), FAB(steps), Square(queries))
        return Cascade((*(Restarts(attack, 5) for attack in untargeted), *aimed))
    raise unknown("version of AutoAttack", version, ("standard", "plus"))
