"""Random numbers that belong to an example: they depend on (seed, example id, draw) and on nothing else.

Counter-based (Philox-4x32-10, Salmon et al. 2011), so that neither the batch, its order, the shard nor the device
matters.
"""

import math

import torch
from torch import Tensor

from . import kernels


def uniform(seed: int, ids: Tensor, draw: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """[b, *shape] in [0, 1), for ids [b] int64."""
    return kernels.uniform(seed, ids, draw, math.prod(shape), dtype).reshape(len(ids), *shape)


def normal(seed: int, ids: Tensor, draw: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """[b, *shape] standard normal, for ids [b] int64."""
    return kernels.normal(seed, ids, draw, math.prod(shape), dtype).reshape(len(ids), *shape)
