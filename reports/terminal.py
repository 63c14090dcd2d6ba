"""What do the commands share on a terminal? A progress bar, notes, and how they stop."""

import sys

STOPPED = 130  # the status after Ctrl-C


class Stopped(SystemExit):
    """Ctrl-C, after which something was kept: the message has said what."""

    def __init__(self, text: str):
        note(text)
        super().__init__(STOPPED)


def note(text: str) -> None:
    print(f"advgan: {text}", file=sys.stderr)


class Bar:
    """A progress bar on the standard error, gone when the work is done."""

    def __enter__(self) -> "Bar":
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self.bar = progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task("starting", total=None)
        self.bar.start()
        return self

    def show(self, done: int, total: int, doing: str) -> None:
        self.bar.update(self.task, completed=done, total=total, description=doing)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
