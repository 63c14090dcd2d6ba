"""What if a model raises an error of its own, or never answers?"""

import contextlib
import signal
import threading
import traceback
from collections.abc import Iterator

from attacks.errors import InputError
from reports.memory import is_out_of_memory


class ModelError(InputError):
    """It is the model's own code that went wrong."""


class _TooLongError(BaseException):
    """Not an Exception: a model that catches all of those does not catch this."""


@contextlib.contextmanager
def within(seconds: float | None, what: str) -> Iterator[None]:
    """InputError where the block takes longer; None waits as long as it takes.

    What waits or runs Python is interrupted; code in C that never returns is not.
    """
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise InputError("A timeout works in the main thread alone. Call from there, or give none.")

    def ring(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TooLongError:
        raise ModelError(
            f"{what} took more than {seconds:g} s (--timeout): the model hangs, or needs longer."
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def blaming_the_model(name: str, what: str) -> Iterator[None]:
    """What a model's own code raises becomes an InputError with file and line; errors of ours stay what they are."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        calls = [k for k, frame in enumerate(frames) if frame.name == "_call_impl"]
        if isinstance(error, InputError) or is_out_of_memory(error) or not calls:
            raise
        at = next((f for f in reversed(frames[calls[0] :]) if "site-packages" not in f.filename), frames[-1])
        raise ModelError(
            f"The model {name} raised {type(error).__name__}: {error} ({at.filename}, line {at.lineno}), under {what}."
        ) from error
