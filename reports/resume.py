"""What do commands share that go on where they were stopped: a lock, receipts for what is finished, a full disk?

No clock is asked: what is finished is known by its receipt and the hash of its bytes, who is at work by a lock that the
system takes from whoever dies.
"""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from advgan.checkpoint import write_json
from attacks.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOENT)
LOCK = "lock"
KEPT = "The same command goes on after them."


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Nobody else in `folder`, which is made where it is not there; InputError where somebody is."""
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+")
        except FileNotFoundError:  # removed since by whoever had it
            continue
        with file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InputError(
                    f"{what} is being written by another process ({file.read().strip() or 'unknown'}). "
                    "Wait for it, end it, or name another --out."
                ) from None
            if not _is_same(file.fileno(), path):
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n" if fcntl is not None else "")
            file.flush()
            yield
            return


def _is_same(handle: int, path: Path) -> bool:
    """Whether the file that was opened is still the one that lies there."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def read_receipt(folder: Path, number: int) -> dict[str, Any] | None:
    """What was written down of a finished shard; None of one that is not, or whose receipt is damaged."""
    path = _receipt(folder, number)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def write_receipt(folder: Path, number: int, receipt: Mapping[str, Any]) -> None:
    write_json(_receipt(folder, number), receipt)


def finished(folder: Path) -> int:
    """How many shards have a receipt."""
    return len(list(folder.glob("shard-*.json")))


def _receipt(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.json"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has(path: Path, hash_: str) -> bool:
    """Whether the file is there, as it was."""
    return path.is_file() and sha256(path) == hash_


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is the reason."""
    return error is not None and ((isinstance(error, OSError) and error.errno in FULL) or is_full(error.__cause__))


def plain(value: Any) -> Any:
    """The same value as JSON gives it back."""
    return json.loads(json.dumps(value))
