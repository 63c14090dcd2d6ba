"""The game on the line, `gaussian-1d`: is it at the equilibrium that the theory promises?

Data are N(1, 0.5^2), whose density is known; the generator's is measured from 100,000 of its samples in 100 bins.

    run = fit(recipe(seed=0), samples(), out, measure=measure, every=EVERY)  # writes out/looks/step-N.npz at each mark
    looks = load_looks(out)  # what reports.game draws
"""

import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from scipy.special import rel_entr
from scipy.stats import norm
from torch import Tensor, nn

from attacks.errors import InputError

from .checkpoint import write
from .objectives import OBJECTIVES, Objective, Relativistic, Wasserstein
from .recipe import Recipe
from .samples import Samples
from .schedules import Schedule
from .theory import best_scores, centre_of, shares

MEAN, DEVIATION = 1.0, 0.5
COUNT, BINS, REACH = 100_000, 100, 8  # samples measured, bins, and how many deviations they reach either way
PEOPLED = 0.01  # a bin counts where p_r + p_g exceeds this share of its maximum
JS_AT_REST, CRITIC_AT_REST = 0.002, 0.02
LOOKS = "looks"
EVERY = 5  # steps between looks: the first hundred decide the game


def recipe(seed: int = 0, objective: str = "non_saturating") -> Recipe:
    """What reaches the equilibrium: a critic that moves eight times as often, and steps that end at nothing.

    R1 and R2 begin slight, so that the critic is near the best one while there is something to tell apart, and rise to
    hold it still: at 0.01 to the end it goes on finding what is left in the tails.
    """
    return Recipe(
        network="mlp",
        width=32,
        depth=2,
        latent=4,
        objective=objective,
        penalty="r1r2",
        penalty_weight=Schedule(0.01, 0.3),
        steps=600,
        batch=256,
        critic_steps=8,
        lr=Schedule(2e-3, 0.0),
        beta2=0.99,
        half_life=100 * 256,
        seed=seed,
    )


def samples(count: int = COUNT, seed: int = 0) -> Samples:
    """Drawn from the data's density: x [count, 1]."""
    noise = torch.randn(count, 1, generator=torch.Generator().manual_seed(seed))
    return Samples(MEAN + DEVIATION * noise, source=f"gaussian-1d: N({MEAN:g}, {DEVIATION:g}^2)")


@dataclass(frozen=True, eq=False)
class Look:
    """The game at one step, as plain numbers over the bins."""

    step: int
    x: np.ndarray  # [BINS] middles of the bins; the outer bins also hold what lies beyond them
    real: np.ndarray  # [BINS] the data's density: each bin's exact share over its width
    fake: np.ndarray  # [BINS] the generator's, from COUNT samples
    critic: np.ndarray  # [BINS] what the critic says at x, read as p_r / (p_r + p_g) where it can be (`theory.shares`)
    best: np.ndarray  # [BINS] what the best critic would say, NaN for an objective that has none
    js: float  # Jensen-Shannon divergence of the two, in nats
    value: float  # minus the critic's loss, V(D, G) for cross entropy: the data by quadrature, the fakes by samples
    critic_mean: float  # of the critic over data and fakes, half each

    @property
    def peopled(self) -> np.ndarray:
        """[BINS] bool: where p_r + p_g exceeds 1 % of its maximum."""
        both = self.real + self.fake
        return both > PEOPLED * both.max()

    @property
    def critic_error(self) -> float:
        """The largest |D - 1/2| where there are data or fakes: 0 at equilibrium."""
        return float(np.abs(self.critic - 0.5)[self.peopled].max())

    @property
    def at_equilibrium(self) -> bool:
        """JS at most 0.002, and D within 0.02 of 1/2 wherever there are data or fakes."""
        return self.js <= JS_AT_REST and self.critic_error <= CRITIC_AT_REST

    def numbers(self) -> dict[str, float]:
        named = {name: getattr(self, name) for name in ("js", "value", "critic_mean", "critic_error")}
        return named | {"samples": float(COUNT)}


class Standing(Protocol):
    """As much of `advgan.fit.Run` as is looked at."""

    folder: Path
    recipe: Recipe
    step: int

    def sample(self, n: int, labels: Tensor | None = None, seed: int = 0) -> Tensor: ...


def measure(run: Standing, critic: nn.Module) -> dict[str, float]:
    """For `advgan.fit.fit`: js, value, critic_mean and critic_error; writes the look to the run's folder."""
    seen = look(run.step, run.sample(COUNT, seed=1)[:, 0], critic, OBJECTIVES[run.recipe.objective])
    with io.BytesIO() as file:
        np.savez_compressed(file, allow_pickle=False, **asdict(seen))
        write(run.folder / LOOKS / f"step-{run.step}.npz", file.getvalue())
    return seen.numbers()


def load_looks(folder: Path) -> list[Look]:
    """All that a run wrote, by step. InputError where there is none."""
    files = sorted((folder / LOOKS).glob("step-*.npz"), key=lambda file: int(file.stem.removeprefix("step-")))
    if not files:
        raise InputError(f"{folder} holds no looks at the game. They are written by a run on gaussian-1d.")
    looks = []
    for file in files:
        with np.load(file, allow_pickle=False) as kept:
            looks.append(
                Look(**{f.name: kept[f.name] if kept[f.name].ndim else kept[f.name].item() for f in fields(Look)})
            )
    return looks


def look(step: int, fakes: Tensor, critic: nn.Module, objective: Objective) -> Look:
    """fakes [n]; the critic takes ([b, 1], None) and is in eval mode."""
    edges = MEAN + DEVIATION * np.linspace(-REACH, REACH, BINS + 1)
    x, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    real = np.diff(norm.cdf(edges, MEAN, DEVIATION))
    inside = np.clip(fakes.double().numpy(), edges[0], edges[-1])
    fake = np.histogram(inside, edges)[0] / len(inside)
    ranks = (np.arange(len(inside)) + 0.5) / len(inside)
    data = norm.ppf(ranks, MEAN, DEVIATION)  # equal steps of probability: a quadrature
    at_x, at_data, at_fakes = (scores(critic, points) for points in (x, data, fakes.double().numpy()))
    loss = objective.critic(torch.from_numpy(at_data), torch.from_numpy(at_fakes)).mean()
    centre = centre_of(at_x, real + fake) if isinstance(objective, Relativistic) else 0.0
    said = at_x, at_data, at_fakes
    best = np.full(BINS, np.nan)
    if not isinstance(objective, Wasserstein):
        said = [shares(objective, one, centre) for one in said]
        with np.errstate(divide="ignore", invalid="ignore"):
            best = shares(objective, best_scores(objective, np.log(real) - np.log(fake)))
    return Look(
        step=step,
        x=x,
        real=real / width,
        fake=fake / width,
        critic=said[0],
        best=best,
        js=jensen_shannon(real, fake),
        value=-float(loss),
        critic_mean=float(said[1].mean() + said[2].mean()) / 2,
    )


def jensen_shannon(real: np.ndarray, fake: np.ndarray) -> float:
    """Of two rows of shares that each add up to 1, in nats. Sampling n times into k bins adds about (k - 1) / (8 n)."""
    middle = (real + fake) / 2
    return float(rel_entr(real, middle).sum() + rel_entr(fake, middle).sum()) / 2


def scores(critic: nn.Module, points: np.ndarray) -> np.ndarray:
    """[n] -> [n] float64."""
    with torch.no_grad():
        x = torch.from_numpy(points).float()[:, None].to(next(critic.parameters()).device)
        return critic(x, None).double().cpu().numpy()
