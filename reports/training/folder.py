"""What becomes of a run's folder, whatever is trained in it and however that ends?"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from advgan.health import DivergedError
from attacks.errors import InputError
from reports.devices import device_named
from reports.resume import is_full
from reports.training import saved
from reports.training.asked import Options
from reports.training.saved import SavedRun

Progress = Callable[[int, dict[str, Any]], None]  # (steps done, the newest row)
Show = Callable[[int, int, dict[str, Any]], None]  # (steps done, of how many, the newest row)


class Work(Protocol):
    """Something that is trained in a folder."""

    asked_of: ClassVar[type[Any]]  # its Options
    command: ClassVar[str]  # which goes on with a run that was stopped, by --resume

    def __init__(self, folder: Path, asked: Any, resume: bool, device: torch.device, every: int | None): ...

    @property
    def steps(self) -> int: ...

    def go(self, progress: Progress) -> None:
        """Trains, calls progress after every step, and writes what the page shows of the finished run."""
        ...

    def about(self) -> dict[str, Any]:
        """What the run itself does not write down; JSON-able."""
        ...

    def page(self, run: SavedRun) -> str: ...


def train(
    kind: type[Work],
    named: dict[str, Any],
    recipe: dict[str, Any],
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    every: int | None = None,
    show: Show | None = None,
) -> SavedRun:
    """Trains, measures and writes the folder with its page. named, recipe: options, None where they were not named.

    Raises InputError for what cannot be done, and KeyboardInterrupt where the run was stopped: what it came to is then
    saved, the page too.
    """
    refuse_to_harm(folder, kind.command, resume)
    place = device_named(device)
    asked = (_asked_before(folder, kind.asked_of) if resume else kind.asked_of()).but(named, recipe).checked()
    return _carried_out(kind(folder, asked, resume, place, every), folder, show)


def _asked_before(folder: Path, asked_of: type[Options]) -> Options:
    """What nothing was written of, since the run was killed at its very start, is to be asked again."""
    if not (folder / saved.ABOUT).is_file():
        return asked_of()
    return asked_of.of(saved.read_json(folder, saved.ABOUT).get("asked", {}))


def _carried_out(work: Work, folder: Path, show: Show | None) -> SavedRun:
    """Does the work and writes its page, also where it is stopped or diverges; then the error goes on."""
    told = _Told(work, folder, show)
    with _on_a_full_disk(work, folder):
        try:
            work.go(told.progress)
        except (KeyboardInterrupt, DivergedError):
            told.write_page()  # of what there is, the warnings above all
            raise
        told.write_about()  # again, with what was found out at the end
        told.write_page()
    return SavedRun.load(folder)


class _Told:
    """What is written beside that which training itself writes."""

    def __init__(self, work: Work, folder: Path, show: Show | None):
        self.work, self.folder, self.show, self.done = work, folder, show, False

    def progress(self, step: int, row: dict[str, Any]) -> None:
        if not self.done:  # not before, so that a folder which training refuses stays as it was
            self.write_about()
        if self.show:
            self.show(step, self.work.steps, row)

    def write_about(self) -> None:
        saved.write_json(self.folder, saved.ABOUT, self.work.about())
        self.done = True

    def write_page(self) -> None:
        """Of whatever there is; nothing where training wrote nothing."""
        if (self.folder / saved.RUN).is_file():
            if not self.done:
                self.write_about()
            saved.write_text(self.folder, saved.PAGE, self.work.page(SavedRun.load(self.folder)))


@contextmanager
def _on_a_full_disk(work: Work, folder: Path) -> Iterator[None]:
    """What was saved of a run is kept; of one that came to nothing, nothing is left behind."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        if (folder / saved.RUN).is_file():
            raise InputError(
                "The disk is full; what was saved of the run before is whole. Free some space, then: "
                f"{work.command} --resume {folder}"
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        raise


def refuse_to_harm(folder: Path, command: str, resume: bool) -> None:
    """InputError where a new run would lie over something else, or there is none of this command's to go on with."""
    if resume:
        kind = saved.kind(folder)
        if not command.endswith(f" {kind}"):
            raise InputError(f"{folder} is a run of a {kind}. Go on with it by: advgan train {kind} --resume {folder}")
    elif folder.is_dir() and any(folder.iterdir()):
        what = "holds a run" if (folder / saved.RUN).is_file() else "exists and is not empty"
        more = f", or go on with it: --resume {folder}" if what == "holds a run" else ""
        raise InputError(f"The folder {folder} {what}. Name another with --out{more}.")
    elif folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder for the run that does not exist yet.")
