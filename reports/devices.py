"""On which device does a model run, and with how many threads?"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from attacks.errors import InputError

SMALL = 256  # numbers in an input


def device_named(text: str) -> torch.device:
    """The device; InputError where it is unknown or not there."""
    try:
        device = torch.device(text)
    except RuntimeError:
        raise InputError(f"There is no device {text!r}. Known: cpu, cuda, cuda:NUMBER.") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"The device {text!r} is not one that audits run on. Known: cpu, cuda, cuda:NUMBER.")
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= there:
        what = f"there are {there}" if there else "PyTorch finds no CUDA device"
        raise InputError(f"The device {text} was asked for, and {what}. Use --device cpu, or see nvidia-smi.")
    return device


@contextlib.contextmanager
def placed(models: Mapping[str, nn.Module], device: torch.device) -> Iterator[None]:
    """The models on the device; on leaving, back where they were."""
    homes = [(model, next((t.device for t in model.state_dict().values()), device)) for model in models.values()]
    try:
        for model, _ in homes:
            model.to(device)
        yield
    finally:
        for model, home in homes:
            model.to(home)


@contextlib.contextmanager
def threads(shape: Sequence[int], share: int = 1) -> Iterator[None]:
    """This process's share of the threads of `share` processes; on leaving, as many as before.

    One thread for inputs so small that several would mostly wait for each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if math.prod(shape) <= SMALL else max(1, before // share))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait_for(device: torch.device) -> None:
    """Until it has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
