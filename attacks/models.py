"""Modules to put round a model, so that what is attacked takes plain inputs and gives logits."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .errors import InputError


class Normalized(nn.Module):
    """model((x - mean) / std), mean and std per channel, so that attacks see x within the data's own bounds."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        return self.model((x - self.mean.view(shape)) / self.std.view(shape))


class Binary(nn.Module):
    """Two logits (0, z) from a model that gives one logit z, [b] or [b, 1], for class 1."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logit = self.model(x)
        if logit.shape not in ((len(x),), (len(x), 1)):
            raise InputError(
                f"Binary wraps a model that gives one logit per row, and this one gives {tuple(logit.shape)} for "
                f"{len(x)} rows. Where there is one per class already, leave Binary out."
            )
        logit = logit.reshape(len(x))
        return torch.stack((torch.zeros_like(logit), logit), 1)


class LogProbabilities(nn.Module):
    """Logits from a model that gives probabilities [b, K]: their logarithm. Better: attack it before its softmax."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        probabilities = self.model(x)
        floored = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny)
        # What is negative is no probability: its logarithm stays NaN, which no attack takes for an answer.
        return torch.where(probabilities < 0, torch.nan, floored).log()


class Averaged(nn.Module):
    """The ensemble that averages its members' probabilities; its logits are the logarithm of the average."""

    def __init__(self, *models: nn.Module):
        super().__init__()
        if not models:
            raise InputError("Averaged was given no model; it needs at least one.")
        self.members = nn.ModuleList(models)

    def forward(self, x: Tensor) -> Tensor:
        each = torch.stack([member(x).log_softmax(1) for member in self.members])
        return each.logsumexp(0) - math.log(len(each))


class Repeated(nn.Module):
    """A randomised model, its logits averaged over `times` passes (EOT, arXiv 1707.07397)."""

    def __init__(self, model: nn.Module, times: int):
        super().__init__()
        if times < 1:
            raise InputError(f"times={times}: Repeated needs at least one pass.")
        self.model, self.times = model, times

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.model(x) for _ in range(self.times)]).mean(0)


class FromCallable(nn.Module):
    """A classifier outside PyTorch: function(numpy array [b, ...]) -> scores [b, K]. It gives no gradients."""

    def __init__(self, function: Callable[[np.ndarray], ArrayLike]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        # Copies both ways: the function may work in place, and what it returns may be read-only.
        scores = np.asarray(self.function(x.detach().cpu().numpy().copy())).copy()
        if scores.ndim == 1 and scores.dtype.kind in "iub":
            raise InputError(
                f"The function returns {scores.dtype} {scores.shape}, which look like class numbers; scores "
                f"[{len(x)}, K] are needed. Where there are only decisions, return them one-hot, times some number."
            )
        return torch.as_tensor(scores, dtype=x.dtype, device=x.device)
