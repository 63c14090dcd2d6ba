"""Modules to put round a model, so that what is attacked takes plain inputs and gives logits."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


class Resized(nn.Module):
    """model on images [b, C, H, W] within 0 to 1, brought to its size; those of that size already are left alone.

    size: (height, width), or one number for the shorter side.
    crop: (height, width) of the centre that the model is shown after that; None shows all.
    mode: "bilinear" or "bicubic", antialiased; what bicubic overshoots is cut to 0 and 1. Gradients flow through.
    Raises InputError for inputs that are no images, and for a crop larger than the size.
    """

    def __init__(
        self,
        model: nn.Module,
        size: int | tuple[int, int],
        crop: tuple[int, int] | None = None,
        mode: str = "bilinear",
    ):
        super().__init__()
        if mode not in ("bilinear", "bicubic"):
            raise InputError(f"Resized with mode={mode!r}; it must be bilinear or bicubic.")
        least = (size, size) if isinstance(size, int) else size
        if min(least) < 1 or (crop is not None and (crop[0] > least[0] or crop[1] > least[1] or min(crop) < 1)):
            raise InputError(f"Resized to {size} with crop {crop}: the crop must lie within the size.")
        self.model, self.size, self.crop, self.mode = model, size, crop, mode

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            raise InputError(f"Resized takes images [b, C, H, W], and was given {tuple(x.shape)}.")
        shown = self.crop or self.size
        if tuple(x.shape[2:]) == ((shown, shown) if isinstance(shown, int) else shown):
            return self.model(x)
        resized = nn.functional.interpolate(x, self._sized(x), mode=self.mode, align_corners=False, antialias=True)
        if self.mode == "bicubic":
            resized = resized.clamp(0, 1)
        return self.model(self._cropped(resized))

    def described(self) -> str:
        """What is done, in words."""
        side = f"the shorter side to {self.size}" if isinstance(self.size, int) else "to {} x {}".format(*self.size)
        centre = "" if self.crop is None else ", then the centre {} x {}".format(*self.crop)
        return f"{side} pixels{centre} ({self.mode}), where images are of another size"

    def _sized(self, x: Tensor) -> tuple[int, int]:
        if not isinstance(self.size, int):
            return self.size
        scale = self.size / min(x.shape[2:])
        height, width = (max(self.size, round(side * scale)) for side in x.shape[2:])
        return height, width

    def _cropped(self, x: Tensor) -> Tensor:
        if self.crop is None:
            return x
        top, left = ((have - want) // 2 for have, want in zip(x.shape[2:], self.crop, strict=True))
        return x[:, :, top : top + self.crop[0], left : left + self.crop[1]]


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


class BPDA(nn.Module):
    """A defence through which no gradients flow, to put before a model: nn.Sequential(BPDA(defence), model).

    defence: images [b, ...] to images or features, any function or module; it is handed a copy without a graph.
    backward: a differentiable function of the same shapes that stands in for it on the way back (BPDA, arXiv
        1802.00420); None is the identity, for a defence that gives back about what it is given.
    Raises InputError where the two do not give the same shape.
    """

    def __init__(self, defence: Callable[[Tensor], Tensor], backward: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.defence, self.backward = defence, backward

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            defended = self.defence(x.detach().clone())
        stand_in = x if self.backward is None else self.backward(x)
        if defended.shape != stand_in.shape:
            who = "its stand-in" if self.backward is not None else "the identity, which stands in for it,"
            raise InputError(
                f"The defence gives {tuple(defended.shape)} and {who} {tuple(stand_in.shape)} for {tuple(x.shape)}: "
                "give BPDA a `backward` of the same shape."
            )
        return _Swapped.apply(stand_in, defended.to(stand_in.dtype))  # type: ignore[return-value]


class _Swapped(torch.autograd.Function):
    """The second tensor, bit for bit, with the gradient of the first."""

    @staticmethod
    def forward(ctx, stand_in, defended):
        return defended.clone()

    @staticmethod
    def backward(ctx, *grads):
        return grads[0], None


class FromCallable(nn.Module):
    """A classifier outside PyTorch: function(numpy array [b, ...]) -> scores [b, K]. It gives no gradients.

    decisions: the function gives class numbers [b] instead, whole ones from 0 to classes - 1; they become scores of 2
        for that class and 0 for the others. Say so to the attack, too: Victim(model, Access.DECISION).
    """

    def __init__(
        self, function: Callable[[np.ndarray], ArrayLike], decisions: bool = False, classes: int | None = None
    ):
        super().__init__()
        if decisions and (classes is None or classes < 2):
            raise InputError(f"decisions=True with classes={classes}: say how many classes there are, at least 2.")
        if classes is not None and not decisions:
            raise InputError(f"classes={classes} without decisions=True: scores [b, K] say themselves how many.")
        self.function, self.decisions, self.classes = function, decisions, classes

    def forward(self, x: Tensor) -> Tensor:
        # Copies both ways: the function may work in place, and what it returns may be read-only.
        given = np.asarray(self.function(x.detach().cpu().numpy().copy())).copy()
        if self.decisions:
            given = self._one_hot(given, len(x))
        elif given.ndim == 1 and given.dtype.kind in "iub":
            raise InputError(
                f"The function returns {given.dtype} {given.shape}, which look like class numbers; scores "
                f"[{len(x)}, K] are needed. Where there are only decisions, FromCallable(function, decisions=True, "
                "classes=K) makes them one-hot."
            )
        return torch.as_tensor(given, dtype=x.dtype, device=x.device)

    def _one_hot(self, given: np.ndarray, batch: int) -> np.ndarray:
        assert self.classes is not None
        if given.shape != (batch,) or given.dtype.kind not in "iub":
            raise InputError(
                f"The function returns {given.dtype} {given.shape}; with decisions=True it must give class numbers, "
                f"whole ones [{batch}]."
            )
        if batch and not 0 <= int(given.min()) <= int(given.max()) < self.classes:
            raise InputError(
                f"The function returns classes from {given.min()} to {given.max()}, and classes={self.classes}: "
                f"they must be 0 to {self.classes - 1}."
            )
        return 2.0 * (given.astype(np.int64)[:, None] == np.arange(self.classes))


def from_onnx(path: str | Path) -> FromCallable:
    """The classifier in an ONNX file, run by onnxruntime on the CPU: logits [b, K] for inputs [b, ...], no gradients.

    Its first output counts. A file of a fixed batch size is run that many rows at a time. Probabilities, where it ends
    in a softmax, need LogProbabilities round it. Raises InputError where onnxruntime (the extra `onnx`) is not
    installed, or the file cannot be read or is no such classifier.
    """
    return FromCallable(_OnnxFile(path))


class _OnnxFile:
    """function(array [b, ...]) -> array [b, K]; it is pickled and copied as its path."""

    def __init__(self, path: str | Path):
        try:
            import onnxruntime
        except ImportError:
            raise InputError(
                "from_onnx runs ONNX files with onnxruntime, which is not installed: pip install 'advgan[onnx]'."
            ) from None
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"There is no file {self.path}; from_onnx needs an ONNX file.")
        try:
            self.session: Any = onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception for each thing that can be wrong with a file
            reason = str(error).splitlines()[0]
            raise InputError(f"onnxruntime cannot read {self.path} ({reason}).") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _ONNX_TYPES:
            there = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
            raise InputError(f"{self.path} takes {there}; one input of floating-point numbers is needed.")
        self.input = inputs[0]

    def __reduce__(self):
        return _OnnxFile, (self.path,)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self._check(x.shape)
        x = x.astype(_ONNX_TYPES[self.input.type])
        size = self.input.shape[0]
        if not isinstance(size, int) or size == len(x):
            return self._scores(x)
        filled = np.concatenate((x, np.repeat(x[-1:], -len(x) % size, axis=0)))  # the last row again, to fill the last
        return np.concatenate([self._scores(part) for part in np.split(filled, len(filled) // size)])[: len(x)]

    def _check(self, shape: tuple[int, ...]) -> None:
        wanted = self.input.shape
        fits = len(wanted) == len(shape) and all(
            not isinstance(want, int) or want == have for want, have in zip(wanted[1:], shape[1:], strict=True)
        )
        if not fits:
            raise InputError(f"{self.path} takes {self.input.name} {list(wanted)}, and the inputs are {list(shape)}.")

    def _scores(self, x: np.ndarray) -> np.ndarray:
        scores = self.session.run(None, {self.input.name: x})[0]
        if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or scores.ndim != 2 or len(scores) != len(x):
            kind = f"{scores.dtype} {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
            raise InputError(f"The first output of {self.path} is {kind}; logits [{len(x)}, K] are needed.")
        return scores


_ONNX_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
