"""What a model decides under Gaussian noise, and how far from x that decision is sure to hold."""

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor, nn

from . import noise
from .api import check_inputs, device_of
from .errors import InputError
from .threat import Goal
from .victim import Victim, borrowed

BLOCK = 50  # noises that one draw gives a row: their number must not depend on the batch
ABSTAINS = -1


@dataclass(frozen=True)
class Smoothed:
    """What is known of the smoothed classifier, one row per example; each row is right with confidence 1 - alpha.

    prediction: [B] int64, its class, or -1 where the draws leave it open.
    radius: [B] float64, L2: no input nearer than this gives it another class; 0 where it abstains. The ball is not cut
        by the bounds of the data.
    alpha: the probability that a row claims more than is true, at most.
    """

    prediction: Tensor
    radius: Tensor
    alpha: float

    def certified(self, labels: Tensor, eps: float) -> Tensor:
        """[B] bool: predicted as labelled [B], and so within L2 distance eps; abstentions are not."""
        Goal(labels).check(len(self.prediction))
        return (self.prediction == labels) & (self.radius > eps)


def smoothed(
    model: nn.Module,
    x: Tensor,
    sigma: float,
    *,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 0.001,
    seed: int = 0,
    ids: Tensor | None = None,
    batch_size: int = 256,
) -> Smoothed:
    """Certify the classifier that takes the class most often given to x + sigma * normal noise (arXiv 1902.02918).

    It is the smoothed classifier that is certified and not the model itself: this is no lower bound on what attacks
    leave standing of the model. n0 draws guess the class; of n others the exact binomial bound (Clopper-Pearson, at
    confidence 1 - alpha) on its share gives the radius sigma * quantile(share); at a half or below the row abstains.

    model: gives logits [b, K] for any input, noise included; it is run in eval mode and left as it was.
    x: [B, ...] float32 or float64. sigma: standard deviation in the units of x.
    seed, ids: a row's noise depends on the seed and its id [B] int64 (default: its place in x) alone.
    batch_size: inputs shown to the model at a time, at least.

    The radius is that of real arithmetic: noise drawn and added in floating point is taken for exact. NaN logits count
    for no class. Raises InputError where the input cannot be used.
    """
    check_inputs(x, ids, batch_size)
    _check(sigma, n0, n, alpha)
    victim = Victim(model)
    home, device = x.device, device_of(model, x.device)
    ids = (torch.arange(len(x)) if ids is None else ids).to(device)
    guesses, counts = [], []
    with borrowed(model, seed):
        for part in torch.arange(len(x)).split(max(1, batch_size // BLOCK)):
            draws = _Draws(victim, x[part].detach().to(device, copy=True), sigma, seed, ids[part])
            guess = draws.votes(n0, first=0).argmax(1)
            guesses.append(guess)
            counts.append(draws.votes(n, first=math.ceil(n0 / BLOCK)).gather(1, guess[:, None]).squeeze(1))
    guess, share = torch.cat(guesses).to(home), _least_share(torch.cat(counts).to(home), n, alpha)
    sure = share > 0.5
    quantile = torch.special.ndtri(share)
    return Smoothed(torch.where(sure, guess, ABSTAINS), torch.where(sure, sigma * quantile, 0.0), alpha)


@dataclass
class _Draws:
    victim: Victim
    x: Tensor  # [b, ...]
    sigma: float
    seed: int
    ids: Tensor  # [b]

    def votes(self, n: int, first: int) -> Tensor:
        """[b, K] int64: how often each class is the answer, of n noises from draw number `first` on."""
        total: Tensor | None = None
        for draw in range(math.ceil(n / BLOCK)):
            shown = min(BLOCK, n - draw * BLOCK)
            shape = (BLOCK, *self.x.shape[1:])
            delta = noise.normal(self.seed, self.ids, first + draw, shape, self.x.dtype)[:, :shown]
            logits = self.victim.logits((self.x[:, None] + self.sigma * delta).flatten(0, 1))
            if total is None:
                total = torch.zeros(len(self.x), logits.shape[1], dtype=torch.int64, device=self.x.device)
            answer = torch.where(logits.isnan().any(1), logits.shape[1], logits.argmax(1)).view(len(self.x), shown)
            total += (answer[:, :, None] == torch.arange(logits.shape[1], device=answer.device)).sum(1)
        assert total is not None
        return total


def _least_share(counts: Tensor, n: int, alpha: float) -> Tensor:
    """[B] float64: the exact lower confidence bound on a probability of which `counts` [B] of n draws were seen."""
    seen = counts.cpu().numpy()
    bound = stats.beta.ppf(alpha, seen, n - seen + 1)
    return torch.as_tensor(bound, dtype=torch.float64).nan_to_num(0.0).to(counts.device)  # none seen: NaN


def _check(sigma: float, n0: int, n: int, alpha: float) -> None:
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma={sigma}; the noise needs a finite standard deviation above 0.")
    if n0 < 1 or n < 1:
        raise InputError(f"n0={n0}, n={n}; at least one draw each is needed.")
    if not 0 < alpha < 1:
        raise InputError(f"alpha={alpha}; a probability of being wrong, above 0 and below 1, is needed.")
