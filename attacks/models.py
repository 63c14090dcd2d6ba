"""Modules to put round a model, so that what is attacked takes plain inputs and gives logits."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn


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
        logit = self.model(x).reshape(len(x))
        return torch.stack((torch.zeros_like(logit), logit), 1)


class LogProbabilities(nn.Module):
    """Logits from a model that gives probabilities [b, K]: their logarithm. Better: attack the model before its softmax."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        probabilities = self.model(x)
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


class Averaged(nn.Module):
    """The ensemble that averages its members' probabilities; its logits are the logarithm of the average."""

    def __init__(self, *models: nn.Module):
        super().__init__()
        self.members = nn.ModuleList(models)

    def forward(self, x: Tensor) -> Tensor:
        each = torch.stack([member(x).log_softmax(1) for member in self.members])
        return each.logsumexp(0)


class Repeated(nn.Module):
    """A randomised model, its logits averaged over `times` passes (expectation over transformation, arXiv 1707.07397)."""

    def __init__(self, model: nn.Module, times: int):
        super().__init__()
        self.model, self.times = model, times

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.model(x) for _ in range(self.times)]).mean(0)


class FromCallable(nn.Module):
    """A classifier outside PyTorch: function(numpy array [b, ...]) -> scores [b, K]. It gives no gradients."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        scores = np.asarray(self.function(x.detach().cpu().numpy()))
        return torch.as_tensor(scores, dtype=x.dtype, device=x.device)
