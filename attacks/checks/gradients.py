"""Can the gradient be believed: is there one, is it finite, does it vanish, jump about, or say what is not so?

All of it is about the margin, the best other logit minus the label's (or the prediction's), so that the scale of the
logits does not matter.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .finding import Finding, graded, number
from .look import TRUE, Look

FEW = 16  # examples for all that takes more than one pass
# Shares of the bounds. Points are moved off the data, lest they lie on kinks (equal pixels under max pooling). Of two
# steps of finite differences the larger suffers from kinks and the smaller from rounding: the better one counts.
APART = 2.0**-10
STEPS = (2.0**-12, 2.0**-15)
BLACK_BOX = "attacks that use no gradients (square, hopskipjump)"


@dataclass(frozen=True)
class Duel:
    """Some examples x [b, ...], each with the two classes [b] whose difference is its margin."""

    look: Look
    x: Tensor
    label: Tensor
    rival: Tensor

    @classmethod
    def of(cls, look: Look) -> "Duel":
        """All of them: the label's class, or else the predicted one, and the best other."""
        label = look.predicted if look.labels is None else look.labels.clamp(0, look.logits.shape[1] - 1)
        return cls(look, look.x, label, look.logits.scatter(1, label[:, None], -torch.inf).argmax(1))

    def few(self) -> "Duel":
        """FEW of them, spread over all."""
        rows = torch.linspace(0, len(self.x) - 1, min(FEW, len(self.x)), device=self.x.device).round().long()
        return Duel(self.look, self.x[rows], self.label[rows], self.rival[rows])

    def margin(self, logits: Tensor) -> Tensor:
        """[b] float64."""
        rows = torch.arange(len(logits), device=logits.device)
        return logits[rows, self.rival].double() - logits[rows, self.label].double()

    def slope(self, x: Tensor) -> Tensor:
        """[b, d] float64: the gradient of the margin. Raises whatever autograd or the model does."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            output = self.look.model(self.look.given(leaf))
            assert isinstance(output, Tensor)
            (slope,) = torch.autograd.grad(self.margin(output).sum(), leaf)
        return slope.flatten(1).double()

    def random(self, draw: int) -> Tensor:
        """[b, ...] in [0, 1)."""
        generator = torch.Generator().manual_seed((self.look.seed + draw) % 2**63)
        return torch.rand(self.x.shape, generator=generator).to(self.x)

    def beside(self) -> tuple[Tensor, Tensor]:
        """[b, ...] twice: a point beside each example, and another beside that one, inside the bounds by a step."""
        inset = STEPS[0] * self.look.span
        low, high = self.look.edges
        points = [self.x]
        for draw in (0, 1):
            moved = points[-1] + APART * self.look.span * (2 * self.random(draw) - 1)
            points.append(torch.maximum(torch.minimum(moved, high - inset), low + inset))
        return points[1], points[2]


def gradients(look: Look) -> list[Finding]:
    """Whatever is wrong with the gradients; of zero, shattered and wrong the first that holds."""
    duel = Duel.of(look)
    try:
        slope = duel.slope(duel.x)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # autograd's, or whatever the model's own code raises
        return [_none(error)]
    broken = _not_finite(slope) + _zero(slope)
    if look.is_random or look.company > TRUE or any(finding.severity == "warning" for finding in broken):
        return broken
    with _all_digits():
        return broken + _beside(duel.few())


def _beside(duel: Duel) -> list[Finding]:
    """What a little off the examples, where no kink is likely, speaks against the gradients."""
    here, there = duel.beside()
    try:
        slope, onwards = duel.slope(here), duel.slope(there)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return [_raises_beside(error)]
    return _shattered(slope, onwards) or _wrong(duel, here, slope)


def _none(error: Exception) -> Finding:
    return Finding(
        "no_gradient",
        "warning",
        f"No gradient reaches the input ({_first_line(error)}).",
        "Take detach, no_grad, inference_mode and numpy off the way to the logits, put attacks.models.BPDA round what "
        f"has no derivative, or use {BLACK_BOX}.",
    )


def _raises_beside(error: Exception) -> Finding:
    return Finding(
        "raises_nearby",
        "fatal",
        f"The model takes the examples, and raises a little off them ({_first_line(error)}).",
        "Let forward take every input within the bounds: attacks search between the examples.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".") or type(error).__name__


def _not_finite(slope: Tensor) -> list[Finding]:
    count = int((~slope.isfinite()).any(1).sum())
    if not count:
        return []
    return [
        Finding(
            "nonfinite_gradient",
            graded(count, len(slope)),
            f"The gradient holds NaN or inf for {count} of {len(slope)} examples, where the logits are finite.",
            "Look for a square root, norm, logarithm or division at 0, and add a small constant inside it.",
        )
    ]


def _zero(slope: Tensor) -> list[Finding]:
    count = int((slope == 0).all(1).sum())
    if not count:
        return []
    return [
        Finding(
            "zero_gradient",
            graded(count, len(slope)),
            f"The gradient is exactly zero for {count} of {len(slope)} examples: gradient attacks see nothing there.",
            f"Look for rounding, steps or saturation in the model, take the layer out or put attacks.models.BPDA round "
            f"it, and add {BLACK_BOX}.",
        )
    ]


def _shattered(here: Tensor, there: Tensor) -> list[Finding]:
    """The median row's gradients at two points beside each other, less than half alike."""
    cosine = torch.nn.functional.cosine_similarity(here, there, dim=1, eps=0.0)
    median = float(cosine.nan_to_num(0.0).median())
    if median >= 0.5:
        return []
    return [
        Finding(
            "shattered_gradient",
            "warning",
            f"Gradients jump: at two points {number(APART)} of the bounds apart their cosine is {median:.2f} in the "
            "median example, and one step on they no longer hold.",
            f"Average the model over small noise or smooth the layer that jumps (attacks.models.BPDA), and add "
            f"{BLACK_BOX}.",
        )
    ]


