"""SeqGAN (arXiv 1609.05473): a token is as good as the critic finds the whole sequences that its beginning leads to.

REINFORCE: each token's log probability rises by the value of the beginning that it ends, less a baseline. Values come
from `rollouts`. The defaults are those of the published code, whose rollout policy was the generator itself.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attacks import noise
from attacks.errors import InputError, unknown

from ..samples import stream
from ..train import descend, follow, root_mean_square
from . import critic, likelihood
from .beginning import Beginning
from .lessons import Lessons
from .model import Model
from .rollouts import values
from .sampling import CONTROLS, FAKES, PLAYING, ROLLOUTS, sample

REWARDS = ("critic", "constant", "permuted")
CONSTANT = 0.5  # the reward of a critic that cannot tell


@dataclass(frozen=True)
class Recipe(likelihood.Recipe):
    """lr and clip are the generator's in both of its trainings, each with an optimiser of its own.

    A round is one move of the generator, then `critic_sets` pools of fresh fakes and as much data, each gone through
    `critic_epochs` times. rewards: `critic`, or a control: `constant` ones, or `permuted`, another sequence's.
    """

    rounds: int = 200
    rollouts: int = 16  # of each beginning
    baseline: bool = False  # less the mean value of the batch's other sequences there
    rewards: str = "critic"
    rollout_keeps: float = 0.0  # share of its own weights that the rollout policy keeps in a round; the paper's is 0.8
    critic: str = "seqgan"
    critic_lr: float = 1e-4
    critic_batch: int = 64
    critic_keep: float = 0.75  # dropout's
    critic_l2: float = 0.2  # of the last layer
    critic_first: int = 50  # sets before the first round
    critic_sets: int = 5  # in a round
    critic_epochs: int = 3  # of a set
    critic_sequences: int | None = None  # of the data in a set; None: all

    def __post_init__(self):
        super().__post_init__()
        if self.rewards not in REWARDS:
            raise unknown("kind of rewards", self.rewards, REWARDS)
        for name in ("rounds", "rollouts", "critic_batch", "critic_epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"A recipe with {name} = {getattr(self, name)}. It takes 1 or more.")
        if not 0 <= self.rollout_keeps < 1:
            raise InputError(f"A rollout policy that keeps {self.rollout_keeps}. It is 0 or more, and below 1.")
        fewest = 1 + self.baseline + (self.rewards == "permuted")
        if self.batch < fewest:
            raise InputError(f"A batch of {self.batch} sequences, and these rewards compare {fewest} or more.")


class Policy:
    """A `loop.Method`. Its steps: epochs of maximum likelihood, then the critic's first sets, then rounds.

    data [N, T] int64. start: a trained generator to begin with, instead of the epochs.
    """

    def __init__(self, recipe: Recipe, data: Tensor, vocabulary: int, start: Model | None = None):
        self.recipe, self.data, self.length = recipe, data, data.shape[-1]
        self.beginning = Beginning(recipe, data, vocabulary, start)
        self.steps = self.beginning.epochs + recipe.critic_first + recipe.rounds
        self.generator, device = self.beginning.generator, data.device
        judge = critic.build(recipe.critic, vocabulary, self.length, recipe.seed).to(device)
        options = recipe.critic_lr, recipe.critic_batch, recipe.critic_keep, recipe.critic_l2
        self.lessons = Lessons(judge, *options, recipe.seed)
        self.opt = torch.optim.Adam(self.generator.parameters(), recipe.lr, fused=True)
        self.rollout_policy = deepcopy(self.generator) if recipe.rollout_keeps else self.generator
        self.nets: dict[str, nn.Module] = {"generator": self.generator, "critic": judge}
        if recipe.rollout_keeps:
            self.nets["rollout_policy"] = self.rollout_policy
        self.opts = {**self.beginning.opts, "generator_opt": self.opt, "critic_opt": self.lessons.opt}
        self.config: dict[str, Any] = {"method": "policy", **self.beginning.config}

    def advance(self, step: int) -> dict[str, Tensor]:
        if step < self.beginning.epochs:
            return self.beginning.epoch(step)
        number = step - self.beginning.epochs
        if number < self.recipe.critic_first:
            return {"critic": self.lesson(number)}
        return self.round(number - self.recipe.critic_first)

    def round(self, number: int) -> dict[str, Tensor]:
        """Round number `number`, from 0."""
        if number == 0:
            follow(self.rollout_policy, self.generator, 0.0)
        about = self.move(number)
        if self.recipe.rollout_keeps:
            follow(self.rollout_policy, self.generator, self.recipe.rollout_keeps)
        sets = self.recipe.critic_sets
        lost = [self.lesson(self.recipe.critic_first + number * sets + k) for k in range(sets)]
        return about | ({"critic": torch.stack(lost).mean()} if lost else {})

    def move(self, number: int) -> dict[str, Tensor]:
        """The generator's, in that round."""
        recipe = self.recipe
        ids = torch.arange(recipe.batch, device=self.data.device) + number * recipe.batch
        tokens = sample(self.generator, ids, self.length, recipe.seed, purpose=PLAYING)
        shape = (self.length - 1, recipe.rollouts, self.length)
        uniform = noise.uniform(stream(recipe.seed, ROLLOUTS), ids, 0, shape)
        worth = values(self.rollout_policy, self._probability, tokens, uniform)
        loss = self.generator.weighted_nll(tokens, rewarded(worth, recipe, number))
        slope = root_mean_square(descend(self.opt, loss, longest=recipe.clip))
        return {"reward": worth[:, -1].mean(), "slope": slope}

    def lesson(self, number: int) -> Tensor:
        """The critic's, from pool number `number` of the run. Returns its mean loss."""
        recipe, device = self.recipe, self.data.device
        count = min(recipe.critic_sequences or len(self.data), len(self.data))
        ids = torch.arange(count, device=device) + number * count
        fakes = sample(self.generator, ids, self.length, recipe.seed, purpose=FAKES)
        return self.lessons.learn(number, self.data[ids % len(self.data)], fakes, recipe.critic_epochs)

    def _probability(self, tokens: Tensor) -> Tensor:
        """[n] of being real, as the critic sees it."""
        return self.lessons.critic.scores(tokens).sigmoid()


def rewarded(worth: Tensor, recipe: Recipe, number: int) -> Tensor:
    """[b, T]: what each token's log probability is multiplied by in round `number`, from values [b, T].

    Neither the permuted reward of a sequence nor its baseline has anything of its own in it, so that the first moves
    nothing in the mean, and the second adds nothing to it.
    """
    if recipe.rewards == "constant":
        worth = torch.full_like(worth, CONSTANT)
    given, others = worth, worth.sum(0) - worth
    count = len(worth) - 1
    if recipe.rewards == "permuted":
        luck = noise.uniform(stream(recipe.seed, CONTROLS), torch.tensor([number]), 0, ()).item()
        given = worth.roll(1 + int(luck * count), 0)
        others, count = others - given, count - 1
    return given - others / count if recipe.baseline else given
