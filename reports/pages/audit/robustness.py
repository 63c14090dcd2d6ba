"""How much of each model stands, and which attack broke what?"""

from dataclasses import dataclass

from reports import summary, verdicts, words
from reports.pages.shares import Share, share
from reports.summary import Sweep


@dataclass(frozen=True)
class Standing:
    """How much of one model stands under one threat."""

    kind: str  # "clean", "threat" or "all"
    label: str
    share: Share
    doubtful: bool = False
    bracket: tuple[str, str] | None = None  # its two ends, and of how many examples


@dataclass(frozen=True)
class Robustness:
    model: str
    standings: list[Standing]


@dataclass(frozen=True)
class Cell:
    share: Share
    alone: int = 0
    strongest: bool = False


@dataclass(frozen=True)
class AttackRow:
    attack: str
    kind: str
    cells: list[Cell]


@dataclass(frozen=True)
class AttackTable:
    model: str
    correct: str
    threats: list[str]
    rows: list[AttackRow]
    together: list[Cell]


def robustness(about: dict, by_threat: dict[str, Sweep]) -> Robustness:
    """Of one model: unattacked, under each threat, and under all of them."""
    first = next(iter(by_threat.values()))
    told = about["models"][first.model]["threats"]
    standings = [Standing("clean", "not attacked", share(first.correct.sum(), first.n, interval=True))]
    standings += [
        Standing(
            "threat",
            words.threat(threat),
            share(sweep.robust.sum(), sweep.n, interval=True),
            verdicts.warnings(about, first.model, [threat]) > 0,
            verdicts.bracket(told[threat]["bracket"]) if "bracket" in told[threat] else None,
        )
        for threat, sweep in by_threat.items()
    ]
    if len(by_threat) > 1:
        count = int(summary.robust_to_all(by_threat).sum())
        doubtful = verdicts.warnings(about, first.model, by_threat) > 0
        label = f"all {len(by_threat)} threats"
        standings.append(Standing("all", label, share(count, first.n, interval=True), doubtful))
    return Robustness(first.model, standings)


def attack_table(by_threat: dict[str, Sweep], configuration: dict) -> AttackTable:
    """What each attack broke of one model under each threat."""
    first = next(iter(by_threat.values()))
    correct = int(first.correct.sum())
    names = list(dict.fromkeys(attack for sweep in by_threat.values() for attack in sweep.attacks))
    rows = [
        AttackRow(name, _kind(by_threat, name, configuration), [_cell(s, name, correct) for s in by_threat.values()])
        for name in names
    ]
    together = [Cell(share(sweep.broken.any(axis=0).sum(), correct)) for sweep in by_threat.values()]
    return AttackTable(first.model, words.of(correct, first.n), [words.threat(t) for t in by_threat], rows, together)


def _kind(by_threat: dict[str, Sweep], attack: str, configuration: dict) -> str:
    sweep = next(sweep for sweep in by_threat.values() if attack in sweep.attacks)
    kind = summary.kind(sweep, sweep.attacks.index(attack), configuration)
    return {"gradient": "gradients", "single step": "one gradient", "noise": "random", "black box": "no gradients"}[
        kind
    ]


def _cell(sweep: Sweep, attack: str, correct: int) -> Cell:
    if attack not in sweep.attacks:
        return Cell(Share(None, words.NOTHING, "not run"))
    k = sweep.attacks.index(attack)
    broken = sweep.broken.sum(axis=1)
    strongest = bool(broken[k] == broken.max() > 0)
    return Cell(share(broken[k], correct), int(sweep.alone[k]) if len(sweep.attacks) > 1 else 0, strongest)
