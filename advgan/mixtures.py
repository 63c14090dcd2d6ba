"""Gaussians in the plane to learn, and how much of them has been learnt: the protocol of PacGAN (arXiv 1712.04086)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import noise
from attacks.errors import InputError, unknown

SAMPLES = 2500  # that the protocol measures
REACH = 3.0  # standard deviations within which a sample is of high quality
# Of a true mode the samples within reach have this share of its variance: 1 - (r^2 / 2) / (e^(r^2 / 2) - 1).
WITHIN = 1 - REACH**2 / 2 / math.expm1(REACH**2 / 2)
TRAINING = 100_000  # points that the protocol trains on


@dataclass(frozen=True, eq=False)
class Learnt:
    """What samples show of a mixture of m modes. Deviations are in units of the true one: 1 is right."""

    samples: int
    counts: Tensor  # [m] int64: high-quality samples of each mode
    deviation: Tensor  # [m] float64: over both axes together; NaN for modes with fewer than 3 high-quality samples
    narrowest: Tensor  # [m] float64: along the axis where a mode is narrowest, so that a line is not taken for a disc

    @property
    def modes(self) -> int:
        """How many have a high-quality sample."""
        return int((self.counts > 0).sum())

    @property
    def high_quality(self) -> float:
        """The share of samples within `REACH` deviations of the nearest mode: 98.9 % for a perfect sampler."""
        return int(self.counts.sum()) / self.samples

    @property
    def reverse_kl(self) -> float:
        """KL in nats of the modes' shares from equal shares. As in PacGAN's code only high-quality samples count.

        A perfect sampler does not score 0 but about (m - 1) / (2 * samples). NaN where no sample is of high quality.
        """
        shares = self.counts / self.counts.sum()
        return float((torch.special.xlogy(shares, shares * len(shares))).sum())

    def as_measures(self) -> dict[str, float]:
        named = {f"deviation_{k}": float(value) for k, value in enumerate(self.deviation)}
        return {
            "samples": float(self.samples),
            "modes": float(self.modes),
            "high_quality": self.high_quality,
            "reverse_kl": self.reverse_kl,
            **named,
        }


@dataclass(frozen=True, eq=False)
class Mixture:
    """Round Gaussians of one deviation and equal weights."""

    name: str
    centres: Tensor  # [m, 2] float64
    std: float

    def sample(self, n: int, seed: int) -> Tensor:
        """[n, 2] float32. Sample k depends on the seed and on k alone."""
        ids = torch.arange(n)
        modes = (noise.uniform(seed, ids, 0, (), torch.float64) * len(self.centres)).long()
        return (self.centres[modes] + self.std * noise.normal(seed, ids, 1, (2,), torch.float64)).float()

    def measure(self, x: Tensor) -> Learnt:
        """Of samples x [n, 2]; `SAMPLES` of them by the protocol. Raises InputError for another shape, NaN or inf."""
        _check(x)
        distance, nearest = torch.cdist(x.double().cpu(), self.centres).min(1)
        good = distance < REACH * self.std
        counts = torch.bincount(nearest[good], minlength=len(self.centres))
        of_modes = [x.double().cpu()[good & (nearest == mode)] for mode in range(len(self.centres))]
        variances = torch.stack([_variances(points) for points in of_modes]) / (WITHIN * self.std**2)
        return Learnt(len(x), counts, variances.mean(1).sqrt(), variances[:, 0].sqrt())


def _variances(points: Tensor) -> Tensor:
    """[2] of points [n, 2] about their mean along their principal axes, the smaller first; NaN for fewer than 3."""
    if len(points) < 3:
        return points.new_full((2,), math.nan)
    return torch.linalg.eigvalsh(points.T.cov()).clamp_min(0)


def _check(x: Tensor) -> None:
    if x.ndim != 2 or x.shape[1] != 2 or not len(x):
        raise InputError(f"A mixture is measured on points [n, 2], and these are {list(x.shape)}.")
    bad = int((~x.isfinite().all(1)).sum())
    if bad:
        raise InputError(f"{bad} of {len(x)} points hold NaN or infinity: the generator has diverged.")


def _ring(modes: int) -> Tensor:
    angles = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)  # without 2 pi, which is 0 again
    return torch.stack([angles.cos(), angles.sin()], 1)


def _grid(side: int) -> Tensor:
    line = 2.0 * torch.arange(side, dtype=torch.float64) - (side - 1)
    return torch.cartesian_prod(line, line)


RING = Mixture("ring", _ring(8), 0.01)
GRID = Mixture("grid", _grid(5), 0.05)
MIXTURES = {mixture.name: mixture for mixture in (RING, GRID)}


def named(name: str) -> Mixture:
    """The mixture of that name. Raises InputError for a name that is not there."""
    if name not in MIXTURES:
        raise unknown("mixture", name, MIXTURES)
    return MIXTURES[name]
