"""Where results that take hours are kept: what would be computed from the same model, rows and options is read back.

The environment's ADVGAN_BENCH_CACHE names another folder than .cache beside this file.
"""

import datetime
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import machine
from torch import Tensor, nn

CACHE = Path(os.environ.get("ADVGAN_BENCH_CACHE") or Path(__file__).parent / ".cache")
Arrays = dict[str, np.ndarray]


def kept(kind: str, key: dict[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    """compute(), or what it gave for the same key before. Beside the arrays stand the key, the machine and the date."""
    path = CACHE / kind / f"{digest(key)}.npz"
    if path.exists():
        with np.load(path) as file:
            return dict(file)
    arrays = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {**key, "machine": machine(), "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M}"}
    path.with_suffix(".json").write_text(json.dumps(about, indent=1))
    beside = path.with_suffix(".partial")
    with beside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    beside.replace(path)
    return arrays


def digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint(model: nn.Module) -> str:
    """Of the weights and of what the modules' names say, options included."""
    state = hashlib.sha256(repr(model).encode())
    for name, tensor in model.state_dict().items():
        state.update(name.encode() + _bytes(tensor))
    return state.hexdigest()[:16]


def fingerprint_of(*tensors: Tensor) -> str:
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(_bytes(tensor))
    return state.hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    return str(tuple(tensor.shape)).encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
