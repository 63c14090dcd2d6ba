"""What critic and generator play for: losses per row of the critic's scores, and nothing else.

Scores are [b] from a linear end, larger = looks real. Losses are [b] and smaller is better for the player they are
named after. No loss averages or sums over rows.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.functional import relu, softplus

from attacks.errors import unknown


class Objective(Protocol):
    """A pair of losses. `real` and `fake` are scores [b]; row i of one may be compared with row i of the other."""

    @property
    def pairs(self) -> bool:
        """The generator's loss reads the real scores; where it does not, they may be None."""
        ...

    def critic(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Minimax:
    """The game as first written (arXiv 1406.2661, equation 1): scores are logits, D = sigmoid(score).

    critic     -log D(real) - log(1 - D(fake))    2 ln 2 at equilibrium; the mean of its negative is V(D, G)
    generator  log(1 - D(fake))                   -ln 2; its slope -D(fake) dies where the critic is sure of a fake
    """

    pairs = False

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real) + softplus(fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -softplus(fake)


@dataclass(frozen=True)
class NonSaturating:
    """arXiv 1406.2661, section 3: the critic of `Minimax`, and a generator whose slope dies where it has won.

    critic     -log D(real) - log(1 - D(fake))    2 ln 2 at equilibrium
    generator  -log D(fake)                       ln 2; its slope is D(fake) - 1
    """

    pairs = False

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real) + softplus(fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return softplus(-fake)


@dataclass(frozen=True)
class LeastSquares:
    """LSGAN (arXiv 1611.04076): scores are regressed on the codes a (fake), b (real) and c (what the generator wants).

    critic     (real - b)^2 / 2 + (fake - a)^2 / 2    (a - b)^2 / 4 at equilibrium, where every score is (a + b) / 2
    generator  (fake - c)^2 / 2                       ((a + b) / 2 - c)^2 / 2
    """

    a: float = -1.0
    b: float = 1.0
    c: float = 0.0

    pairs = False

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real - self.b).square() / 2 + (fake - self.a).square() / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return (fake - self.c).square() / 2


PEARSON = LeastSquares(-1.0, 1.0, 0.0)  # b - c = 1, b - a = 2: the generator descends Pearson's chi-square
ZERO_ONE = LeastSquares(0.0, 1.0, 1.0)  # the generator wants what the critic gives to data; not Pearson's chi-square


@dataclass(frozen=True)
class Hinge:
    """arXiv 1802.05957.

    critic     relu(1 - real) + relu(1 + fake)    2 at equilibrium, where every score is 0
    generator  -fake
    """

    pairs = False

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1 - real) + relu(1 + fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake


@dataclass(frozen=True)
class Wasserstein:
    """arXiv 1701.07875. The critic's loss has no lower end: it wants `penalties.GradientPenalty` (arXiv 1704.00028).

    critic     fake - real    0 at equilibrium, where the score is any constant
    generator  -fake
    """

    pairs = False

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake - real

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake


@dataclass(frozen=True)
class Relativistic:
    """Each fake is judged against one real (arXiv 1807.00734, 2501.05441). Wants `penalties.R1R2` to converge.

    critic     softplus(fake - real)    ln 2 at equilibrium, where the score is any constant
    generator  softplus(real - fake)    ln 2
    """

    pairs = True

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake - real)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        assert real is not None, "this generator is paid by how its fakes compare with real rows"
        return softplus(real - fake)


OBJECTIVES: dict[str, Objective] = {
    "minimax": Minimax(),
    "non_saturating": NonSaturating(),
    "least_squares_pearson": PEARSON,
    "least_squares_zero_one": ZERO_ONE,
    "hinge": Hinge(),
    "wasserstein": Wasserstein(),
    "relativistic": Relativistic(),
}


def named(objective: str | Objective) -> Objective:
    """The objective of that name, or the object itself. Raises InputError for a name that is not there."""
    if not isinstance(objective, str):
        return objective
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, OBJECTIVES)
    return OBJECTIVES[objective]
