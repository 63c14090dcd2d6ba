"""How many samples a second does a turn of ours play with, beside a plain loop of the same networks?

Ours is all of a turn: dealing the batch, drawing the noise, both players' moves, the average, the statistics. The plain
loop is what is commonly written: new fakes in each phase, the critic's loss followed back into the generator, the
generator's into the critic's weights, Adam as it comes, both losses read at each step, no average. Its gains are what
it wins by mending one of these alone.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import torch
from race import Race, quartiles
from record import Book
from torch import Tensor, nn

from advgan.networks import build
from advgan.objectives import OBJECTIVES
from advgan.penalties import named
from advgan.processes import ALONE
from advgan.recipe import Recipe
from advgan.recipes import RECIPES
from advgan.run import build as build_players
from advgan.samples import Samples
from advgan.table import Table
from advgan.train import frozen

BAR = 1.3  # for images
GAINS = ("fakes made once", "fakes detached", "critic frozen", "fused Adam", "losses not read")


@dataclass(frozen=True)
class Setting:
    name: str
    recipe: Recipe
    shape: tuple[int, ...]
    turns: int  # in a lap
    bar: float | None = BAR

    def samples(self) -> Samples:
        draw = torch.Generator().manual_seed(0)
        x = 2 * torch.rand(1024, *self.shape, generator=draw) - 1
        return Samples(x, torch.randint(10, (1024,), generator=draw), 10)


LEAST = {"objective": "non_saturating", "penalty": "none"}  # the game with the least arithmetic in it
SETTINGS = [
    Setting("digits", RECIPES["digits"], (1, 8, 8), turns=10),
    Setting("28 x 28 images", RECIPES["images"], (1, 28, 28), turns=2),
    Setting("vectors of 2", Recipe(network="mlp"), (2,), turns=30, bar=None),
    Setting("digits", replace(RECIPES["digits"], **LEAST), (1, 8, 8), turns=10),
]


@pytest.fixture(autouse=True)
def one_thread(threads) -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting.name}-{setting.recipe.objective}")
def test_a_turn_is_faster_than_a_plain_loop(setting: Setting, book: Book, repeats: int):
    plain = {gain: Plain(setting, gain).turns for gain in GAINS}
    race = Race({"plain": Plain(setting).turns, "ours": ours(setting), **plain})
    race.warm_up()
    for _ in range(repeats):
        race.lap()
    low, middle, high = quartiles(race.times("plain") / race.times("ours"))
    gains = [f"{gain} {quartiles(race.times('plain') / race.times(gain))[1]:.2f}" for gain in GAINS]
    recipe, played = setting.recipe, setting.turns * setting.recipe.batch
    book.add(
        suite="gan speed",
        measured=f"{setting.name}, {recipe.network}, {recipe.objective}, {recipe.penalty}, batch {recipe.batch}",
        unit="samples/s",
        repeats=repeats,
        ours=played / race.median("ours"),
        reference=played / race.median("plain"),
        reference_is="a plain loop of the same networks",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        bar=setting.bar or "",
        note=f"the plain loop with one thing mended: {', '.join(gains)}",
    )
    assert setting.bar is None or middle >= setting.bar


def ours(setting: Setting) -> Callable[[], None]:
    table = Table.laid(setting.recipe, setting.samples(), torch.device("cpu"), ALONE, build_players, None)
    turns = iter(range(1_000_000))

    def call() -> None:
        for _ in range(setting.turns):
            table.play(next(turns))

    return call


class Plain:
    """The plain loop, with at most one of GAINS."""

    def __init__(self, setting: Setting, gain: str = ""):
        recipe, samples = setting.recipe, setting.samples()
        self.gain, self.recipe, self.count, self.samples = gain, recipe, setting.turns, samples
        classes = samples.classes if recipe.conditional else None
        self.generator, self.critic = build(
            recipe.network, setting.shape, recipe.latent, classes, width=recipe.width, depth=recipe.depth
        )
        self.objective, self.penalty = OBJECTIVES[recipe.objective], named(recipe.penalty, 1.0)
        self.generator_opt, self.critic_opt = (self.adam(net) for net in (self.generator, self.critic))

    def adam(self, net: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(net.parameters(), 2e-4, (0.0, 0.99), fused=self.gain == "fused Adam" or None)

    def turns(self) -> None:
        for _ in range(self.count):
            self.turn()

    def turn(self) -> None:
        chosen = torch.randint(len(self.samples.x), (self.recipe.batch,))
        assert self.samples.labels is not None
        real, labels = self.samples.x[chosen].requires_grad_(), self.samples.labels[chosen]
        fake = self.made(labels)
        seen = fake.detach().requires_grad_() if self.gain.startswith("fakes") else fake
        real_scores, fake_scores = self.critic(real, labels), self.critic(seen, labels)
        price = self.penalty(self.critic, real, seen, labels, real_scores, fake_scores, torch.rand)
        critic_loss = (self.objective.critic(real_scores, fake_scores) + price).mean()
        self.critic_opt.zero_grad()
        critic_loss.backward()
        self.critic_opt.step()

        fake = fake if self.gain == "fakes made once" else self.made(labels)
        with frozen(self.critic) if self.gain == "critic frozen" else nullcontext():
            real_scores = self.critic(real.detach(), labels) if self.objective.pairs else None
            generator_loss = self.objective.generator(real_scores, self.critic(fake, labels)).mean()
            self.generator_opt.zero_grad()
            generator_loss.backward()
        self.generator_opt.step()
        if self.gain != "losses not read":
            assert math.isfinite(critic_loss.item() + generator_loss.item())

    def made(self, labels: Tensor) -> Tensor:
        return self.generator(None, labels, torch.randn(len(labels), self.recipe.latent))
