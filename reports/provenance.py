"""What exactly was audited, and with which versions? Hashes and numbers that a later run can be held to."""

import hashlib
import platform
from importlib import metadata

import numpy as np
import torch
from torch import Tensor, nn

from reports.sources.dataset import Batch


class DataHash:
    """sha256 over the inputs (float32) and the labels (int64), whatever batches they came in."""

    def __init__(self):
        self.x, self.labels = hashlib.sha256(), hashlib.sha256()

    def add(self, batch: Batch) -> None:
        self.x.update(batch.x.numpy().tobytes())
        self.labels.update(batch.labels.numpy().tobytes())

    def hexdigest(self) -> str:
        return hashlib.sha256(self.x.digest() + self.labels.digest()).hexdigest()


def state_hash(model: nn.Module) -> str:
    """sha256 over the state dict: each entry's name, type, shape and bytes."""
    hashed = hashlib.sha256()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            hashed.update(f"{name} {value!r}\n".encode())
            continue
        hashed.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        hashed.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


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
