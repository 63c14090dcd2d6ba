"""How final is a verdict, and what speaks against believing the audit?"""

from dataclasses import dataclass
from typing import Any

from reports import verdicts, words
from reports.pages.base import Doubt
from reports.pages.shares import Share, share


@dataclass(frozen=True)
class BeliefRow:
    threat: str
    doubtful: Share  # of the examples that stand
    stages: list[tuple[str, str]]  # name, what came of it
    final: str


@dataclass(frozen=True)
class BeliefTable:
    model: str
    attack: str
    rows: list[BeliefRow]


def belief_table(about: dict, name: str) -> BeliefTable | None:
    """How final the verdict on one model is; None where none was run."""
    model = about["models"][name]
    found = {threat: told["verdict"] for threat, told in model["threats"].items() if "verdict" in told}
    if not found:
        return None
    first = next(iter(found.values()))
    attack = first["attack"] if first["effort"] in first["attack"] else f"{first['attack']}, effort {first['effort']}"
    return BeliefTable(name, attack, [_belief_row(threat, told, model["n"]) for threat, told in found.items()])


def _belief_row(threat: str, told: dict, n: int) -> BeliefRow:
    stages = [
        (name, ", ".join(f"{did[what]:,} {what}" for what in ("fell", "stood") if did[what]))
        for name, did in told["stages"].items()
        if did["fell"] or did["stood"]
    ]
    return BeliefRow(words.threat(threat), share(told["doubtful"], told["standing"]), stages, verdicts.final(told, n))


def doubts(found: list[dict[str, Any]]) -> list[Doubt]:
    """The same sentence about several threats is said once."""
    merged: dict[tuple[str, str], list[str]] = {}
    for doubt in found:
        about = " · ".join(filter(None, [doubt["model"], doubt["threat"] and words.threat(doubt["threat"])]))
        merged.setdefault((doubt["severity"], doubt["text"]), []).append(about or "all models")
    return [Doubt(severity, list(dict.fromkeys(about)), text) for (severity, text), about in merged.items()]
