"""How far apart are two shares that were counted on the same examples?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

LEVEL = 0.95


@dataclass(frozen=True)
class Paired:
    """Of n examples, those that count in one of two cases alone."""

    n: int
    fell: int  # in the first alone
    rose: int  # in the second alone

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> "Paired":
        """first, second: [n] bool, the same examples."""
        return cls(len(first), int((first & ~second).sum()), int((second & ~first).sum()))

    @property
    def difference(self) -> float:
        """The second share less the first."""
        return (self.rose - self.fell) / self.n

    @property
    def p(self) -> float:
        """The exact McNemar test: how often would chance alone divide the examples that changed so unevenly?"""
        changed = self.fell + self.rose
        return float(binomtest(self.fell, changed).pvalue) if changed else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference: Tango's score interval (Statistics in Medicine 17, 891, 1998).

        It holds what the score test does not reject, so it has a width where nothing changed, too.
        """
        z = float(norm.ppf((1 + LEVEL) / 2))
        found, end = self.difference, 1 - 1e-9  # at 1 the score is 0 / 0
        low = _root(lambda d: self._score(d) - z, -end, found) if self._score(-end) > z else -1.0
        high = _root(lambda d: self._score(d) + z, found, end) if self._score(end) < -z else 1.0
        return low, high

    def _score(self, difference: float) -> float:
        """How many deviations the difference that was found lies above this one."""
        n, d = self.n, difference
        b = (2 * n - self.rose + self.fell) * d - self.fell - self.rose
        c = -self.fell * d * (1 - d)
        fallen = (np.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # the likeliest share of fallen, given d
        deviation = np.sqrt(max(n * (2 * fallen + d * (1 - d)), 0.0))
        away = self.rose - self.fell - n * d
        return float(away / deviation) if deviation else float(np.sign(away) * np.inf if away else 0.0)


def _root(score: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(score, low, high))  # type: ignore[arg-type]
