"""What is said to a caller who asked for something that cannot be done."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """The caller's input cannot be used as it is: the message says what was asked, what is there and what to do."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a list of names, with the nearest valid one."""
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return InputError(f"There is no {kind} {name!r}. {hint}Known: {', '.join(names)}.")
