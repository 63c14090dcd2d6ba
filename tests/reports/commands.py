"""What a command is called as in a test, and what comes of it."""

from collections.abc import Callable
from typing import NamedTuple


class Ended(NamedTuple):
    status: int
    out: str
    err: str


Advgan = Callable[..., Ended]
