"""Does noise of the same size do what the attacks do, and how far must it go to do it?"""

from dataclasses import dataclass

import numpy as np

from reports import summary, words
from reports.pages.shares import Share, share
from reports.summary import Sweep


@dataclass(frozen=True)
class NoiseRow:
    threat: str
    noise: str
    by_noise: Share
    attack: str
    by_attack: Share
    times: str


@dataclass(frozen=True)
class NoiseTable:
    model: str
    rows: list[NoiseRow]


@dataclass(frozen=True)
class FarRow:
    """How far the boundary is along random directions, and along an attack's."""

    model: str
    norm: str
    attack: str
    noise: str
    times: str
    crossed: Share
    cost: str


def far_rows(about: dict) -> list[FarRow]:
    """Of every model and norm whose first examples were probed."""
    told = [
        (name, norm, row) for name, model in about["models"].items() for norm, row in model.get("noise", {}).items()
    ]
    return [_far_row(*each) for each in told]


def _far_row(model: str, norm: str, told: dict) -> FarRow:
    noise, attack = told["median"], told["attack_median"]
    times = f"{words.number(float(f'{noise / attack:.2g}'))} times as far" if noise and attack else ""
    cost = f"{words.plural(told['examples'], 'example')}, {words.plural(told['forwards'], 'forward')}"
    return FarRow(
        model,
        words.norm(norm),
        words.NOTHING if attack is None else words.number(attack),
        "never" if noise is None else words.number(noise),
        times,
        share(told["crossed"], told["rays"]),
        cost,
    )


def noise_table(by_threat: dict[str, Sweep], configuration: dict) -> NoiseTable | None:
    """Of one model, the threats where both noise and an attack were run; None where there are none."""
    rows = [row for sweep in by_threat.values() if (row := _noise_row(sweep, configuration))]
    return NoiseTable(next(iter(by_threat.values())).model, rows) if rows else None


def _noise_row(sweep: Sweep, configuration: dict) -> NoiseRow | None:
    """The best noise against the best attack that is none; None where either was not run."""
    broken, correct = sweep.broken.sum(axis=1), int(sweep.correct.sum())
    is_noise = np.array([summary.kind(sweep, k, configuration) == "noise" for k in range(len(sweep.attacks))])
    if is_noise.all() or not is_noise.any():
        return None
    noise = int(np.where(is_noise, broken, -1).argmax())
    attack = int(np.where(is_noise, -1, broken).argmax())
    few, many = int(broken[noise]), int(broken[attack])
    times = f"{many / few:.{0 if many >= 10 * few else 1}f} times as many" if few and many > few else ""
    return NoiseRow(
        words.threat(sweep.threat),
        sweep.attacks[noise],
        share(few, correct),
        sweep.attacks[attack],
        share(many, correct),
        times,
    )
