"""A game on tokens with gradients: the generator shows the critic shares of tokens, which tend to single ones.

Gumbel-softmax (arXiv 1611.01144, 1611.00712), relativistic as in RelGAN (Nie et al., ICLR 2019). The argmax of logits
and Gumbel noise is a token drawn from their softmax; the softmax of both over tau is its relaxation, which has a
gradient. tau falls from round to round; RelGAN's "temperature" is 1 / tau.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attacks import noise
from attacks.errors import InputError

from .. import objectives
from ..samples import Order, stream
from ..train import descend, frozen, root_mean_square
from . import critic, likelihood
from .beginning import Beginning
from .model import Model
from .sampling import GUMBEL, sample


@dataclass(frozen=True)
class Recipe(likelihood.Recipe):
    """A round is `critic_moves` moves of the critic, each on fresh fakes, then one of the generator."""

    rounds: int = 3000
    hard: bool = True  # single tokens forward, the gradient of the shares (straight through); False: shares
    tau: float = 1.0  # in the first round
    tau_last: float = 0.01  # in the last one; geometric in between
    objective: str = "relativistic"  # of advgan.objectives
    game_lr: float = 1e-4  # the generator's in the game
    critic: str = "small"
    critic_lr: float = 1e-4
    critic_moves: int = 5

    def __post_init__(self):
        super().__post_init__()
        objectives.named(self.objective)
        for name in ("rounds", "critic_moves"):
            if getattr(self, name) < 1:
                raise InputError(f"A recipe with {name} = {getattr(self, name)}. It takes 1 or more.")
        if not (self.tau > 0 and self.tau_last > 0):
            raise InputError(f"tau from {self.tau} to {self.tau_last}. Both are above 0.")

    def tau_at(self, number: int) -> float:
        """In round number `number`, from 0."""
        return self.tau * (self.tau_last / self.tau) ** (number / max(1, self.rounds - 1))


class Gumbel:
    """A `loop.Method`. Its steps: epochs of maximum likelihood, then rounds.

    data [N, T] int64. start: a trained generator to begin with, instead of the epochs.
    """

    def __init__(self, recipe: Recipe, data: Tensor, vocabulary: int, start: Model | None = None):
        self.recipe, self.data, self.length = recipe, data, data.shape[-1]
        self.beginning = Beginning(recipe, data, vocabulary, start)
        self.steps = self.beginning.epochs + recipe.rounds
        self.generator, self.objective = self.beginning.generator, objectives.named(recipe.objective)
        self.critic = critic.build(recipe.critic, vocabulary, self.length, recipe.seed).to(data.device)
        self.order = Order(recipe.seed, len(data))
        self.opt = torch.optim.Adam(self.generator.parameters(), recipe.game_lr, fused=True)
        self.critic_opt = torch.optim.Adam(self.critic.parameters(), recipe.critic_lr, fused=True)
        self.nets: dict[str, nn.Module] = {"generator": self.generator, "critic": self.critic}
        self.opts = {**self.beginning.opts, "generator_opt": self.opt, "critic_opt": self.critic_opt}
        self.config: dict[str, Any] = {"method": "gumbel", **self.beginning.config}

    def advance(self, step: int) -> dict[str, Tensor]:
        if step < self.beginning.epochs:
            return self.beginning.epoch(step)
        number = step - self.beginning.epochs
        recipe, tau = self.recipe, self.recipe.tau_at(number)
        first = number * (recipe.critic_moves + 1)
        lost = [self.critic_move(first + k, tau) for k in range(recipe.critic_moves)]
        return {"critic": torch.stack(lost).mean()} | self.generator_move(first + recipe.critic_moves, tau)

    def critic_move(self, number: int, tau: float) -> Tensor:
        """number: of the batch in the run. Returns the loss."""
        real, fake = (self.critic(shown) for shown in (self._reals(number), self._lesson(number, tau)))
        loss = self.objective.critic(real, fake).mean()
        descend(self.critic_opt, loss, longest=self.recipe.clip)
        return loss.detach()

    def generator_move(self, number: int, tau: float) -> dict[str, Tensor]:
        """number: of the batch in the run."""
        with torch.no_grad():
            real = self.critic(self._reals(number)) if self.objective.pairs else None
        with frozen(self.critic):
            loss = self.objective.generator(real, self.critic(self._fakes(number, tau))).mean()
            slope = root_mean_square(descend(self.opt, loss, longest=self.recipe.clip))
        return {"generator": loss.detach(), "slope": slope}

    def _lesson(self, number: int, tau: float) -> Tensor:
        """Fakes for the critic. Single tokens are samples, and want no noise for each of the vocabulary."""
        if self.recipe.hard:
            return sample(self.generator, self._ids(number), self.length, self.recipe.seed, purpose=GUMBEL)
        with torch.no_grad():
            return self._fakes(number, tau)

    def _fakes(self, number: int, tau: float) -> Tensor:
        recipe, ids = self.recipe, self._ids(number)
        uniform = noise.uniform(stream(recipe.seed, GUMBEL), ids, 0, (self.length, self.generator.vocabulary))
        return relaxed_sequences(self.generator, uniform, tau, recipe.hard)

    def _reals(self, number: int) -> Tensor:
        return self.data[self.order.at(self._ids(number).cpu()).to(self.data.device)]

    def _ids(self, number: int) -> Tensor:
        return torch.arange(self.recipe.batch, device=self.data.device) + number * self.recipe.batch


def relaxed_sequences(model: Model, uniform: Tensor, tau: float, hard: bool) -> Tensor:
    """Shares of tokens [b, T, V] by uniform [b, T, V] in [0, 1), with gradients.

    The model goes on from what it shows: from the mean embedding under the shares, or from the single token's.
    """
    state, shown = model.begin(len(uniform)), []
    for u in uniform.unbind(1):
        shown.append(relaxed(model.logits(state[0]), u, tau, hard))
        if len(shown) < uniform.shape[1]:
            state = model.after(shown[-1] @ model.embedding, state)
    return torch.stack(shown, 1)


def relaxed(logits: Tensor, uniform: Tensor, tau: float, hard: bool) -> Tensor:
    """Shares [b, V] of logits [b, V] by uniform [b, V] in [0, 1); hard: one of them 1, with the others' gradient."""
    tiny = torch.finfo(uniform.dtype).tiny  # 0 has no logarithm
    shares = ((logits - (-uniform.clamp_min(tiny).log()).log()) / tau).softmax(1)
    if not hard:
        return shares
    one = torch.zeros_like(shares).scatter_(1, shares.argmax(1, keepdim=True), 1.0)
    return one + (shares - shares.detach())
