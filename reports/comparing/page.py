"""How do two audits read side by side, as one page that needs nothing else?

`contents` says what stands on the page, as plain data; templates/comparison.html says how it looks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from reports import summary, words
from reports.comparing.changes import Change, Comparison, Kept, Side
from reports.comparing.told import detail, title
from reports.pages import base
from reports.pages.audit.curves import CurveChart, charts
from reports.pages.audit.setup import described, facts
from reports.pages.shares import Names, Share, share

if TYPE_CHECKING:
    from reports.record import Audit

LISTED = 300  # examples in one table


@dataclass(frozen=True)
class Shift:
    """How far one share moved from A to B."""

    kind: str
    label: str
    a: Share
    b: Share
    points: str
    interval: str
    chance: str
    bar: tuple[float, float]  # from, to: places within 0 and 1, one half is no difference
    whisker: tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One example in both audits."""

    id: str
    truth: str
    a: str
    b: str
    passes: tuple[str, str]


@dataclass(frozen=True)
class Listing:
    """The examples of one kind under one threat."""

    threat: str
    what: str
    count: int
    rows: list[Row]  # at most LISTED of them


@dataclass(frozen=True)
class Counts:
    """Of n examples under one threat; what stands in neither audit is told apart further."""

    threat: str
    fell: int
    rose: int
    held: int
    down: int
    other_class: int
    smaller: int
    larger: int
    passes: int


@dataclass(frozen=True)
class Pair:
    """Two models, or one model twice."""

    name: str
    note: str
    shifts: list[Shift]
    counts: list[Counts]
    listings: list[Listing]
    charts: list[CurveChart]


@dataclass(frozen=True)
class ComparisonPage(base.Page):
    pairs: list[Pair]
    n: str
    doubts: list[base.Doubt]
    folders: tuple[str, str]
    settings: list[tuple[str, str, str]]  # what, in A, in B


def page(comparison: Comparison) -> str:
    """The whole page. The same two audits give the same bytes."""
    return base.rendered("comparison.html", contents(comparison))


def contents(comparison: Comparison) -> ComparisonPage:
    """Everything that stands on the page."""
    a, b = comparison.a, comparison.b
    names = Names(a.about["data"].get("classes") or [])
    first = comparison.foremost.paired
    counts = {"examples": first.n, "fell": first.fell, "stand again": first.rose}
    headline = base.Headline(
        title(comparison), detail(comparison), [(name, f"{count:,}") for name, count in counts.items()]
    )
    return ComparisonPage(
        title=f"{a.folder.name} and {b.folder.name}",
        headline=headline,
        pairs=[_pair(comparison, name, k, names) for k, name in enumerate(comparison.pairs)],
        n=words.plural(first.n, "example"),
        doubts=[base.Doubt("warning", [], text) for text in comparison.warnings],
        folders=(a.folder.name, b.folder.name),
        settings=_settings(a, b),
    )


def _pair(comparison: Comparison, name: str, key: int, names: Names) -> Pair:
    in_a, in_b = comparison.pairs[name]
    hashes = [audit.about["models"][model].get("sha256") for audit, model in _sides(comparison, name)]
    same = hashes[0] == hashes[1] is not None
    kept = comparison.kept(name)
    reach = max(abs(end) for one in kept for end in one.paired.interval)
    changes = comparison.of(name)
    return Pair(
        name=in_a if in_a == in_b else f"A: {in_a}, B: {in_b}",
        note="the same weights in both" if same else "other weights in B",
        shifts=[_shift(one, reach) for one in kept],
        counts=[_counts(change) for change in changes],
        listings=[listing for change in changes for listing in _listings(change, names)],
        charts=_charts(comparison, name, key),
    )


def _sides(comparison: Comparison, name: str) -> list[tuple["Audit", str]]:
    return list(zip((comparison.a, comparison.b), comparison.pairs[name], strict=True))


def _shift(kept: Kept, reach: float) -> Shift:
    paired, (low, high) = kept.paired, kept.paired.interval

    def place(difference: float) -> float:
        return (1 + difference / reach) / 2

    return Shift(
        kind=kept.kind,
        label=kept.label,
        a=share(kept.a, paired.n),
        b=share(kept.b, paired.n),
        points=words.points(paired.difference),
        interval=f"{words.points(low)} to {words.points(high)}",
        chance=words.chance(paired.p),
        bar=(place(min(0.0, paired.difference)), place(max(0.0, paired.difference))),
        whisker=(place(low), place(high)),
    )


def _counts(change: Change) -> Counts:
    masks = ("fell", "rose", "held", "down", "other_class", "smaller", "larger", "passes")
    return Counts(words.threat(change.threat), **{name: int(getattr(change, name).sum()) for name in masks})


def _listings(change: Change, names: Names) -> list[Listing]:
    kinds = {
        "stand in A and fell in B": change.fell,
        "fell in A and stand in B": change.rose,
        "fell in both, taken for another class in B": change.other_class,
    }
    said = _described(change.a, names), _described(change.b, names)
    return [
        Listing(
            words.threat(change.threat),
            what,
            int(mask.sum()),
            [_row(change, k, said, names) for k in np.flatnonzero(mask)[:LISTED]],
        )
        for what, mask in kinds.items()
        if mask.any()
    ]


def _row(change: Change, k: int, said: tuple[Callable[[int], str], Callable[[int], str]], names: Names) -> Row:
    passes = f"{change.a.passes[k]:,}", f"{change.b.passes[k]:,}"
    return Row(f"{change.ids[k]:,}", names(int(change.labels[k])), said[0](k), said[1](k), passes)


def _described(side: Side, names: Names) -> Callable[[int], str]:
    """What came of an example, by its place."""
    standing, size, taken_for = side.standing, side.size, side.taken_for

    def said(k: int) -> str:
        if standing[k]:
            return "stands"
        wrong = f"taken for {names(int(taken_for[k]))}"
        return f"{wrong}, unattacked" if not side.sweep.correct[k] else f"{wrong} at size {words.number(size[k])}"

    return said


def _charts(comparison: Comparison, name: str, key: int) -> list[CurveChart]:
    """Both audits' curves over eps, each norm that both have."""
    curves = dict(zip("AB", comparison.curves(name), strict=True))
    common = [norm for norm in curves["A"] if norm in curves["B"]]
    lines = {side: {norm: replace(by[norm], model=side) for norm in common} for side, by in curves.items()}
    sweeps: dict[str, dict[str, summary.Sweep]] = {
        "A": {change.threat: change.a.sweep for change in comparison.of(name)},
        "B": {change.threat: change.b.sweep for change in comparison.of(name)},
    }
    return charts(["A", "B"], sweeps, lines, f"pair{key}-chart")


def _settings(a: "Audit", b: "Audit") -> list[tuple[str, str, str]]:
    sides = [_said(audit.about) for audit in (a, b)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [(name, sides[0].get(name, words.NOTHING), sides[1].get(name, words.NOTHING)) for name in names]


def _said(about: dict[str, Any]) -> dict[str, str]:
    attacks = {name: described(options) for name, options in about["configuration"].get("attacks", {}).items()}
    weights = {f"weights of {name}": str(model.get("sha256", ""))[:16] for name, model in about["models"].items()}
    return {**dict(facts(about)), **weights, **attacks, **{name: str(v) for name, v in about["versions"].items()}}
