"""What the theory of the game says in numbers, where both densities are known.

Densities come as their logarithms, x -> log p(x) in nats, as `scipy.stats` gives them (`norm(0, 1).logpdf`): the tails
that decide a Kullback-Leibler divergence underflow in p itself. Arrays are numpy, float64.

The names follow arXiv 1406.2661 (V, JS) and 1611.04076 (the codes a, b, c; Pearson's chi-square).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import expit, log_expit

from attacks.errors import InputError

from .objectives import Hinge, LeastSquares, Minimax, NonSaturating, Objective, Relativistic

LogDensity = Callable[[np.ndarray], np.ndarray]
PRECISION = 1e-10  # of an integral, absolute or relative
LIMIT = 1000  # pieces that it is cut into at last
PIECES = 64  # that an integral is cut into at first, so that no peak wider than one of them is overlooked
EQUILIBRIUM = -2 * np.log(2)  # V where the generator's density is the data's and the critic is best


class Estimate(NamedTuple):
    """A mean over samples with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class KnownGame:
    """Data and a generator whose densities are known, on the line from low to high, which holds nearly all of both.

    Every number is an integral by adaptive quadrature (scipy). InputError where one does not converge.
    """

    real: LogDensity
    fake: LogDensity
    low: float
    high: float

    def log_ratio(self, x: ArrayLike) -> np.ndarray:
        """log p_r - log p_g at x: the score of the best critic of `Minimax`."""
        x = np.asarray(x, np.float64)
        return self.real(x) - self.fake(x)

    def critic(self, x: ArrayLike) -> np.ndarray:
        """p_r / (p_r + p_g), the critic that maximises V for this generator."""
        return expit(self.log_ratio(x))

    def value(self, score: Callable[[np.ndarray], np.ndarray]) -> float:
        """V(D, G) = E_r log D + E_g log(1 - D) of D = sigmoid(score(x))."""
        return self._mean(self.real, lambda x: log_expit(score(x))) + self._mean(
            self.fake, lambda x: log_expit(-score(x))
        )

    def best_value(self) -> float:
        """max over D of V(D, G) = -2 ln 2 + 2 JS(p_r || p_g)."""
        return EQUILIBRIUM + 2 * self.js()

    def js(self) -> float:
        """Jensen-Shannon divergence in nats: 0 where the densities agree, ln 2 where they do not meet."""
        real = self._mean(self.real, lambda x: np.log(2) + log_expit(self.log_ratio(x)))
        return (real + self._mean(self.fake, lambda x: np.log(2) + log_expit(-self.log_ratio(x)))) / 2

    def kl(self) -> float:
        """KL(p_r || p_g): large where the generator leaves out what the data has."""
        return self._mean(self.real, self.log_ratio)

    def reverse_kl(self) -> float:
        """KL(p_g || p_r): large where the generator makes what the data has not."""
        return self._mean(self.fake, lambda x: -self.log_ratio(x))

    def least_squares_critic(self, x: ArrayLike, a: float, b: float) -> np.ndarray:
        """(b p_r + a p_g) / (p_r + p_g), the best critic of `LeastSquares(a, b, c)`."""
        return best_scores(LeastSquares(a, b), self.log_ratio(x))

    def least_squares_cost(self, a: float, b: float, c: float) -> float:
        """2 C(G) = E_r (D - c)^2 + E_g (D - c)^2 at the best critic D."""

        def miss(x):
            return (self.least_squares_critic(x, a, b) - c) ** 2

        return self._mean(self.real, miss) + self._mean(self.fake, miss)

    def pearson(self) -> float:
        """Chi-square of (p_r + p_g || 2 p_g): the integral of (p_r - p_g)^2 / (p_r + p_g), from 0 to 2.

        `least_squares_cost` equals it where b - c = 1 and b - a = 2, and for no other codes.
        """

        def square(x):
            return (2 * self.critic(x) - 1) ** 2

        return self._mean(self.real, square) + self._mean(self.fake, square)

    def sampled_js(self, real: np.ndarray, fake: np.ndarray) -> Estimate:
        """`js` by Monte Carlo, from samples [n] of the data and [m] of the generator."""
        value, error = sampled_value(self.log_ratio(real), self.log_ratio(fake))
        return Estimate((value - EQUILIBRIUM) / 2, error / 2)

    def sampled_kl(self, real: np.ndarray) -> Estimate:
        """`kl` by Monte Carlo, from samples [n] of the data."""
        return _estimate(self.log_ratio(real))

    def _mean(self, log_density: LogDensity, f: Callable[[np.ndarray], np.ndarray]) -> float:
        def integrand(x):
            log_p = log_density(x)
            return np.exp(log_p) * f(x) if log_p > -np.inf else 0.0

        cuts = np.linspace(self.low, self.high, PIECES + 1)[1:-1]
        options = {"points": cuts, "limit": LIMIT, "epsabs": PRECISION, "epsrel": PRECISION, "full_output": True}
        value, _, _, *trouble = quad(integrand, self.low, self.high, **options)
        if trouble or not np.isfinite(value):
            raise InputError(f"The integral from {self.low:g} to {self.high:g} does not converge, or is infinite.")
        return float(value)


