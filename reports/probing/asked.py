"""What may be asked of a probe, and what is refused?"""

import math
from dataclasses import dataclass

from attacks import InputError, ThreatModel
from reports.options import attack_from_text


@dataclass(frozen=True)
class Asked:
    """What is probed how. threat: its norm is that of all distances, its eps what shares are told of."""

    threat: str
    attack: str = "fmn"
    draws: int = 8  # random directions of each kind, and other examples, per example
    side: int | None = None  # points a side of a plane; None: as many as the inputs allow, at most 400
    walk: int = 1000  # queries of a walk; 0: none
    seed: int = 0

    def __post_init__(self):
        norm = ThreatModel.parse(self.threat).norm.name
        if norm == "l0":
            raise InputError("Distances along a direction are in linf, l2 or l1: give such a --threat.")
        if not 0 < self.eps < math.inf:
            raise InputError(f"--threat {self.threat}: a probe needs an eps above 0 and below inf to tell shares of.")
        if self.draws < 1:
            raise InputError(f"--directions is {self.draws}; at least one is needed.")
        if self.side is not None and self.side < 2:
            raise InputError(f"--side is {self.side}; a plane has at least 2 points a side.")
        if self.walk < 0:
            raise InputError(f"--walk is {self.walk}; it is a number of queries, 0 for none.")
        attack_from_text(self.attack)

    @property
    def norm(self) -> str:
        return ThreatModel.parse(self.threat).norm.name

    @property
    def eps(self) -> float:
        return float(ThreatModel.parse(self.threat).eps)

    @property
    def endless(self) -> str:
        return f"{self.norm}:inf"
