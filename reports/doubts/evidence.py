"""What are the doubts about an audit drawn from, and what does each of them say?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reports import summary
from reports.summary import Curve, Sweep
from reports.verdicts import Verdict

TELLING = 0.01  # share of the examples from which a disagreement between attacks is a warning


@dataclass(frozen=True)
class Evidence:
    """What the doubts are drawn from."""

    configuration: dict[str, Any]
    classes: list[str]
    sweeps: dict[str, dict[str, Sweep]]
    blind: frozenset[str]  # the models that reveal no gradients
    curves: dict[str, dict[str, Curve]]
    verdicts: dict[tuple[str, str], Verdict]  # (model, threat) ->

    def kind(self, sweep: Sweep, k: int) -> str:
        return summary.kind(sweep, k, self.configuration)


def doubt(severity: str, text: str, model: str | None = None, threat: str | None = None) -> dict:
    return {"model": model, "threat": threat, "severity": severity, "text": text}


def graded(count: int, n: int) -> str:
    return "warning" if count > 1 and count >= TELLING * n else "note"


def each(evidence: Evidence) -> Iterator[Sweep]:
    for by_threat in evidence.sweeps.values():
        yield from by_threat.values()
