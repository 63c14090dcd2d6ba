"""How do two audits read side by side on a terminal?"""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports import words
from reports.comparing.changes import Comparison, Kept
from reports.comparing.told import title


def table(comparison: Comparison) -> RenderableType:
    """Shares, differences and warnings; for `rich.console.Console().print`."""
    parts: list[RenderableType] = [Text(), Text(title(comparison), style="bold")]
    parts += [Text(f"A: {comparison.a.folder}   B: {comparison.b.folder}", style="dim", overflow="fold"), Text()]
    for name, (in_a, in_b) in comparison.pairs.items():
        parts += [Text(f" {in_a if in_a == in_b else f'A: {in_a}, B: {in_b}'}", style="bold underline")]
        parts += [_kept(comparison.kept(name))]
    parts += [Text(f"warning: {text}", style="yellow", overflow="fold") for text in comparison.warnings]
    legend = (
        "Difference: of the shares, in points, with its 95 % interval (Tango's score interval) and exact McNemar p. "
        "Fell: right in A alone. Again: right in B alone."
    )
    return Group(*parts, Text(legend, style="dim"), Text())


def _kept(kept: list[Kept]) -> Table:
    out = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, padding=(0, 1), collapse_padding=True)
    out.add_column("threat", overflow="fold", min_width=10)
    for head in ("A", "B", "difference", "95 % interval", "p", "fell", "again"):
        out.add_column(head, justify="right", no_wrap=True)
    for one in kept:
        paired, (low, high) = one.paired, one.paired.interval
        out.add_row(
            one.label,
            words.percent(one.a, paired.n),
            words.percent(one.b, paired.n),
            words.points(paired.difference),
            f"{words.points(low)} to {words.points(high)}",
            words.chance(paired.p).removeprefix("p = ").removeprefix("p "),
            f"{paired.fell:,}",
            f"{paired.rose:,}",
        )
    return out
