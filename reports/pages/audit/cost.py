"""How many passes did the attacks take?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from reports import words
from reports.summary import Curve, Sweep

if TYPE_CHECKING:
    from reports.record import Audit


@dataclass(frozen=True)
class CostRow:
    attack: str
    cells: list[tuple[str, str]]  # forwards, backwards


@dataclass(frozen=True)
class SpreadTable:
    """Passes of the verdict, which differ from example to example."""

    attack: str
    heads: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]  # threat; forwards, backwards under each head


@dataclass(frozen=True)
class CostTable:
    model: str
    threats: list[str]
    rows: list[CostRow]
    together: list[tuple[str, str]]
    curves: list[str]
    spread: SpreadTable | None


def cost_table(about: dict, by_threat: dict[str, Sweep], curves: dict[str, Curve]) -> CostTable:
    """Passes per example of one model."""
    names = list(dict.fromkeys(attack for sweep in by_threat.values() for attack in sweep.attacks))
    rows = [CostRow(name, [_cost(sweep, name) for sweep in by_threat.values()]) for name in names]
    together = [
        (words.number(float(s.queries.sum(axis=0).mean())), words.number(float(s.backwards.sum(axis=0).mean())))
        for s in by_threat.values()
    ]
    said = [
        f"{curve.attack} for the {words.norm(norm)} curve: {words.number(curve.queries)} forwards and "
        f"{words.number(curve.backwards)} backwards per example."
        for norm, curve in curves.items()
    ]
    first = next(iter(by_threat.values()))
    threats = [words.threat(threat) for threat in by_threat]
    return CostTable(first.model, threats, rows, together, said, _spread_table(about["models"][first.model]))


def _spread_table(model: dict) -> SpreadTable | None:
    found = {threat: told["verdict"] for threat, told in model["threats"].items() if "verdict" in told}
    if not found:
        return None
    heads = {"median": "half of the examples", "p90": "9 of 10", "most": "all"}
    rows = [
        (words.threat(threat), [(words.number(told["queries"][q]), words.number(told["backwards"][q])) for q in heads])
        for threat, told in found.items()
    ]
    return SpreadTable(next(iter(found.values()))["attack"], list(heads.values()), rows)


def _cost(sweep: Sweep, attack: str) -> tuple[str, str]:
    if attack not in sweep.attacks:
        return words.NOTHING, words.NOTHING
    k = sweep.attacks.index(attack)
    return words.number(float(sweep.queries[k].mean())), words.number(float(sweep.backwards[k].mean()))


def passes(audit: "Audit") -> str:
    """All passes of an audit, as a sentence."""
    forwards = _total(audit.rows, "queries") + _total(audit.curves, "queries")
    backwards = _total(audit.rows, "backwards") + _total(audit.curves, "backwards")
    return f"{forwards:,} forward and {backwards:,} backward passes of single examples in all."


def _total(frame: pd.DataFrame, column: str) -> int:
    return int(frame[column].to_numpy().sum())
