"""How much do lines resemble others, and each other? BLEU, self-BLEU and the share of n-grams that differ.

BLEU is Papineni et al.'s (ACL 2002), over all lines together and without smoothing: matches of n-grams, each counted at
most as often as in the one reference that has it most often, over all n-grams; the geometric mean of that over the
orders 1 to n; less where lines are shorter than the references nearest in length. Every line has all references. BLEU
grows with their number: compare only what was measured with as many.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attacks.errors import InputError

from ..theory import Estimate

ORDERS = (2, 3, 4, 5)
RESAMPLED = 200  # times, for the error

Line = Sequence[int]  # tokens
Gram = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class References:
    """Counted once, for any number of lines."""

    most: dict[Gram, int]  # in one reference
    lengths: list[int]  # in order, each once

    @classmethod
    def of(cls, lines: Sequence[Line]) -> "References":
        """Raises InputError where there are none."""
        if not lines:
            raise InputError("BLEU compares with references, and there are none.")
        most: dict[Gram, int] = {}
        for line in lines:
            for gram, count in grams(line).items():
                most[gram] = max(count, most.get(gram, 0))
        return cls(most, sorted({len(line) for line in lines}))


def bleu(lines: Sequence[Line], references: References) -> dict[int, Estimate]:
    """BLEU-n for each n of ORDERS that any line is long enough for, from 0 to 1; errors by resampling lines."""
    counted = [
        _tally(line, references.most.get, nearest(len(line), references.lengths)) for line in lines
    ]  # fmt: skip
    return _scores(np.array(counted))


def self_bleu(lines: Sequence[Line]) -> dict[int, Estimate]:
    """The same of each line with all others as its references: 1 where all are alike. InputError for one line."""
    if len(lines) < 2:
        raise InputError(f"Self-BLEU compares lines with each other, and there is {len(lines)}.")
    first: dict[Gram, tuple[int, int]] = {}  # the most in one line, and in which
    second: dict[Gram, int] = {}
    for number, line in enumerate(lines):
        for gram, count in grams(line).items():
            best = first.get(gram, (0, -1))
            if count > best[0]:
                first[gram], second[gram] = (count, number), best[0]
            else:
                second[gram] = max(second.get(gram, 0), count)
    lengths = Counter(map(len, lines))
    counted = []
    for number, line in enumerate(lines):

        def elsewhere(gram: Gram, _: int, number: int = number) -> int:
            most, where = first[gram]
            return second[gram] if where == number else most

        others = sorted(size for size, count in lengths.items() if count > (size == len(line)))
        counted.append(_tally(line, elsewhere, nearest(len(line), others)))
    return _scores(np.array(counted))


def distinct(lines: Sequence[Line], n: int) -> float | None:
    """The share of all n-grams that are different ones; None where no line is long enough."""
    found = [tuple(line[k : k + n]) for line in lines for k in range(len(line) - n + 1)]
    return len(set(found)) / len(found) if found else None


def grams(line: Line) -> Counter[Gram]:
    """Of the orders 1 to 5."""
    return Counter(tuple(line[k : k + n]) for n in range(1, ORDERS[-1] + 1) for k in range(len(line) - n + 1))


def nearest(length: int, lengths: Sequence[int]) -> int:
    """The one of the lengths, in order, that is nearest; the shorter of two."""
    at = bisect_left(lengths, length)
    return min(lengths[max(0, at - 1) : at + 1], key=lambda other: (abs(other - length), other))


def _tally(line: Line, most, reference: int) -> list[int]:
    """Matches of the orders 1 to 5, all n-grams of these, the line's length and its reference's."""
    highest = ORDERS[-1]
    matches, totals = [0] * highest, [max(0, len(line) - n) for n in range(highest)]
    for gram, count in grams(line).items():
        matches[len(gram) - 1] += min(count, most(gram, 0))
    return [*matches, *totals, len(line), reference]


def _scores(tallies: np.ndarray) -> dict[int, Estimate]:
    """tallies: [lines, 12] as of `_tally`."""
    drawn = np.random.default_rng(0).multinomial(len(tallies), np.full(len(tallies), 1 / len(tallies)), RESAMPLED)
    sums = np.concatenate([tallies.sum(0, keepdims=True), drawn @ tallies]).astype(np.float64)
    highest = ORDERS[-1]
    matches, totals, (own, reference) = sums[:, :highest], sums[:, highest : 2 * highest], sums[:, 2 * highest :].T
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing matches the logarithm is -inf, the score 0
        logs = np.log(matches) - np.log(totals)
        brevity = np.minimum(0, 1 - reference / own)
        scores = {n: np.nan_to_num(np.exp(brevity + logs[:, :n].mean(1))) for n in ORDERS if totals[0, n - 1]}
    return {n: Estimate(float(each[0]), float(each[1:].std(ddof=1))) for n, each in scores.items()}
