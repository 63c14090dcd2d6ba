"""AutoAttack: the four attacks whose worst case per example is the field's usual verdict (arXiv 2003.01690)."""

from dataclasses import dataclass
from typing import Literal, get_args

from .card import Card
from .combine import Cascade, EachTarget, Restarts
from .errors import unknown
from .gradient.apgd import APGD
from .gradient.fab import FAB
from .loop import Search
from .rows import Rows
from .score.square import Square

Version = Literal["standard", "plus"]


@dataclass(frozen=True)
class AutoAttack:
    """AutoAttack (arXiv 2003.01690; L1: 2103.01208), with the published numbers of steps.

    "standard": APGD on cross entropy, targeted APGD on DLR over the likeliest `targets` classes, targeted FAB over the
    same, Square. In L1, APGD starts five times and aims at 5 classes at most. "plus": APGD on cross entropy and on DLR,
    FAB and Square with five restarts each, then both targeted.
    Models of 2 classes up: fewer targets where there are fewer classes; DLR's form for three classes and for two is
    that of `losses.dlr`. Each attack sees the rows that the earlier ones left; one that falls leaves at once.
    """

    version: Version = "standard"
    steps: int = 100
    targets: int = 9
    queries: int = 5000

    def __post_init__(self):
        if self.version not in get_args(Version):
            raise unknown("version of AutoAttack", self.version, get_args(Version))
        self.parts("linf")

    @property
    def card(self) -> Card:
        return self.parts("linf").card

    def search(self, rows: Rows) -> Search:
        return self.parts(rows.threat.norm.name).search(rows)

    def parts(self, norm: str) -> Cascade:
        """The attacks, in their order."""
        sparse = norm == "l1"
        plain, square = APGD(self.steps), Square(self.queries)
        aimed = (
            EachTarget(APGD(self.steps, "dlr"), min(self.targets, 5) if sparse else self.targets),
            EachTarget(FAB(self.steps), self.targets),
        )
        if self.version == "standard":
            return Cascade((Restarts(plain, 5) if sparse else plain, *aimed, square))
        untargeted = (plain, APGD(self.steps, "dlr"), FAB(self.steps), square)
        return Cascade((*(Restarts(attack, 5) for attack in untargeted), *aimed))
