"""Was a generator trained on the very examples that it is audited on, or for another threat?"""

from collections.abc import Iterator

from torch import Tensor

from reports import words
from reports.generated import FromRun
from reports.sources.dataset import Batch


def seen(attack: FromRun, batch: Batch, correct: Tensor, fooled: Tensor) -> dict[str, int]:
    """How many of some examples it was trained on; and of those and of the others, what it broke.

    correct, fooled: [b] bool, right when clean and what the attack broke.
    """
    known = attack.trained_on(batch.x)
    return {
        "examples": len(known),
        "known": int(known.sum()),
        "own": int((known & correct).sum()),
        "own_broken": int((known & correct & fooled).sum()),
        "new": int((~known & correct).sum()),
        "new_broken": int((~known & correct & fooled).sum()),
    }


def notes(attack: FromRun, by_threat: dict[str, dict[str, int]]) -> Iterator[tuple[str, str]]:
    """(threat, a sentence): where it was not trained for the threat, and where it knew examples."""
    for threat, counts in by_threat.items():
        misfit = attack.misfit(threat)
        if misfit:
            yield threat, misfit
        if counts["known"]:
            broken = _broken(counts["new_broken"], counts["new"])
            rest = f"; of the others {broken}" if counts["new"] else "; there are no others"
            yield (
                threat,
                f"generated:{attack.run} was trained on {words.of(counts['known'], counts['examples'])} of these "
                f"examples. Of those that were right when clean it broke {_broken(counts['own_broken'], counts['own'])}"
                f"{rest}. Only the others say what it does to inputs that it has not seen; that robust accuracy is at "
                "most this holds all the same.",
            )


def _broken(count: int, total: int) -> str:
    return f"{words.of(count, total)} ({words.percent(count, total)})"
