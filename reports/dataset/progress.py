"""What stands of a set that is not finished, so that a run that was stopped goes on and ends with the same bytes?

A finished shard leaves a receipt in .progress, written after its files; what has none is made anew. manifest.json comes
last, and .progress goes.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advgan.checkpoint import refuse_differences, write_json
from attacks.errors import InputError
from reports import resume
from reports.dataset.manifest import FILE, Manifest
from reports.resume import UNWRITABLE, is_full, locked, plain

PROGRESS = ".progress"
CONFIGURATION = "configuration.json"


def check_folder(folder: Path) -> None:
    """InputError where there is something that is neither a data set nor the beginning of one."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder for the data set.")
    ours = (folder / FILE).is_file() or (folder / PROGRESS).is_dir()
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise InputError(f"{folder} is not empty, and what it holds is no data set of ours. Name another --out.")


def is_whole(folder: Path, fixed: dict[str, Any]) -> bool:
    """Whether the set is there already; InputError where it, or what was begun there, is another one."""
    if (folder / FILE).is_file():
        about = Manifest.load(folder).about
        refuse_differences({name: about[name] for name in fixed}, plain(fixed), folder)
        return True
    begun = folder / PROGRESS / CONFIGURATION
    if begun.is_file():
        refuse_differences(json.loads(begun.read_text(encoding="utf-8")), plain(fixed), folder)
    return False


def begin(folder: Path, fixed: dict[str, Any]) -> None:
    for path in folder.rglob(".*.partial"):  # of a process that was killed while it wrote
        path.unlink()
    write_json(folder / PROGRESS / CONFIGURATION, fixed)


@contextlib.contextmanager
def keeping_what_is_finished(folder: Path) -> Iterator[None]:
    """What is finished stays, whatever happens; of a set without a finished shard nothing is left behind.

    InputError where another process is at work on the folder, where it cannot be written, and where the disk is full.
    """
    check_folder(folder)
    there = folder.exists()
    try:
        with locked(folder / PROGRESS, str(folder)):
            try:
                yield
                if (folder / FILE).is_file():
                    shutil.rmtree(folder / PROGRESS, ignore_errors=True)
            except BaseException:
                if not finished(folder):
                    shutil.rmtree(folder / PROGRESS if there else folder, ignore_errors=True)
                raise
    except OSError as error:
        if is_full(error):
            raise InputError(
                f"The disk is full: {folder} could not be written whole. {finished(folder)} finished shards are kept. "
                "Free some space and run the same command again, which goes on after them."
            ) from error
        if error.errno not in UNWRITABLE:
            raise
        raise InputError(f"{folder} cannot be written ({error.strerror}). Name another --out.") from error


def read_receipt(folder: Path, number: int) -> dict[str, Any] | None:
    """What was written down of a finished shard; None of one that is not."""
    return resume.read_receipt(folder / PROGRESS, number)


def write_receipt(folder: Path, number: int, receipt: dict[str, Any]) -> None:
    resume.write_receipt(folder / PROGRESS, number, receipt)


def finished(folder: Path) -> int:
    """How many shards have a receipt."""
    return resume.finished(folder / PROGRESS)


def end(folder: Path) -> None:
    """The set is whole: what was needed to go on with it goes."""
    shutil.rmtree(folder / PROGRESS)
