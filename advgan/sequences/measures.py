"""How far is a generator from the oracle? Monte Carlo over sequences, with exact likelihoods and standard errors.

The likelihood under the oracle is one-sided: a generator that repeats the likeliest sequence has the best of all. Rank
by `jeffreys` and `token_js`, which only the oracle itself brings to 0.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from attacks.errors import InputError

from ..theory import Estimate
from .model import Model
from .sampling import MEASURING, sample
from .vocabulary import blocks

COUNT = 10_000
AT_ONCE = 2**10  # sequences
FROM_ORACLE, FROM_GENERATOR = 0, 1  # draws: the two sets have nothing to do with each other


@dataclass(frozen=True)
class Measures:
    """Means with their standard errors, in nats; all per token but `js`. O is the oracle, G the generator."""

    nll_oracle: Estimate  # of G's samples under O
    nll_gen: Estimate  # of O's samples under G
    kl: Estimate  # KL(O | G)
    reverse_kl: Estimate  # KL(G | O)
    jeffreys: Estimate  # their sum
    token_js: Estimate  # JS of the next token's distributions, over positions and prefixes, half of these from each
    js: Estimate  # of whole sequences: ln 2 for all but the best, so nothing to rank by

    def numbers(self) -> dict[str, float]:
        """Flat, JSON-able: each value, and its error as `NAME_error`."""
        pairs = [(name, getattr(self, name)) for name in self.__dataclass_fields__]
        return {name: each.value for name, each in pairs} | {f"{name}_error": each.error for name, each in pairs}


@dataclass(frozen=True, eq=False)
class Judged:
    """Some sequences under both models."""

    oracle: Tensor  # [n] log p_O, float64
    generator: Tensor  # [n] log p_G
    token_js: Tensor  # [n] mean over the positions

    @property
    def ratio(self) -> Tensor:
        """[n] log p_O - log p_G, the score of the best critic."""
        return self.oracle - self.generator


def compare(oracle: Model, generator: Model, length: int, count: int = COUNT, seed: int = 0) -> Measures:
    """From `count` sequences of each. Raises InputError for fewer than two, and for different vocabularies."""
    if oracle.vocabulary != generator.vocabulary:
        raise InputError(f"The oracle knows {oracle.vocabulary} tokens, and the generator {generator.vocabulary}.")
    if count < 2:
        raise InputError(f"Measures from {count} sequences have no standard error. Take 2 or more.")
    real = judged(oracle, generator, sample(oracle, count, length, seed, FROM_ORACLE, MEASURING))
    fake = judged(oracle, generator, sample(generator, count, length, seed, FROM_GENERATOR, MEASURING))
    return measures_of(real, fake, length)


def measures_of(real: Judged, fake: Judged, length: int) -> Measures:
    """From what was drawn from the oracle and from the generator, both of that length."""
    kl, reverse_kl = _mean(real.ratio / length), _mean(-fake.ratio / length)
    half_js = [_mean(softplus(-real.ratio)), _mean(softplus(fake.ratio))]
    js = _sum(half_js, 0.5)
    return Measures(
        nll_oracle=_mean(-fake.oracle / length),
        nll_gen=_mean(-real.generator / length),
        kl=kl,
        reverse_kl=reverse_kl,
        jeffreys=_sum([kl, reverse_kl]),
        token_js=_sum([_mean(real.token_js), _mean(fake.token_js)], 0.5),
        js=Estimate(math.log(2) - js.value, js.error),
    )


def judged(oracle: Model, generator: Model, tokens: Tensor) -> Judged:
    """tokens [n, T] under both."""
    parts = [_judged(oracle, generator, some) for some in tokens.split(AT_ONCE)]
    return Judged(*(torch.cat(each) for each in zip(*parts, strict=True)))


def critic_gap(critic: nn.Module, oracle: Model, generator: Model, length: int, count: int, seed: int = 0) -> Estimate:
    """How much more cross entropy a critic has than the best one, whose score is log p_O - log p_G: 0 or more, in nats.

    The critic takes tokens [b, T], in its mode; its scores are logits. Half of the sequences are the oracle's.
    """
    gaps = []
    for model, draw, sign in ((oracle, FROM_ORACLE, -1.0), (generator, FROM_GENERATOR, 1.0)):
        tokens = sample(model, count, length, seed, draw, MEASURING)
        with torch.no_grad():
            scores = torch.cat([critic(some) for some in tokens.split(AT_ONCE)]).double()
        best = judged(oracle, generator, tokens).ratio
        gaps.append(_mean(softplus(sign * scores) - softplus(sign * best)))
    return _sum(gaps, 0.5)


def sweep(
    oracle: Model, generator: Model, length: int, temperatures: Iterable[float], count: int = COUNT, seed: int = 0
) -> dict[float, Measures]:
    """The measures of one generator at several temperatures, on the same sequences of the oracle."""
    return {tau: compare(oracle, generator.at_temperature(tau), length, count, seed) for tau in temperatures}


def _judged(oracle: Model, generator: Model, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    with torch.no_grad():
        states = [model.states(tokens)[0].flatten(0, 1) for model in (oracle, generator)]
        at, parts = tokens.flatten()[:, None], []
        for rows in blocks(states[0], oracle.vocabulary):
            real, fake = (
                model.logits(hidden[rows]).log_softmax(1)
                for model, hidden in zip((oracle, generator), states, strict=True)
            )
            taken = [logs.gather(1, at[rows]).squeeze(1) for logs in (real, fake)]
            parts.append((*taken, _jensen_shannon(real, fake)))
        log_real, log_fake, js = (torch.cat(each).double().view_as(tokens) for each in zip(*parts, strict=True))
    return log_real.sum(1), log_fake.sum(1), js.mean(1)


def _jensen_shannon(real: Tensor, fake: Tensor) -> Tensor:
    """Of distributions given by their logarithms [n, V]: [n]."""
    p, q = real.exp(), fake.exp()
    middle = ((p + q) / 2).clamp_min_(torch.finfo(p.dtype).tiny).log_()
    return ((p * (real - middle)).sum(1) + (q * (fake - middle)).sum(1)) / 2


def _mean(values: Tensor) -> Estimate:
    return Estimate(values.mean().item(), values.std().item() / len(values) ** 0.5)


def _sum(each: list[Estimate], weight: float = 1.0) -> Estimate:
    """weight times the sum of independent estimates."""
    return Estimate(weight * sum(e.value for e in each), weight * math.hypot(*(e.error for e in each)))
