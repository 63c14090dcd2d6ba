"""How does an audit's folder take its place when it is complete, and not before?

Everything is written into a folder beside the final one; where that is not completed, nothing is left behind.
"""

import errno
import secrets
import shutil
from pathlib import Path
from typing import Self

from attacks.errors import InputError
from reports.record import CERTIFICATES, FILES, FOLDER, is_audit

SPOOL = "spool"  # in it batches wait for the tables that they will be in


class Replacing:
    """A context manager: what is written to `path` is `folder` once it is put in place, and else is gone.

    InputError where `refuse_to_harm` says so, where the folder cannot be made, and where the disk is full.

    writing: the path, on the same disk; None is one beside `folder`.
    """

    def __init__(self, folder: Path, overwrite: bool, writing: Path | None):
        self.folder, self.overwrite = folder, overwrite
        self.path = writing or folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
        refuse_to_harm(self.folder, self.overwrite)

    def __enter__(self) -> Self:
        self._made = [parent for parent in self.folder.parents if not parent.exists()]
        try:
            (self.path / SPOOL).mkdir(parents=True)
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise InputError(f"{self.folder} cannot be written ({error.strerror}). Name another --out.") from error
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._discard()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"The disk is full: {self.folder} could not be written, and nothing of it was left behind. "
                "Free some space, name another --out, or audit fewer --examples."
            ) from error

    def put_in_place(self) -> None:
        refuse_to_harm(self.folder, self.overwrite)
        if not self.folder.exists():
            self.path.rename(self.folder)
            return
        old = self.path.with_suffix(".old")
        self.folder.rename(old)
        try:
            self.path.rename(self.folder)
        except BaseException:
            old.rename(self.folder)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _discard(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path, ignore_errors=True)
        for parent in self._made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def refuse_to_harm(folder: Path, overwrite: bool) -> None:
    """InputError where the folder exists, unless with `overwrite` it is empty or holds an audit and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder for the audit that does not exist yet.")
    inside = {path.name for path in folder.iterdir()}
    if not overwrite:
        raise InputError(f"The folder {folder} exists. Name another, or replace it with --overwrite.")
    if not inside:
        return
    if not is_audit(folder):
        raise InputError(f"{folder} is not an audit (no audit.json of ours), so it is not replaced. Name another.")
    foreign = sorted(inside - {*FILES, CERTIFICATES, FOLDER})
    if foreign:
        raise InputError(
            f"{folder} holds files that no audit writes ({', '.join(foreign[:5])}), so it is not replaced. "
            "Move them away, or name another folder."
        )
