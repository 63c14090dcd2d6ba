"""How far is a robust accuracy to be believed: what the verdict went through, what it doubts, and what is certified?

Read from the rows alone. Of several verdicts in an audit, the one of the greatest effort speaks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from attacks.doubts import Doubt
from attacks.verdict import Effort, Stage
from reports import summary, words
from reports.summary import Curve, Sweep

LAST = {"half": 0.5, "tenth": 0.1}  # of the passes that standing examples got
QUANTILES = {"median": 0.5, "p90": 0.9, "most": 1.0}


@dataclass(frozen=True)
class Verdict:
    """What one verdict did to n examples."""

    attack: str  # its name in the audit
    effort: str
    correct: np.ndarray  # [n] bool, when clean
    fooled: np.ndarray  # [n] bool, by this verdict
    standing: np.ndarray  # [n] bool: right when clean, and no attack of the audit got through
    stage: np.ndarray  # [n] int64
    doubts: np.ndarray  # [n] int64, flags of attacks.doubts.Doubt
    queries: np.ndarray  # [n] int64
    backwards: np.ndarray  # [n] int64
    passes: np.ndarray  # [n] int64 spent when first fooled; -1 never

    @property
    def doubtful(self) -> np.ndarray:
        """[n] bool: no attack got through, and something speaks against believing that none could."""
        return self.standing & (self.doubts != 0)

    def with_doubt(self, doubt: Doubt) -> int:
        """How many examples stand with it."""
        return int((self.standing & (self.doubts & int(doubt) != 0)).sum())

    def last(self, share: float) -> tuple[int, int]:
        """(t, k): the last `share` of the passes that standing examples got, those after the first t of each, broke k.

        (0, 0) where nothing withstood it.
        """
        spent = np.sort((self.queries + self.backwards)[~self.fooled])
        if len(spent) == 0:
            return 0, 0
        within = np.cumsum(spent) + spent * np.arange(len(spent))[::-1]  # passes of all of them within spent[i] each
        wanted = (1 - share) * spent.sum()
        i = int(np.searchsorted(within, wanted))
        reached, before = (spent[i - 1], within[i - 1]) if i else (0, 0)
        t = int(reached + np.ceil((wanted - before) / (len(spent) - i)))
        return t, int((self.correct & self.fooled & (self.passes > t)).sum())


def numbers(
    rows: pd.DataFrame, curve_rows: pd.DataFrame, certificates: pd.DataFrame, configuration: dict[str, Any]
) -> dict[str, dict[str, dict[str, Any]]]:
    """model -> threat -> the "verdict" and the "bracket" of audit.json, each where there is one.

    RuntimeError where a certified example was broken: one of the two is wrong, and so is the program.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    sweeps, of_curves = summary.sweeps(rows), summary.curves(curve_rows)
    for (model, threat), verdict in verdicts(rows, configuration).items():
        found.setdefault(model, {}).setdefault(threat, {})["verdict"] = _told(verdict)
    for (model, threat), bounds in _bounds(certificates).items():
        _check(bounds, threat, sweeps[model], of_curves.get(model, {}))
        found.setdefault(model, {}).setdefault(threat, {})["bracket"] = _bracket(bounds, sweeps[model][threat])
    return found


def warnings(about: dict[str, Any], model: str, threats: Iterable[str]) -> int:
    """How many doubts of an audit that are more than notes concern a model under any of these threats."""
    names, texts = (None, model), (None, *threats)
    return sum(d["severity"] != "note" and d["model"] in names and d["threat"] in texts for d in about["doubts"])


def speaking_against(count: int) -> str:
    """The sentence beside a number that so many warnings concern."""
    return f"Doubtful: {words.plural(count, 'warning')} below {'speaks' if count == 1 else 'speak'} against it."


def bracket(ends: dict[str, Any]) -> tuple[str, str]:
    """Its two ends as shares, certified and attacked, and the counts that they stand for."""
    n, low, high = ends["n_tried"], ends["certified"]["count"], ends["attacked"]["count"]
    return f"[{words.percent(low, n)}, {words.percent(high, n)}]", f"{low:,} and {high:,} of the first {n:,}"


