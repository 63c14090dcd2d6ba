"""What a run plays with: given a step's number, the same turn is played, wherever and whenever."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attacks import noise
from attacks.errors import InputError

from .objectives import OBJECTIVES
from .penalties import named
from .processes import Processes
from .recipe import PRECISIONS, Recipe
from .run import Build, Shape
from .samples import FIXED, Aim, Draws, Order, Samples, stream
from .schedules import at
from .train import Adversary, Game, Players, critic_turn, decay_for, train_step


@dataclass
class Table:
    """All that one turn needs: the players, the rules and the deck."""

    recipe: Recipe
    players: Players
    game: Game
    x: Tensor
    labels: Tensor | None
    classes: int | None
    bounds: tuple[float, float]  # of images
    order: Order
    processes: Processes
    aim: Aim | None = None

    @classmethod
    def laid(
        cls,
        recipe: Recipe,
        data: Samples,
        where: torch.device,
        processes: Processes,
        build: Build,
        adversary: Adversary | None,
        aim: Aim | None = None,
    ) -> "Table":
        conditional = recipe.conditional
        classes, labels = (data.classes, data.labels) if conditional else (None, None)
        torch.manual_seed(recipe.seed)
        generator, critic = build(recipe, data.shape, classes)
        generator, critic = generator.to(where).train(), critic and critic.to(where).train()
        _check_generator(generator, recipe, data.shape)
        game = Game(
            OBJECTIVES[recipe.objective],
            adversary=adversary,
            gan_weight=recipe.gan_weight,
            class_weight=recipe.class_weight,
            autocast=PRECISIONS[recipe.precision],
        )
        labels = None if labels is None else labels.to(where)
        order, players = Order(recipe.seed, len(data.x)), Players.new(generator, critic)
        x = data.x.to(where)
        return cls(recipe, players, game, x, labels, classes, data.bounds, order, processes, aim)

    def play(self, step: int) -> dict[str, Tensor]:
        """Step number `step`, from 0: everything random in it follows from the seed and that number."""
        recipe, players = self.recipe, self.players
        self._seed_torch(step)
        lr, beta2, weight = (at(s, step, recipe.steps) for s in (recipe.lr, recipe.beta2, recipe.penalty_weight))
        players.tune(lr, (recipe.beta1, beta2))
        game = self.game if recipe.penalty == "none" else replace(self.game, penalty=named(recipe.penalty, weight))
        *extra, last = range(step * recipe.critic_steps, (step + 1) * recipe.critic_steps)
        for turn in extra if players.critic else ():
            x, labels, draws = self._deal(turn)
            z = draws.latent(recipe.latent)
            critic_turn(players, x, labels, z, game=game, draw=draws.uniform, processes=self.processes)
        x, labels, draws = self._deal(last)
        z = draws.latent(recipe.latent)
        decay = decay_for(recipe.half_life, (step + 1) * recipe.batch, recipe.batch)
        return train_step(players, x, labels, z, game=game, draw=draws.uniform, decay=decay, processes=self.processes)

    def shown(self, n: int) -> tuple[Tensor, Tensor | None]:
        """The first n samples and labels, the classes in turn."""
        n = min(n, len(self.x))
        if self.labels is None:
            return self.x[:n], None
        labels = self.labels.cpu()
        nth = torch.nn.functional.one_hot(labels).cumsum(0).gather(1, labels[:, None]).squeeze(1)  # of its class
        places = (nth * (labels.max() + 1) + labels).argsort(stable=True)[:n].to(self.x.device)
        return self.x[places], self.labels[places]

    def fakes(self, n: int) -> Tensor:
        """What the average makes of `shown(n)`, always from the same noise."""
        x, labels = self.shown(n)
        ids = torch.arange(len(x), device=x.device)
        z = noise.normal(stream(self.recipe.seed, FIXED), ids, 0, (self.recipe.latent,))
        labels = self._aimed(labels, Draws(self.recipe.seed, ids))
        with torch.no_grad():
            return self.players.average(x, labels, z)

    def _deal(self, turn: int) -> tuple[Tensor, Tensor | None, Draws]:
        """This process's share of batch number `turn`."""
        batch = self.recipe.batch
        ids = torch.arange(turn * batch, (turn + 1) * batch)[self.processes.share(batch)]
        places = self.order.at(ids).to(self.x.device)
        draws = Draws(self.recipe.seed, ids.to(self.x.device))
        labels = None if self.labels is None else self.labels[places]
        return self.x[places], self._aimed(labels, draws), draws

    def _aimed(self, labels: Tensor | None, draws: Draws) -> Tensor | None:
        return labels if self.aim is None or labels is None else self.aim(labels, draws)

    def _seed_torch(self, step: int) -> None:
        """Dropout and the like draw from torch's own generators: with these seeds their state needs no saving."""
        seed = (self.recipe.seed * 1_000_003 + step * self.processes.count + self.processes.rank) % 2**32
        torch.default_generator.manual_seed(seed)
        if self.x.is_cuda:
            torch.cuda.default_generators[self.x.device.index or 0].manual_seed(seed)


def _check_generator(generator: Any, recipe: Recipe, shape: Shape) -> None:
    """Raises InputError unless the generator makes samples of this shape from as many latents."""
    if tuple(generator.shape) != shape or generator.latent != recipe.latent:
        raise InputError(
            f"The samples are {list(shape)} and the recipe's latent is {recipe.latent}; the generator makes "
            f"{list(generator.shape)} from {generator.latent}. Build it for these."
        )
