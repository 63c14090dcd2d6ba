"""What changed between two audits of the same examples, example by example?"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from reports import summary, words
from reports.comparing.comparable import check, meant, paired_models, warnings
from reports.comparing.paired import Paired
from reports.summary import Curve, Sweep

if TYPE_CHECKING:
    from reports.record import Audit

LIKE = 1e-3  # of a size: perturbations nearer to each other than that are called of one size


@dataclass(frozen=True)
class Side:
    """What one audit found of one model under one threat."""

    sweep: Sweep

    @property
    def standing(self) -> np.ndarray:
        """[n] bool"""
        return self.sweep.robust

    @property
    def size(self) -> np.ndarray:
        """[n] float64: of the smallest perturbation that got through; 0 where already wrong, inf where none did."""
        return self.sweep.sizes.min(axis=0)

    @property
    def taken_for(self) -> np.ndarray:
        """[n] int64: the class at that perturbation; the label where none got through."""
        found = np.take_along_axis(self.sweep.predictions, self.sweep.sizes.argmin(axis=0)[None], axis=0)[0]
        return np.where(self.sweep.fooled.any(axis=0), found, self.sweep.labels)

    @property
    def passes(self) -> np.ndarray:
        """[n] int64: forwards and backwards of all attacks."""
        return (self.sweep.queries + self.sweep.backwards).sum(axis=0)


@dataclass(frozen=True)
class Change:
    """One model under one threat in both audits, over the same n examples."""

    pair: str  # what the two models are called together
    threat: str
    a: Side
    b: Side

    @property
    def ids(self) -> np.ndarray:
        return self.a.sweep.ids

    @property
    def labels(self) -> np.ndarray:
        return self.a.sweep.labels

    @property
    def paired(self) -> Paired:
        return Paired.of(self.a.standing, self.b.standing)

    @property
    def fell(self) -> np.ndarray:
        """[n] bool: stands in A and not in B."""
        return self.a.standing & ~self.b.standing

    @property
    def rose(self) -> np.ndarray:
        """[n] bool: stands in B and not in A."""
        return self.b.standing & ~self.a.standing

    @property
    def held(self) -> np.ndarray:
        """[n] bool: stands in both."""
        return self.a.standing & self.b.standing

    @property
    def down(self) -> np.ndarray:
        """[n] bool: stands in neither."""
        return ~self.a.standing & ~self.b.standing

    @property
    def other_class(self) -> np.ndarray:
        """[n] bool: stands in neither, and is taken for another class in B."""
        return self.down & (self.a.taken_for != self.b.taken_for)

    @property
    def smaller(self) -> np.ndarray:
        """[n] bool: stands in neither, and a smaller perturbation was enough in B."""
        return self.down & (self.b.size < (1 - LIKE) * self.a.size)

    @property
    def larger(self) -> np.ndarray:
        """[n] bool: stands in neither, and B found none as small as A did."""
        return self.down & (self.b.size > (1 + LIKE) * self.a.size)

    @property
    def passes(self) -> np.ndarray:
        """[n] bool: got another number of passes."""
        return self.a.passes != self.b.passes


@dataclass(frozen=True)
class Kept:
    """How many of the same examples are right in each audit."""

    kind: str  # "clean", "threat" or "all"
    label: str
    a: int
    b: int
    paired: Paired

    @classmethod
    def of(cls, kind: str, label: str, a: np.ndarray, b: np.ndarray) -> "Kept":
        """a, b: [n] bool."""
        return cls(kind, label, int(a.sum()), int(b.sum()), Paired.of(a, b))


@dataclass(frozen=True)
class Comparison:
    """Two audits that can be compared."""

    a: "Audit"
    b: "Audit"
    pairs: dict[str, tuple[str, str]]  # what the two models are called together -> the model in A, in B
    changes: list[Change]
    warnings: list[str]  # what else differs, so that it is not the models alone

    @property
    def foremost(self) -> Change:
        """Where most examples went one way."""
        return max(self.changes, key=lambda change: abs(change.paired.difference))

    def of(self, pair: str) -> list[Change]:
        return [change for change in self.changes if change.pair == pair]

    def kept(self, pair: str) -> list[Kept]:
        """Unattacked, under each threat and, where there are several, under all of them."""
        changes = self.of(pair)
        first = changes[0]
        kept = [Kept.of("clean", "not attacked", first.a.sweep.correct, first.b.sweep.correct)]
        kept += [Kept.of("threat", words.threat(c.threat), c.a.standing, c.b.standing) for c in changes]
        if len(changes) > 1:
            sides = ([c.a.standing for c in changes], [c.b.standing for c in changes])
            kept.append(Kept.of("all", f"all {len(changes)} threats", *map(np.logical_and.reduce, sides)))
        return kept

    def curves(self, pair: str) -> tuple[dict[str, Curve], dict[str, Curve]]:
        """norm -> Curve of each audit."""
        in_a, in_b = self.pairs[pair]
        return summary.curves(self.a.curves).get(in_a, {}), summary.curves(self.b.curves).get(in_b, {})


def compare(a: "Audit", b: "Audit") -> Comparison:
    """InputError where the data or the threats differ, or where no model of one is to be held against one of the other.

    Two audits of one model each are compared whatever the models are called; of several, those of the same name.
    """
    check(a, b)
    pairs = paired_models(a.about, b.about)
    sweeps = summary.sweeps(a.rows), summary.sweeps(b.rows)
    changes = [
        _change(name, sweep, sweeps[1][in_b])
        for name, (in_a, in_b) in pairs.items()
        for sweep in sweeps[0][in_a].values()
    ]
    return Comparison(a, b, pairs, changes, warnings(a.about, b.about, pairs))


def _change(pair: str, sweep: Sweep, others: dict[str, Sweep]) -> Change:
    other = next(one for threat, one in others.items() if meant(threat) == meant(sweep.threat))
    return Change(pair, sweep.threat, Side(sweep), Side(replace(other, threat=sweep.threat)))
