"""What do the rows of an audit add up to?

Denominators: robust accuracy counts all n examples; a success rate counts the initially correct ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from reports import words


@dataclass(frozen=True)
class Sweep:
    """All attacks of one threat on one model, over the same n examples."""

    model: str
    threat: str
    attacks: list[str]
    ids: np.ndarray  # [n] int64, rising
    labels: np.ndarray  # [n] int64
    correct: np.ndarray  # [n] bool, on the clean input
    fooled: np.ndarray  # [a, n] bool; an already wrong example is fooled too
    predictions: np.ndarray  # [a, n] int64, at the adversarial input
    sizes: np.ndarray  # [a, n] float64; 0 where already wrong, inf where this attack did not get through
    queries: np.ndarray  # [a, n] int64
    backwards: np.ndarray  # [a, n] int64

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def robust(self) -> np.ndarray:
        """[n] bool: right when clean, and no attack got through."""
        return self.correct & ~self.fooled.any(axis=0)

    @property
    def broken(self) -> np.ndarray:
        """[a, n] bool: right when clean, and this attack got through."""
        return self.correct & self.fooled

    @property
    def strongest(self) -> int:
        """The index of the attack that broke most; the first of them where several did."""
        return int(self.broken.sum(axis=1).argmax())

    @property
    def alone(self) -> np.ndarray:
        """[a] int64: how many examples this attack broke and no other did."""
        broken = self.broken
        return (broken & (broken.sum(axis=0) == 1)).sum(axis=1)


@dataclass(frozen=True)
class Curve:
    """The smallest perturbations found for one model in one norm."""

    model: str
    norm: str
    attack: str
    ids: np.ndarray  # [n] int64, rising
    correct: np.ndarray  # [n] bool
    size: np.ndarray  # [n] float64; 0 where already wrong, inf where none was found
    queries: float  # mean per example
    backwards: float  # mean per example

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def lasting(self) -> np.ndarray:
        """[n] float64, rising: the eps below which each example stands; 0 for one that is wrong when clean."""
        return np.sort(np.where(self.correct, self.size, 0.0))

    def standing(self, eps: np.ndarray | float) -> np.ndarray:
        """How many examples are correct and have no known adversarial input within eps. Shape of `eps`, int64."""
        return self.n - np.searchsorted(self.lasting, eps, side="right")


@dataclass(frozen=True)
class ClassCount:
    """One class under one model."""

    label: int
    n: int
    correct: int
    robust: dict[str, int]  # threat -> how many stand
    robust_to_all: int


@lru_cache(maxsize=4096)
def interval(count: int, total: int) -> tuple[float, float]:
    """The exact (Clopper-Pearson) 95 % interval of a share."""
    found = binomtest(count, total).proportion_ci(confidence_level=0.95, method="exact")
    return float(found.low), float(found.high)


def kind(sweep: Sweep, k: int, configuration: dict[str, Any]) -> str:
    """What the k-th attack of a sweep used: "noise", "black box" (no gradient), "single step" or "gradient"."""
    options = configuration.get("attacks", {}).get(sweep.attacks[k]) or {}
    if "noise" in f"{sweep.attacks[k].partition(':')[0]} {options.get('class', '')}".lower():
        return "noise"
    most = sweep.backwards[k].max(initial=0)
    if most == 1 and (options.get("class") == "Verdict" or options.get("steps", 1) != 1):
        return "gradient"  # it would have gone on, and all fell to the first
    return "gradient" if most > 1 else "single step" if most == 1 else "black box"


def sweeps(rows: pd.DataFrame) -> dict[str, dict[str, Sweep]]:
    """model -> threat -> Sweep, in the order of the rows. ValueError where attacks saw different examples."""
    out: dict[str, dict[str, Sweep]] = {}
    for (model, threat), runs in _runs(rows).items():
        out.setdefault(model, {})[threat] = _sweep(model, threat, runs)
    return out


def _runs(rows: pd.DataFrame) -> dict[tuple[str, str], dict[str, pd.DataFrame]]:
    runs: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    for (model, threat, attack), run in _groups(rows, ["model", "threat", "attack"]):
        runs.setdefault((model, threat), {})[attack] = run
    return runs


def _groups(frame: pd.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    for key, group in frame.groupby(keys, observed=True, sort=False):
        names = key if isinstance(key, tuple) else (key,)
        yield tuple(str(name) for name in names), group.sort_values("id")


def _sweep(model: str, threat: str, runs: dict[str, pd.DataFrame]) -> Sweep:
    first = next(iter(runs.values()))
    for attack, run in runs.items():
        if not np.array_equal(run["id"], first["id"]) or not np.array_equal(run["correct"], first["correct"]):
            raise ValueError(f"{model}, {threat}: {attack} saw other examples than {next(iter(runs))}.")

    def stacked(column: str) -> np.ndarray:
        return np.stack([run[column].to_numpy() for run in runs.values()])

    return Sweep(
        model=model,
        threat=threat,
        attacks=list(runs),
        ids=first["id"].to_numpy(),
        labels=first["label"].to_numpy(),
        correct=first["correct"].to_numpy(dtype=bool),
        fooled=stacked("fooled").astype(bool),
        predictions=stacked("adversarial_prediction"),
        sizes=stacked("size"),
        queries=stacked("queries"),
        backwards=stacked("backwards"),
    )


def curves(frame: pd.DataFrame) -> dict[str, dict[str, Curve]]:
    """model -> norm -> Curve. Where several attacks searched in one norm, the smallest of their sizes counts."""
    out: dict[str, dict[str, Curve]] = {}
    for (model, norm), group in _groups(frame, ["model", "norm"]):
        runs = {attack: run for (attack,), run in _groups(group, ["attack"])}
        first = next(iter(runs.values()))
        out.setdefault(model, {})[norm] = Curve(
            model=model,
            norm=norm,
            attack=" + ".join(runs),
            ids=first["id"].to_numpy(),
            correct=first["correct"].to_numpy(dtype=bool),
            size=np.min([run["size"].to_numpy() for run in runs.values()], axis=0),
            queries=sum(float(run["queries"].to_numpy().mean()) for run in runs.values()),
            backwards=sum(float(run["backwards"].to_numpy().mean()) for run in runs.values()),
        )
    return out


def robust_to_all(by_threat: dict[str, Sweep]) -> np.ndarray:
    """[n] bool: right when clean, and no attack of any threat got through."""
    return np.logical_and.reduce([sweep.robust for sweep in by_threat.values()])


def per_class(by_threat: dict[str, Sweep]) -> list[ClassCount]:
    """The counts of every class that has an example, by label."""
    first = next(iter(by_threat.values()))
    labels, where = np.unique(first.labels, return_inverse=True)

    def counts(mask: np.ndarray) -> list[int]:
        return np.bincount(where[mask], minlength=len(labels)).tolist()

    n, correct, all_ = counts(np.ones(first.n, bool)), counts(first.correct), counts(robust_to_all(by_threat))
    robust = {threat: counts(sweep.robust) for threat, sweep in by_threat.items()}
    return [
        ClassCount(int(label), n[k], correct[k], {threat: robust[threat][k] for threat in robust}, all_[k])
        for k, label in enumerate(labels)
    ]


def numbers(about: dict, rows: pd.DataFrame, curve_rows: pd.DataFrame, files: dict[tuple[str, str, str], str]) -> dict:
    """The "models" of audit.json.

    about: what the writer was told; about["models"][name] goes in first (hash, parameters).
    files: (model, threat, attack) -> the file with its adversarial inputs, relative to the folder.
    """
    of_curves = curves(curve_rows)
    return {
        name: {
            **about.get("models", {}).get(name, {}),
            **_model(by_threat, files),
            "curves": {norm: _curve(curve) for norm, curve in of_curves.get(name, {}).items()},
        }
        for name, by_threat in sweeps(rows).items()
    }


def _model(by_threat: dict[str, Sweep], files: dict[tuple[str, str, str], str]) -> dict:
    first = next(iter(by_threat.values()))
    correct = int(first.correct.sum())
    return {
        "n": first.n,
        "correct": correct,
        "clean_accuracy": correct / first.n,
        "clean_interval": list(interval(correct, first.n)),
        "robust_to_all": _robust(int(robust_to_all(by_threat).sum()), first.n),
        "threats": {threat: _threat(sweep, files) for threat, sweep in by_threat.items()},
    }


def _robust(count: int, n: int) -> dict:
    return {"robust": count, "robust_accuracy": count / n, "interval": list(interval(count, n))}


def _threat(sweep: Sweep, files: dict[tuple[str, str, str], str]) -> dict:
    return {
        "norm": words.split(sweep.threat)[0],
        "eps": words.eps(sweep.threat),
        **_robust(int(sweep.robust.sum()), sweep.n),
        "attacks": {attack: _attack(sweep, k, files) for k, attack in enumerate(sweep.attacks)},
    }


def _attack(sweep: Sweep, k: int, files: dict[tuple[str, str, str], str]) -> dict:
    correct, broken = int(sweep.correct.sum()), int(sweep.broken[k].sum())
    return {
        "robust": correct - broken,
        "robust_accuracy": (correct - broken) / sweep.n,
        "broken": broken,
        "success_rate": broken / correct if correct else None,
        "queries": float(sweep.queries[k].mean()),
        "backwards": float(sweep.backwards[k].mean()),
        "file": files.get((sweep.model, sweep.threat, sweep.attacks[k])),
    }


def _curve(curve: Curve) -> dict:
    """`median_size`: the eps at which half of all n examples still stand; None where more than half always do."""
    median = float(np.median(curve.lasting))
    return {
        "attack": curve.attack,
        "found": int(np.isfinite(curve.size).sum()),
        "queries": curve.queries,
        "backwards": curve.backwards,
        "median_size": median if np.isfinite(median) else None,
    }
