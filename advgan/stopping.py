"""How is a run stopped by Ctrl-C, without tearing a step in two?"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """The first Ctrl-C within sets the event, a second one interrupts. In other threads signals go their own way."""
    stopped, before = threading.Event(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield stopped
        return

    def stop(number, frame):
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def tell(progress: Callable[[int, dict], None], step: int, values: dict, stopped: threading.Event) -> None:
    """Calls progress. A KeyboardInterrupt that comes out of it sets the event."""
    try:
        progress(step, values)
    except KeyboardInterrupt:  # from one who has no signal to send
        stopped.set()
