"""Does noise of the same size do what the attacks do?"""

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
