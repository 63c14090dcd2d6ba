"""The processes that train one generator together, each on its share of every batch.

Torch's own collectives, one sum over one flat gradient per player and step. DistributedDataParallel is not used: its
reducer counts on one backward pass through each parameter, and a gradient penalty goes through the critic twice.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from attacks.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process and how many there are. With one, nothing is sent."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """The process that writes and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This process's rows of a batch."""
        rows = batch // self.count
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def average(self, tensors: list[Tensor]) -> None:
        """Each tensor becomes its mean over the processes."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def any(self, here: bool) -> bool:
        """Is it so in at least one process?"""
        if self.count == 1:
            return here
        votes: list[bool] = [False] * self.count
        dist.all_gather_object(votes, here)
        return any(votes)

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The group that torchrun started, or that the caller has made; else this process alone."""
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Processes(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()
    else:
        yield ALONE


def device_for(name: str | None) -> torch.device:
    """The device asked for; without a name the GPU that belongs to this process, or the CPU."""
    if name is not None:
        return torch.device(name)
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def check_shares(batch: int, processes: Processes) -> None:
    """Raises InputError unless the batch can be dealt out evenly."""
    if batch % processes.count:
        raise InputError(
            f"A batch of {batch} cannot be dealt out evenly to {processes.count} processes. "
            f"Take {batch // processes.count * processes.count or processes.count}, or another number of processes."
        )
