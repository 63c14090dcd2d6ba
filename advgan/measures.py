"""How far are samples from the data, in a feature space that the caller names, and are they copies of it?

Feature matrices are [N, D]; everything is computed in float64. Small samples are not neutral, and each figure says of
how many it is: the Frechet distance of equal distributions is not 0 but about `frechet_bias`, the kernel distance is
unbiased and may be negative, and equal distributions score neither 1 in precision and recall, nor in coverage
(`expected_coverage`); density has mean 1 there. Compare only what was measured with as many, best beside held-out data.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from scipy.stats import binomtest
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from attacks.errors import InputError
from attacks.victim import borrowed

Features = Callable[[Tensor], Tensor]  # samples [N, ...] -> [N, D]

AT_ONCE = 512  # rows per pass of a classifier, and of a block of distances
EPS = torch.finfo(torch.float64).eps


def compare(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """All of them for features real [N, D] and fake [M, D], with the counts: "real" N, "samples" M, "features" D.

    "frechet_bias" is what equal distributions would score. k: see `neighbourhoods`. Raises InputError as those do.
    """
    near = neighbourhoods(real, fake, k)
    return {
        "samples": float(len(fake)),
        "real": float(len(real)),
        "features": float(real.shape[1]),
        "frechet": frechet(real, fake),
        "frechet_bias": frechet_bias(real, len(fake)),
        "kernel": kernel(real, fake),
        "precision": near.precision,
        "recall": near.recall,
        "density": near.density,
        "coverage": near.coverage,
    }


def frechet(real: Tensor, fake: Tensor) -> float:
    """Frechet distance, squared as is usual (arXiv 1706.08500), of the Gaussians with their means and covariances:
    ||m - n||^2 + tr(A + B - 2 (A B)^(1/2)).

    Raises InputError for features that cannot be compared, and for fewer than 2 rows.
    """
    real, fake = _checked(real, fake, least=2)
    # tr (A B)^(1/2) is the sum of the singular values of R S', where A = R'R and B = S'S: no root of a matrix that
    # rounding has made indefinite, so no imaginary part to drop. R and S come from QR, not from A and B.
    r, s = _root(real), _root(fake)
    shared = torch.linalg.svdvals(r @ s.T).sum()
    distance = (real.mean(0) - fake.mean(0)).square().sum() + r.square().sum() + s.square().sum() - 2 * shared
    return float(distance.clamp_min(0))


def frechet_bias(real: Tensor, samples: int) -> float:
    """What `frechet` gives on average for as many rows as `real` [N, D] has and `samples` more of the same Gaussian.

    (1/N + 1/M) (sum_i v_i + sum_ij v_i v_j (1 + [i = j]) / (2 (v_i + v_j))), with the covariance's eigenvalues v: exact
    as N and M grow, and too much where they are not well above D.
    """
    (real,) = _checked(real, least=2)
    variances = torch.linalg.svdvals(_root(real)).square()
    variances = variances[variances > 0]
    pairs = torch.outer(variances, variances) / (2 * (variances[:, None] + variances))
    return float((1 / len(real) + 1 / samples) * (variances.sum() + pairs.sum() + pairs.diagonal().sum()))


def kernel(real: Tensor, fake: Tensor, degree: int = 3) -> float:
    """Kernel distance: the unbiased squared MMD with the kernel (x . y / D + 1)^degree (arXiv 1801.01401).

    Over all rows at once, where the paper averages over subsets. Its mean for equal distributions is 0, so that it is
    negative as often as not. Raises InputError for features that cannot be compared, and for fewer than 2 rows.
    """
    real, fake = _checked(real, fake, least=2)

    def total(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([((part @ y.T / y.shape[1] + 1) ** degree).sum() for part in x.split(AT_ONCE)]).sum()

    def among(x: Tensor) -> Tensor:
        """The mean over pairs of different rows."""
        alone = ((x.square().sum(1) / x.shape[1] + 1) ** degree).sum()
        return (total(x, x) - alone) / (len(x) * (len(x) - 1))

    return float(among(real) + among(fake) - 2 * total(real, fake) / (len(real) * len(fake)))


@dataclass(frozen=True)
class Neighbourhoods:
    """arXiv 1904.06991 (precision, recall) and 2002.09797 (density, coverage)."""

    precision: float  # share of fakes within reach of a real row
    recall: float  # share of real rows within reach of a fake
    density: float  # real rows that a fake is within reach of, over k: mean 1 for equal distributions, may exceed it
    coverage: float  # share of real rows with a fake within their own reach


def neighbourhoods(real: Tensor, fake: Tensor, k: int = 5) -> Neighbourhoods:
    """The reach of a row is the distance to its k-th nearest neighbour in its own set, itself not counted.

    A row at that very distance is within reach: a set compared with itself scores 1. k: arXiv 1904.06991 has 3.
    Raises InputError for features that cannot be compared, and for sets of no more than k rows.
    """
    real, fake = _checked(real, fake, least=k + 1)
    centre = real.mean(0)
    real, fake = real - centre, fake - centre  # so that differences of large numbers do not cost digits
    of_real, of_fake = _reach(real, k), _reach(fake, k)
    hits = torch.zeros(len(fake), dtype=torch.int64)
    covered, recalled = 0, 0
    for rows, apart in _squared_distances(real, fake):
        inside = apart <= of_real[rows, None]
        hits += inside.sum(0)
        covered += int(inside.any(1).sum())
        recalled += int((apart <= of_fake).any(1).sum())
    return Neighbourhoods(
        precision=float((hits > 0).double().mean()),
        recall=recalled / len(real),
        density=float(hits.double().mean()) / k,
        coverage=covered / len(real),
    )


def expected_coverage(real: int, samples: int, k: int = 5) -> float:
    """Of equal distributions, whatever they are: of a row's k nearest among all others one is a fake (2002.09797)."""
    return 1 - math.prod((real - j) / (real + samples - j) for j in range(1, k + 1))


