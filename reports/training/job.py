"""How does a training run go, from what was asked for to the page?"""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from advgan.fit import fit
from advgan.health import DivergedError
from attacks.errors import InputError
from reports.audit import device_named
from reports.provenance import versions
from reports.training import page, saved
from reports.training.asked import Asked
from reports.training.saved import SavedRun
from reports.training.subject import Subject, subject_of

Show = Callable[[int, int, dict[str, Any]], None]  # steps done, of how many, the newest row
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def train(
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
    refuse_to_harm(folder, resume)
    place = device_named(device)
    asked = (_asked_before(folder) if resume else Asked()).but(named, recipe)
    subject = subject_of(asked)
    job = _Job(folder, asked, subject, str(place), show)
    with _on_a_full_disk(folder):
        try:
            job.go(resume, every)
        except (KeyboardInterrupt, DivergedError):
            job.write_page()  # of what there is, the warnings above all
            raise
        job.write_page()
    return SavedRun.load(folder)


@contextmanager
def _on_a_full_disk(folder: Path) -> Iterator[None]:
    """What was saved of a run is kept; of one that came to nothing, nothing is left behind."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        if (folder / saved.RUN).is_file():
            raise InputError(
                "The disk is full; what was saved of the run before is whole. Free some space, then: "
                f"advgan train gan --resume {folder}"
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Job:
    def __init__(self, folder: Path, asked: Asked, subject: Subject, device: str, show: Show | None):
        self.folder, self.asked, self.subject, self.device, self.show = folder, asked, subject, device, show
        self.recipe = asked.make_recipe(subject.conditional)
        self.told = False

    def go(self, resume: bool, every: int | None) -> None:
        run = fit(
            self.recipe,
            self.subject.training,
            self.folder,
            resume=resume,
            measure=self.subject.measure,
            every=every or self.subject.every,
            progress=self.progress,
            device=self.device,
        )
        saved.write_pictures(self.folder, self.subject.pictures(run))

    def progress(self, step: int, row: dict[str, Any]) -> None:
        if not self.told:  # not before, so that a folder which fit refuses stays as it was
            self.write_about()
        if self.show:
            self.show(step, self.recipe.steps, row)

    def write_about(self) -> None:
        about = {
            "command": self.asked.command(str(self.folder)),
            "asked": self.asked.described(),
            "data": self.subject.about,
            "judge": self.subject.judge,
            "features": self.subject.features,
            "versions": versions(),
        }
        saved.write_json(self.folder, saved.ABOUT, about)
        self.told = True

    def write_page(self) -> None:
        """Of whatever there is; nothing where fit wrote nothing."""
        if (self.folder / saved.RUN).is_file():
            if not self.told:
                self.write_about()
            saved.write_text(self.folder, saved.PAGE, page.page(SavedRun.load(self.folder)))


def refuse_to_harm(folder: Path, resume: bool) -> None:
    """InputError where a new run would lie over something else, or there is none to go on with."""
    if resume:
        saved.read_json(folder, saved.RUN)
    elif folder.is_dir() and any(folder.iterdir()):
        what = "holds a run" if (folder / saved.RUN).is_file() else "exists and is not empty"
        more = f", or go on with it: --resume {folder}" if what == "holds a run" else ""
        raise InputError(f"The folder {folder} {what}. Name another with --out{more}.")
    elif folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder for the run that does not exist yet.")


def _asked_before(folder: Path) -> Asked:
    return Asked.of(saved.read_json(folder, saved.ABOUT).get("asked", {}))
