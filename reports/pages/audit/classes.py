"""Which classes fall first, and what are they taken for?"""

from dataclasses import dataclass

import numpy as np

from reports import summary, words
from reports.pages.shares import Names, Share, share
from reports.summary import ClassCount, Sweep

WORST = 15  # shown per model


@dataclass(frozen=True)
class ClassRow:
    name: str
    clean: Share
    robust: list[Share]
    to_all: Share
    taken_for: str


@dataclass(frozen=True)
class ClassTable:
    model: str
    threats: list[str]
    taken_for: str  # under which threat and attack
    note: str
    rows: list[ClassRow]


def class_table(by_threat: dict[str, Sweep], names: Names) -> ClassTable:
    """The least robust classes of one model, the worst first."""
    counts = summary.per_class(by_threat)
    worst = sorted(
        counts, key=lambda c: (c.robust_to_all / c.n, sum(c.robust.values()) / c.n, c.correct / c.n, c.label)
    )
    shown = worst[:WORST]
    hardest = min(by_threat.values(), key=lambda sweep: int(sweep.robust.sum()))
    note = f"All {len(counts):,} classes, the least robust first."
    if len(counts) == 1:
        note = "The sample holds one class only."
    elif len(shown) < len(counts):
        note = f"The {len(shown)} least robust of {len(counts):,} classes that have an example."
    if len(counts) < len(names):
        note += f" {words.of(len(names) - len(counts), len(names))} have none."
    return ClassTable(
        model=hardest.model,
        threats=[words.threat(threat) for threat in by_threat],
        taken_for=f"{hardest.attacks[hardest.strongest]}, {words.threat(hardest.threat)}",
        note=note,
        rows=[_class_row(count, hardest, names) for count in shown],
    )


def _class_row(count: ClassCount, hardest: Sweep, names: Names) -> ClassRow:
    return ClassRow(
        name=names(count.label),
        clean=share(count.correct, count.n),
        robust=[share(stand, count.n) for stand in count.robust.values()],
        to_all=share(count.robust_to_all, count.n),
        taken_for=_taken_for(hardest, count.label, names),
    )


def _taken_for(sweep: Sweep, label: int, names: Names) -> str:
    """What the strongest attack most often makes of a class, and how often."""
    broken = sweep.broken[sweep.strongest] & (sweep.labels == label)
    if not broken.any():
        return words.NOTHING
    predictions, counts = np.unique(sweep.predictions[sweep.strongest][broken], return_counts=True)
    return f"{names(int(predictions[counts.argmax()]))} ({words.of(int(counts.max()), int(broken.sum()))})"
