"""Does a generator learn every mode of the ring and the grid, and what becomes of other games, trained alike?

Each game has the networks, steps, batches, data and optimiser of the recipe, and differs in objective and penalty
alone: WGAN-GP too moves its critic once for each move of the generator. Figures are of the averaged generator, 2,500
samples for PacGAN's measures and 50,000 for the deviations. PacGAN's own figures are published ones, of other networks
and 400,000 steps. The whole takes hours. A part is chosen with `-k "ring and minimax"` and `--seeds 2`, and its rows
are kept.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from record import Book
from rich.table import Table

from advgan.fit import Samples, fit
from advgan.health import DivergedError
from advgan.mixtures import MIXTURES, SAMPLES, TRAINING, Mixture
from advgan.recipes import RECIPES

BY_RECIPE = "relativistic, R1 and R2"
GAMES: dict[str, dict] = {  # what each changes of the recipe
    BY_RECIPE: {},
    "minimax": {"objective": "minimax", "penalty": "none"},
    "non-saturating": {"objective": "non_saturating", "penalty": "none"},
    "least squares, -1 1 0": {"objective": "least_squares_pearson", "penalty": "none"},
    "least squares, 0 1 1": {"objective": "least_squares_zero_one", "penalty": "none"},
    "hinge": {"objective": "hinge", "penalty": "none"},
    "WGAN-GP": {"objective": "wasserstein", "penalty": "gradient", "penalty_weight": 10.0},
}
PUBLISHED = {  # arXiv 1712.04086, table 1: modes, high quality in %, reverse KL; 10 trials, standard errors
    "GAN": {"ring": ("6.3±0.5", "98.2±0.2", "0.45±0.09"), "grid": ("17.3±0.8", "94.8±0.7", "0.70±0.07")},
    "ALI": {"ring": ("6.6±0.3", "97.6±0.4", "0.36±0.04"), "grid": ("24.1±0.4", "95.7±0.6", "0.14±0.03")},
    "PacGAN2": {"ring": ("7.9±0.1", "95.6±2.0", "0.07±0.03"), "grid": ("23.8±0.7", "91.3±0.8", "0.13±0.04")},
    "PacGAN3": {"ring": ("7.8±0.1", "97.7±0.3", "0.10±0.02"), "grid": ("24.6±0.4", "94.2±0.4", "0.06±0.02")},
    "PacGAN4": {"ring": ("7.8±0.1", "95.9±1.4", "0.07±0.02"), "grid": ("24.8±0.2", "93.6±0.6", "0.04±0.01")},
}
SEEDS = 5  # runs of each game
NOISE = 1  # seed of the samples that are measured
MINUTES = 5  # of CPU time, a run
ENOUGH = 50_000  # samples for the deviation of a mode
MEASURES = ("modes", "high_quality", "reverse_kl", "narrowest", "widest")


@dataclass(frozen=True)
class Line:
    """A game on a mixture: each measure over the seeds, and the CPU minutes of each run."""

    mixture: str
    game: str
    measures: dict[str, np.ndarray]
    minutes: np.ndarray

    def mean(self, name: str) -> float:
        return float(self.measures[name].mean())

    def told(self, name: str, scale: float = 1, digits: int = 2) -> str:
        values = scale * self.measures[name]
        return f"{values.mean():.{digits}f}±{standard_error(values):.{digits}f}"


@pytest.fixture(scope="module")
def lines(tables: list[Table]) -> Iterator[list[Line]]:
    found: list[Line] = []
    yield found
    tables.append(table(found))


@pytest.fixture(autouse=True)
def one_thread(threads) -> None:
    torch.set_num_threads(1)


@pytest.fixture
def seeds(pytestconfig: pytest.Config) -> range:
    return range(pytestconfig.getoption("seeds") or SEEDS)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("mixture", MIXTURES)
def test_what_is_learnt_of_a_mixture(
    mixture: str, game: str, seeds: range, lines: list[Line], book: Book, tmp_path: Path
):
    line = learnt(mixture, game, seeds, tmp_path)
    lines.append(line)
    for name in MEASURES:
        write_down(line, name, book)
    if game == BY_RECIPE:
        assert line.minutes.max() <= MINUTES
        assert (line.measures["modes"] == len(MIXTURES[mixture].centres)).all()
        assert line.mean("high_quality") >= 0.975
        assert line.mean("reverse_kl") <= 0.05
        assert line.measures["narrowest"].min() >= 0.75
        assert line.measures["widest"].max() <= 1.25


def learnt(mixture: str, game: str, seeds: range, folder: Path) -> Line:
    found, minutes = [], []
    for seed in seeds:
        start = time.process_time()
        found.append(trained(MIXTURES[mixture], game, seed, folder / str(seed)))
        minutes.append((time.process_time() - start) / 60)
    return Line(mixture, game, {name: np.array([each[name] for each in found]) for name in MEASURES}, np.array(minutes))


def trained(mixture: Mixture, game: str, seed: int, folder: Path) -> dict[str, float]:
    recipe = replace(RECIPES[mixture.name], seed=seed, **GAMES[game])
    data = Samples(mixture.sample(TRAINING, seed=0), source=mixture.name)
    try:
        run = fit(recipe, data, folder, every=recipe.steps)
    except DivergedError:
        return {"modes": 0.0, "high_quality": 0.0, "reverse_kl": float("nan"), "narrowest": 0.0, "widest": 0.0}
    deviation = mixture.measure(run.sample(ENOUGH, seed=NOISE)).deviation.nan_to_num(0.0)  # 0: the mode is missing
    return mixture.measure(run.sample(SAMPLES, seed=NOISE)).as_measures() | {
        "narrowest": float(deviation.min()),
        "widest": float(deviation.max()),
    }


def write_down(line: Line, name: str, book: Book) -> None:
    values = line.measures[name]
    published = PUBLISHED["PacGAN4" if line.game == BY_RECIPE else "GAN"][line.mixture]
    by_name = dict(zip(("modes", "high_quality", "reverse_kl"), published, strict=True))
    reference = float(by_name[name].partition("±")[0]) if name in by_name else ""
    book.add(
        suite="gan mixtures",
        measured=f"{line.mixture}: {name}, {line.game}",
        unit={"modes": "modes", "high_quality": "share", "reverse_kl": "nats"}.get(name, "true deviations"),
        repeats=len(values),
        ours=line.mean(name),
        reference=reference / 100 if name == "high_quality" else reference,  # type: ignore[operator]
        reference_is="published: PacGAN's table 1" if name in by_name else "",
        bar=bar(line.mixture, name) if line.game == BY_RECIPE else "",
        note=f"seeds 0 to {len(values) - 1}: {' '.join(f'{value:.4g}' for value in values)} "
        f"(s.e. {standard_error(values):.2g}); CPU minutes {' '.join(f'{value:.2f}' for value in line.minutes)}; "
        f"{RECIPES[line.mixture].steps} steps",
    )


def bar(mixture: str, name: str) -> float:
    modes = float(len(MIXTURES[mixture].centres))
    return {"modes": modes, "high_quality": 0.975, "reverse_kl": 0.05, "narrowest": 0.75, "widest": 1.25}[name]


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


def table(lines: list[Line]) -> Table:
    grid = Table("mixture", "game", "seeds", "modes", "% high quality", "reverse KL", "deviations", "CPU minutes")
    for line in lines:
        widths = f"{line.measures['narrowest'].min():.2f} to {line.measures['widest'].max():.2f}"
        told = (line.told("modes", digits=1), line.told("high_quality", 100, 1), line.told("reverse_kl", digits=3))
        grid.add_row(line.mixture, line.game, str(len(line.minutes)), *told, widths, f"{line.minutes.mean():.1f}")
    for mixture in dict.fromkeys(line.mixture for line in lines):
        for game, rows in PUBLISHED.items():
            grid.add_row(mixture, f"{game} (published)", "10", *rows[mixture], "", "")
    return grid
