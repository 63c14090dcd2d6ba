"""What is shown while something is trained, and what is said when it ends or is stopped?"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.terminal import Bar, Stopped

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reports.training.folder import Work
    from reports.training.saved import SavedRun


def watched(
    kind: "type[Work]",
    named: dict[str, Any],
    recipe: dict[str, Any],
    folder: Path,
    *,
    resume: bool,
    device: str,
    every: int | None,
    line: Callable[[dict], str],
) -> "SavedRun":
    """Trains behind a progress bar. After Ctrl-C it says how the command goes on.

    line: what the bar says of a row.
    """
    from attacks.errors import InputError
    from reports.training.folder import train

    if every is not None and every < 1:
        raise InputError(f"--every is {every}; at least one step is needed between two marks.")
    try:
        with Bar() as bar:
            return train(
                kind,
                named,
                recipe,
                folder,
                resume=resume,
                device=device,
                every=every,
                show=lambda done, total, row: bar.show(done, total, line(row)),
            )
    except KeyboardInterrupt:
        raise Stopped(_kept(kind.command, folder)) from None


def told(table: "RenderableType", folder: Path, *more: str) -> None:
    """The last words: a table, where the page is, and what may be typed next."""
    from rich.console import Console

    Console().print(table)
    for sentence in (f"Written to {folder}: open {folder / 'report.html'}", *more):
        print(sentence)


def folder_for(out: Path | None, resume: Path | None, usual: Path) -> Path:
    from attacks.errors import InputError

    if resume is not None and out is not None and out.resolve() != resume.resolve():
        raise InputError(f"--resume {resume} goes on in that folder, and --out names {out}. Give one of the two.")
    return resume or out or usual


def _kept(command: str, folder: Path) -> str:
    from reports.training.saved import SavedRun

    if not (folder / "run.json").is_file():
        return "stopped; nothing was written."
    run = SavedRun.load(folder)
    return (
        f"stopped at step {run.step:,} of {run.config.get('steps', 0):,}; all of it is saved. "
        f"Go on with: {command} --resume {folder}"
    )