def normal(mean: float, deviation: float) -> LogDensity:
    """The log density of N(mean, deviation^2)."""
    return lambda x: -(((x - mean) / deviation) ** 2) / 2 - np.log(deviation * np.sqrt(2 * np.pi))


def sampled_value(real_scores: np.ndarray, fake_scores: np.ndarray) -> Estimate:
    """V(D, G) by Monte Carlo, from the logits [n] that a critic gives to data and [m] to fakes."""
    real, fake = _estimate(log_expit(real_scores)), _estimate(log_expit(-fake_scores))
    return Estimate(real.value + fake.value, float(np.hypot(real.error, fake.error)))


def best_scores(objective: Objective, log_ratio: np.ndarray) -> np.ndarray:
    """What the best critic of an objective gives where log p_r - log p_g is `log_ratio`.

    `Relativistic` leaves a constant open, here 0. `Wasserstein` has no such critic: its scores depend on more than the
    densities at their point. Raises InputError for it.
    """
    match objective:
        case Minimax() | NonSaturating() | Relativistic():
            return np.asarray(log_ratio, np.float64)
        case LeastSquares(a, b):
            return b * expit(log_ratio) + a * expit(-np.asarray(log_ratio))
        case Hinge():
            return np.sign(log_ratio)
    raise InputError(f"The best scores of {objective} do not follow from the two densities at a point.")


def shares(objective: Objective, scores: np.ndarray, centre: float = 0.0) -> np.ndarray:
    """The scores read as p_r / (p_r + p_g), which they are at the best critic: the inverse of `best_scores`.

    centre: the score that stands for 1/2 in a `Relativistic` critic, see `centre_of`. A `Hinge` critic tells only which
    of the two is larger: its reading is near 0 or 1. Raises InputError for `Wasserstein`.
    """
    match objective:
        case Minimax() | NonSaturating():
            return expit(scores)
        case Relativistic():
            return expit(np.asarray(scores) - centre)
        case LeastSquares(a, b):
            return (np.asarray(scores) - a) / (b - a)
        case Hinge():
            return (1 + np.asarray(scores)) / 2
    raise InputError(f"The scores of {objective} do not stand for a share of the two densities.")


def centre_of(scores: np.ndarray, weights: np.ndarray) -> float:
    """The constant that a `Relativistic` critic leaves open: without it D is 1/2 in the mean over both densities.

    scores [n] at points that stand for `weights` [n] of (p_r + p_g) / 2.
    """

    def excess(centre: float) -> float:
        return float(np.average(expit(scores - centre), weights=weights)) - 0.5

    found: Any = brentq(excess, scores.min() - 1, scores.max() + 1)
    return float(found)


def _estimate(values: np.ndarray) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))
