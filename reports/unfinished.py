"""What stands of an audit that is not finished, so that it goes on where it was stopped and ends with the same bytes?

For an audit FOLDER it lies in .FOLDER.progress beside it: what was asked, and under the hash of that a parquet file for
each finished shard with its receipt. FOLDER itself is there when it is whole, and not before.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from advgan.checkpoint import refuse_differences, write, write_json
from attacks.errors import InputError
from reports.piece import Key, Piece
from reports.resume import KEPT, UNWRITABLE, finished, is_full, locked, plain, read_receipt, write_receipt

ASKED = "configuration.json"
WRITING = "audit"  # the folder that will take its place
OLD = f"{WRITING}.old"  # what was there, for the moment between two renames


def place_of(out: Path | str) -> Path:
    out = Path(out).resolve()
    return out.parent / f".{out.name}.progress"


def kept(out: Path | str) -> int:
    """How many shards of an audit that is not finished are there."""
    return sum(finished(folder) for folder in place_of(out).glob("*/"))


@dataclass(frozen=True)
class Unfinished:
    place: Path
    folder: Path  # of the shards

    @classmethod
    def begun(cls, place: Path, asked: Mapping[str, Any], overwrite: bool) -> "Unfinished":
        """InputError where an audit of something else was begun, unless it may be overwritten."""
        told = plain(asked)
        folder = place / hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
        others = [path for path in place.glob(f"*/{ASKED}") if path.parent != folder]
        for other in others:
            if finished(other.parent) and not overwrite:
                _refuse(json.loads(other.read_text(encoding="utf-8")), told, other.parent)
            shutil.rmtree(other.parent)
        shutil.rmtree(place / WRITING, ignore_errors=True)
        if not (folder / ASKED).is_file():
            write_json(folder / ASKED, told)
        return cls(place, folder)

    def has(self, number: int) -> bool:
        """Whether a shard is finished, and its file as it was written."""
        receipt = read_receipt(self.folder, number)
        return receipt is not None and _digest(self._file(number)) == receipt.get("sha256")

    def keep(self, number: int, content: bytes, seconds: Mapping[Key, float]) -> None:
        """First the file, then the receipt that says that it is whole."""
        write(self._file(number), content)
        told = {"sha256": hashlib.sha256(content).hexdigest(), "seconds": [[*key, s] for key, s in seconds.items()]}
        write_receipt(self.folder, number, told)

    def read(self, number: int) -> Piece:
        """InputError where the file has changed since it was written."""
        path, receipt = self._file(number), read_receipt(self.folder, number) or {}
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != receipt["sha256"]:
                raise ValueError("it has changed since it was written")
            piece = Piece.decoded(content)
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read ({error}). Run the same command again, which mends it.") from error
        for threat, attack, seconds in receipt["seconds"]:
            piece.took((threat, attack), seconds)
        return piece

    def _file(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.parquet"


@contextlib.contextmanager
def place_for(out: Path) -> Iterator[Path]:
    """Where an audit that will be `out` is worked on, by nobody else.

    When the block ends well the place is gone; where it does not, what is finished stays. InputError, which says so,
    where somebody is at work there, where it cannot be written, and where the disk is full.
    """
    place, made = place_of(out), [parent for parent in out.parents if not parent.exists()]
    try:
        with locked(place, str(out)):
            try:
                if (place / OLD).is_dir() and not out.exists():
                    (place / OLD).rename(out)
                yield place
                shutil.rmtree(place)
            except BaseException as error:
                _explain(error, out, place)
                raise
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise InputError(f"{out} cannot be written ({error.strerror or error}). Name another --out.") from error
    finally:
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _explain(error: BaseException, out: Path, place: Path) -> None:
    """Clears the place where nothing is kept; raises InputError where there is more to say than the error does."""
    count = kept(out)
    if not count:
        shutil.rmtree(place, ignore_errors=True)
    stands = f"{count} finished shards are kept in {place}. {KEPT}" if count else "Nothing of it was left behind."
    if is_full(error):
        raise InputError(
            f"The disk is full: {out} could not be written. {stands} Free some space, name another --out, or audit "
            "fewer --examples."
        ) from error
    if count and isinstance(error, InputError):
        raise InputError(f"{error}\n{stands}") from error


def _refuse(there: Mapping[str, Any], asked: Mapping[str, Any], folder: Path) -> None:
    try:
        refuse_differences(there, asked, folder)
    except InputError as error:
        raise InputError(f"{error} --overwrite begins anew.") from error


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
