"""How do a share and the name of a class stand on a page?"""

from collections.abc import Sequence
from dataclasses import dataclass

from reports import summary, words


@dataclass(frozen=True)
class Share:
    """A share, with the count it stands for."""

    fraction: float | None  # None where it is a share of nothing
    percent: str
    count: str  # "12 of 599"
    interval: str = ""
    low: float = 0.0
    high: float = 0.0


class Names:
    """The names of classes; a label without one is its number."""

    def __init__(self, names: Sequence[str]):
        self.names = names

    def __call__(self, label: int) -> str:
        return str(self.names[label]) if 0 <= label < len(self.names) else str(label)

    def __len__(self) -> int:
        return len(self.names)


def share(count: int, total: int, *, interval: bool = False) -> Share:
    """`count` of `total`, with its exact 95 % interval where asked for."""
    count, total = int(count), int(total)
    fraction = count / total if total else None
    if not interval or not total:
        return Share(fraction, words.percent(count, total), words.of(count, total))
    low, high = summary.interval(count, total)
    return Share(fraction, words.percent(count, total), words.of(count, total), words.interval(low, high), low, high)