def _wrong(duel: Duel, here: Tensor, slope: Tensor) -> list[Finding]:
    """The median error over examples and directions, at the better of two steps, more than a quarter.

    The directions are the signs of the gradient itself and random signs.
    """
    random = torch.where(duel.random(2) < 0.5, -1.0, 1.0).to(here)
    own = slope.sign().view_as(here).to(here)
    errors = torch.cat([_errors(duel, here, slope, each) for each in (torch.where(own == 0, random, own), random)])
    told = errors[errors.isfinite()]
    if len(told) < 2 or float(told.median()) <= 0.25:
        return []
    return [
        Finding(
            "wrong_gradient",
            "warning",
            f"The gradient is not the model's slope: finite differences say otherwise by {100 * told.median():.0f} % "
            f"(median of {len(told)} examples and directions).",
            "Look for rounding with a straight-through gradient, BPDA or a backward of one's own; make sure that it "
            f"points the right way, and add {BLACK_BOX}.",
        )
    ]


def _errors(duel: Duel, here: Tensor, slope: Tensor, direction: Tensor) -> Tensor:
    """[b]: how far the slope along a direction of signs lies from central differences, at the better of two steps.

    As a share of the larger of the two or, if that is more, of what a random direction's slope usually is; inf where
    the differences drown in rounding.
    """
    look, said = duel.look, (slope * direction.flatten(1).double()).sum(1)
    best = torch.full_like(said, torch.inf)
    for step in (share * look.span for share in STEPS):
        ahead, behind = (look.logits_at(here + sign * step * direction) for sign in (1, -1))
        if ahead is None or behind is None:
            continue
        seen = (duel.margin(ahead) - duel.margin(behind)) / (2 * step)
        size = torch.stack([said.abs(), seen.abs(), slope.norm(dim=1)]).amax(0)
        drowned = size * 2 * step < 10 * look.rounding
        best = torch.minimum(best, torch.where(drowned, torch.inf, (said - seen).abs() / size))
    return best


@contextlib.contextmanager
def _all_digits() -> Iterator[None]:
    """Without TF32, whose ten bits a finite difference does not survive."""
    matmul, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolutions
