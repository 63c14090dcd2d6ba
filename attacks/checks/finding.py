"""What is said of something that is wrong with a model or its data?"""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fatal", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """severity: "fatal", an audit would be impossible or wrong; "warning", its results need care; "note"."""

    code: str  # one word or two, which stay: "one_logit"
    severity: Severity
    text: str  # a sentence, with its counts
    remedy: str  # a sentence: what to do about it


def graded(count: int, total: int) -> Severity:
    """A warning from one row in twenty on, and from two; less is a note."""
    return "warning" if count > 1 and 20 * count >= total else "note"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def named(names: list[str], at_most: int = 3) -> str:
    """ "a, b, c and 4 more"."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