def final(told: dict[str, Any], n: int) -> str:
    """What the last passes of a verdict still broke, of n examples."""
    half, tenth = told["final"]["half"], told["final"]["tenth"]
    if half["beyond"] == 0:
        return "Nothing withstood it: it cannot break more."
    return (
        f"The last half of the passes that standing examples got (after the first {half['beyond']:,} of each) broke "
        f"{words.of(half['fell'], n)} examples, the last tenth (after {tenth['beyond']:,}) {tenth['fell'] or 'none'}."
    )


def verdicts(rows: pd.DataFrame, configuration: dict[str, Any]) -> dict[tuple[str, str], Verdict]:
    """(model, threat) -> Verdict, where one was run."""
    efforts = _efforts(configuration)
    if not efforts:
        return {}
    attack = max(efforts, key=lambda name: get_args(Effort).index(efforts[name]))
    return {
        (model, threat): _verdict(rows, sweep, attack, efforts[attack])
        for model, by_threat in summary.sweeps(rows).items()
        for threat, sweep in by_threat.items()
        if attack in sweep.attacks
    }


def _efforts(configuration: dict[str, Any]) -> dict[str, str]:
    options = {name: told for name, told in configuration.get("attacks", {}).items() if isinstance(told, dict)}
    return {name: told["effort"] for name, told in options.items() if told.get("class") == "Verdict"}


def _verdict(rows: pd.DataFrame, sweep: Sweep, attack: str, effort: str) -> Verdict:
    key = {"model": sweep.model, "threat": sweep.threat, "attack": attack}
    of_it = np.logical_and.reduce([rows[column].to_numpy() == value for column, value in key.items()])
    run = rows.loc[of_it].sort_values("id")
    names = ("correct", "fooled", "stage", "doubts", "queries", "backwards", "passes")
    return Verdict(attack, effort, standing=sweep.robust, **{name: run[name].to_numpy() for name in names})


def _told(verdict: Verdict) -> dict[str, Any]:
    stages = {stage.name.lower(): verdict.stage == stage for stage in Stage}
    last = {name: verdict.last(share) for name, share in LAST.items()}
    return {
        "attack": verdict.attack,
        "effort": verdict.effort,
        "stages": {
            name: {"fell": int((here & verdict.fooled).sum()), "stood": int((here & ~verdict.fooled).sum())}
            for name, here in stages.items()
        },
        "queries": _spread(verdict.queries),
        "backwards": _spread(verdict.backwards),
        "standing": int(verdict.standing.sum()),
        "doubtful": int(verdict.doubtful.sum()),
        "doubts": {doubt.name.lower(): k for doubt in Doubt if (k := verdict.with_doubt(doubt)) and doubt.name},
        "final": {name: {"beyond": beyond, "fell": fell} for name, (beyond, fell) in last.items()},
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    at = {name: float(np.quantile(values, share, method="higher")) for name, share in QUANTILES.items()}
    return {"mean": float(values.mean()), **at}


def _bounds(certificates: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    groups = certificates.groupby(["model", "threat"], observed=True, sort=False)
    return {(str(model), str(threat)): group for (model, threat), group in groups}  # type: ignore[misc]


def _bracket(bounds: pd.DataFrame, sweep: Sweep) -> dict[str, Any]:
    """Both ends are of the same examples, those that a certificate was tried for."""
    n, tried = len(bounds), np.isin(sweep.ids, bounds["id"].to_numpy())
    ends = {"certified": int(bounds["certified"].to_numpy().sum()), "attacked": int(sweep.robust[tried].sum())}
    return {"n_tried": n, **{name: {"count": count, "share": count / n} for name, count in ends.items()}}


def _check(bounds: pd.DataFrame, threat: str, by_threat: dict[str, Sweep], by_norm: dict[str, Curve]) -> None:
    norm, eps = words.split(threat)[0], words.eps(threat)
    inside = [s for t, s in by_threat.items() if words.split(t)[0] == norm and words.eps(t) <= eps]
    broken = {int(each) for sweep in inside for each in sweep.ids[sweep.broken.any(axis=0)]}
    if norm in by_norm:
        broken |= {int(each) for each in by_norm[norm].ids[by_norm[norm].correct & (by_norm[norm].size <= eps)]}
    false = sorted(broken & set(bounds["id"][bounds["certified"]].tolist()))
    if false:
        raise RuntimeError(
            f"Examples {false[:5]} are certified under {threat} and were broken within it: this is a bug of advgan. "
            "Please report it with the model."
        )
