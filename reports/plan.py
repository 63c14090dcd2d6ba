"""What is run on every example of an audit, checked before the first one?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attacks import Attack, ThreatModel, Victim, card_of
from attacks.errors import InputError
from reports.options import named_attacks
from reports.sources.dataset import Dataset
from reports.sources.told import REVEALED


@dataclass(frozen=True)
class Plan:
    """Every attack, under every threat; and a curve for every norm."""

    threats: dict[str, ThreatModel]
    attacks: dict[str, Attack]
    norms: dict[str, ThreatModel]  # one unbounded threat per curve
    seed: int
    certify: int  # so many of the first examples

    @classmethod
    def of(
        cls, threats: Sequence[str], attacks: Sequence[str | Attack], curves: bool, seed: int, certify: int = 0
    ) -> "Plan":
        parsed = {text: ThreatModel.parse(text) for text in threats}
        if not parsed:
            raise InputError("No threat is named; an audit needs at least one, say linf:8/255.")
        if len(parsed) < len(threats):
            raise InputError(f"A threat is there twice: {', '.join(threats)}.")
        if not 0 <= seed < 2**63:
            raise InputError(f"The seed is {seed}; it must be a whole number from 0 to 2**63 - 1.")
        if certify < 0:
            raise InputError(f"--certify is {certify}; it is the number of examples to be certified, 0 for none.")
        bounded = [threat for threat in parsed.values() if np.isfinite(threat.eps)]
        norms = {threat.norm.name: replace(threat, eps=float("inf")) for threat in bounded}
        return cls(parsed, named_attacks(attacks), norms if curves else {}, seed, certify)

    def on(self, data: Dataset) -> "Plan":
        """The same within the bounds of the data, and where its mask lets an attacker write."""

        def within(threats: dict[str, ThreatModel]) -> dict[str, ThreatModel]:
            return {name: replace(each, bounds=data.bounds, mask=data.mask) for name, each in threats.items()}

        return replace(self, threats=within(self.threats), norms=within(self.norms))

    def against(self, name: str, victim: Victim) -> tuple["Plan", str | None]:
        """The attacks that need no more than a model reveals; and a note on those that are left out.

        InputError where that is all of them.
        """
        needed = {attack: card_of(options).access for attack, options in self.attacks.items()}
        left_out = [attack for attack in needed if needed[attack] > victim.access]
        if not left_out:
            return self, None
        if len(left_out) == len(needed):
            raise InputError(
                f"{name} reveals {REVEALED[victim.access]}, and {', '.join(left_out)} need more. Name "
                "attacks that do not: hopskipjump and rays need decisions, square, simba and nes scores."
            )
        kept = {attack: options for attack, options in self.attacks.items() if attack not in left_out}
        note = f"It reveals {REVEALED[victim.access]}. Left out, since they need more: {', '.join(left_out)}."
        return replace(self, attacks=kept), note

    @property
    def runs(self) -> int:
        return len(self.threats) * len(self.attacks) + len(self.norms)


def usual_batch(shape: Sequence[int]) -> int:
    """As many examples as make about a million numbers: small ones are quicker together, large ones fill the memory."""
    return max(16, min(1024, 2**20 // math.prod(shape)))


def usual_shard(shape: Sequence[int]) -> int:
    """Some eight million numbers, in whole batches, so that what all attacks leave of a shard fits into memory."""
    return max(16, min(1024, 2 ** int(math.log2(2**23 / math.prod(shape)))))
