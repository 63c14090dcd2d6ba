"""Noise of the same norm as the perturbation it is compared with: what chance does without an adversary."""

from dataclasses import dataclass
from typing import ClassVar

from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..rows import Rows
from ..victim import Access, decision


@dataclass(frozen=True)
class Noise:
    """`tries` random directions, each taken as far as the threat set goes: of norm eps wherever the bounds allow."""

    card: ClassVar = Card(Access.DECISION, eps="finite")

    gaussian: bool = True
    tries: int = 10

    def __post_init__(self):
        if self.tries < 1:
            raise InputError(f"tries={self.tries}: noise needs at least one try.")

    def search(self, rows: Rows) -> Search:
        for _ in range(self.tries):
            shape = rows.x.shape[1:]
            yield decision(rows.threat.reach(rows.normal(*shape) if self.gaussian else rows.uniform(*shape)))


def uniform_noise(tries: int = 10) -> Noise:
    """Independent uniform entries, scaled to the norm eps."""
    return Noise(gaussian=False, tries=tries)


def gaussian_noise(tries: int = 10) -> Noise:
    """Independent normal entries, scaled to the norm eps."""
    return Noise(gaussian=True, tries=tries)