@dataclass(frozen=True)
class Recognised:
    """How many samples a classifier takes for what they should be, with the exact (Clopper-Pearson) 95 % interval."""

    count: int
    total: int

    @property
    def share(self) -> float:
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        found = binomtest(self.count, self.total).proportion_ci(confidence_level=0.95, method="exact")
        return float(found.low), float(found.high)


def recognised(classifier: nn.Module, x: Tensor, labels: Tensor) -> Recognised:
    """Of class-conditional samples x [N, ...] in the classifier's own range, those it gives their label [N] int64.

    Raises InputError where there are not as many labels as samples, or none.
    """
    if not len(x) or labels.shape != (len(x),):
        raise InputError(f"There are {len(x)} samples and labels {list(labels.shape)}. Each sample has one label.")
    with borrowed(classifier):
        guesses = torch.cat([classifier(part).argmax(1) for part in x.split(AT_ONCE)])
    return Recognised(int((guesses == labels.to(guesses.device)).sum()), len(x))


def nearest(fake: Tensor, training: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Of each fake [M, ...] the k nearest of training [N, ...]: distances [M, k] float64 and their rows [M, k] int64.

    Held-out samples in place of fakes say how near is usual: a generator that copies comes nearer.
    Raises InputError for sets that cannot be compared, and where there are fewer than k training samples.
    """
    training, fake = _checked(training, fake, least=1)
    if len(training) < k:
        raise InputError(f"{k} neighbours were asked for, and there are {len(training)} training samples.")
    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(training.numpy())
    distance, rows = (torch.from_numpy(array) for array in found.kneighbors(fake.numpy()))
    # From the rows themselves: the search expands the square, in which small distances drown.
    distance = (training[rows] - fake[:, None]).norm(dim=2)
    return distance, rows


def pixels(x: Tensor) -> Tensor:
    """[N, ...] -> [N, D] float64."""
    return x.detach().cpu().double().flatten(1)


def penultimate(classifier: nn.Module) -> Features:
    """What the last linear layer of the classifier sees: a function of samples in the classifier's own range.

    Raises InputError, when it is called, for a classifier that uses no `nn.Linear`.
    """

    def features(x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        linear = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
        hooks = [layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for layer in linear]
        try:
            with borrowed(classifier):
                return torch.cat([_last(classifier, part, seen) for part in x.split(AT_ONCE)])
        finally:
            for hook in hooks:
                hook.remove()

    return features


def _last(classifier: nn.Module, x: Tensor, seen: list[Tensor]) -> Tensor:
    seen.clear()
    classifier(x)
    if not seen:
        raise InputError(f"{type(classifier).__name__} uses no nn.Linear, so it has no layer before. Take `pixels`.")
    return pixels(seen[-1])


def _root(x: Tensor) -> Tensor:
    """R [min(N, D), D] with R'R the covariance of x [N, D]."""
    return torch.linalg.qr((x - x.mean(0)) / math.sqrt(len(x) - 1), mode="r").R


def _reach(x: Tensor, k: int) -> Tensor:
    """[N] squared distance to the k-th nearest other row, and a hair more: equal distances differ by rounding."""
    reach = torch.empty(len(x), dtype=x.dtype)
    for rows, apart in _squared_distances(x, x):
        reach[rows] = apart.kthvalue(k + 1).values  # the row itself is among them, at 0
    return reach * (1 + 1e-9)


def _squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of rows [b] of x and their squared distances [b, M] to all of y."""
    sizes = y.square().sum(1)
    for rows in torch.arange(len(x)).split(AT_ONCE):
        both = x[rows].square().sum(1, keepdim=True) + sizes
        apart = both - 2 * x[rows] @ y.T
        yield rows, apart.masked_fill(apart < 16 * EPS * both, 0.0)  # a row and its copy: what is left is rounding


def _checked(*sets: Tensor, least: int) -> list[Tensor]:
    """The features in float64 on the CPU, one row each. Raises InputError where they are not what is said above."""
    flat = [pixels(x) for x in sets]
    for x in flat:
        if len(x) < least:
            raise InputError(f"There are {len(x)} samples, and this needs {least} at least.")
        if not x.isfinite().all():
            raise InputError(
                "Some features are NaN or infinite: look at the samples, or at what made features of them."
            )
    if len({x.shape[1] for x in flat}) > 1:
        raise InputError(
            f"The sets have {' and '.join(str(x.shape[1]) for x in flat)} features. They must be the same."
        )
    return flat
