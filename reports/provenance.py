"""What exactly was audited, and with which versions? Hashes and numbers that a later run can be held to."""

import hashlib
import platform
from collections.abc import Iterable
from importlib import metadata

import numpy as np
import torch
from torch import Tensor

from advgan.checkpoint import state_hash
from reports.sources.dataset import Batch

__all__ = ["DataHash", "example_digests", "own_version", "row_digests", "state_hash", "versions"]


class DataHash:
    """sha256 over the sha256 of each example (its input as float32, its label as int64), whatever batches they came in.

    So it can be told from the examples' own hashes, wherever those were taken.
    """

    def __init__(self):
        self.whole = hashlib.sha256()

    @classmethod
    def of(cls, batch: Batch) -> str:
        hash_ = cls()
        hash_.add(batch)
        return hash_.hexdigest()

    def add(self, batch: Batch) -> None:
        self.add_digests(example_digests(batch))

    def add_digests(self, digests: Iterable[bytes]) -> None:
        for digest in digests:
            self.whole.update(digest)

    def hexdigest(self) -> str:
        return self.whole.hexdigest()


def example_digests(batch: Batch) -> list[bytes]:
    """32 bytes for each example."""
    x, labels = batch.x.numpy(), batch.labels.numpy()
    return [hashlib.sha256(row.tobytes() + label.tobytes()).digest() for row, label in zip(x, labels, strict=True)]


def versions() -> dict[str, str]:
    return {
        "advgan": own_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def own_version() -> str:
    try:
        return metadata.version("advgan")
    except metadata.PackageNotFoundError:
        return "not installed"


def row_digests(x: Tensor) -> np.ndarray:
    """[n] uint64: eight bytes of a hash of each input [n, ...] float32, by which the same input is known again."""
    rows = x.detach().cpu().contiguous().numpy()
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8").copy()
