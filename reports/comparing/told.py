"""What is said of two audits side by side, in sentences?"""

from reports import words
from reports.comparing.changes import Comparison


def title(comparison: Comparison) -> str:
    """Where they differ most, as a sentence."""
    change, paired = comparison.foremost, comparison.foremost.paired
    under = f"Under {words.threat(change.threat)}," + (f" {change.pair} in" if len(comparison.pairs) > 1 else "")
    if paired.rose == paired.fell:
        return f"{under} B keeps as many of {paired.n:,} examples right as A."
    more, than = abs(paired.rose - paired.fell), "more" if paired.rose > paired.fell else "fewer"
    return f"{under} B keeps {more:,} {than} of {paired.n:,} examples right than A."


def detail(comparison: Comparison) -> list[str]:
    """What is compared, and whether the difference may be chance."""
    change, (a, b) = comparison.foremost, comparison.pairs[comparison.foremost.pair]
    paired, n = change.paired, change.paired.n
    low, high = paired.interval
    kept = [int(side.standing.sum()) for side in (change.a, change.b)]
    said = (
        f"Of the same examples, {a} in A stands on {words.of(kept[0], n)} ({words.percent(kept[0], n)}) and {b} in B "
        f"on {words.of(kept[1], n)} ({words.percent(kept[1], n)}), in the worst case over the attacks of each audit: a "
        f"difference of {words.points(paired.difference)} points (95 % interval {words.points(low)} to "
        f"{words.points(high)}; exact McNemar test {words.chance(paired.p)})."
    )
    folders = f"A is {comparison.a.folder.name}, B is {comparison.b.folder.name}."
    return [said, folders + (f" {_warned(comparison)}" if comparison.warnings else "")]


def _warned(comparison: Comparison) -> str:
    more = len(comparison.warnings)
    return f"Beside the models {words.plural(more, 'thing differs', 'things differ')} between the two audits."
