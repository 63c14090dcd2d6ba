"""What is wrong with this model or its data, before any attack?"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .checks import answers, data, gradients, manners, outputs
from .checks.finding import Finding
from .checks.look import Look
from .errors import InputError
from .threat_set import Bound
from .victim import Access, Victim, borrowed

__all__ = ["CHECKS", "Finding", "examine"]

Check = Callable[[Look], list[Finding]]

OF_TYPES: dict[str, Check] = {"types": data.input_type, "non-finite inputs": data.finite_inputs}
OF_DATA: dict[str, Check] = {
    "labels": data.label_type,
    "bounds": data.bounds,
    "range": data.used_range,
    "constant inputs": data.constant_inputs,
    "copies": data.duplicates,
    "the 8-bit grid": data.grid,
}
OF_THE_MODEL: dict[str, Check] = {
    "logits": outputs.output,
    "in-place changes": manners.input_kept,
    "batch statistics": manners.batch_statistics,
}
OF_LOGITS: dict[str, Check] = {
    "probabilities": outputs.probabilities,
    "constant logits": outputs.constant,
    "precision": outputs.precision,
    "saturation": outputs.saturation,
    "scale": outputs.scale,
    "classes": outputs.classes,
    "train mode": manners.mode,
    "randomness and state": manners.repeats,
    "dependence on other rows": manners.company,
}
OF_SENSE: dict[str, Check] = {"accuracy": answers.accuracy, "gradients": gradients.gradients}
CHECKS = {**OF_TYPES, **OF_DATA, **OF_THE_MODEL, **OF_LOGITS, **OF_SENSE}  # what is looked at -> how


def examine(
    model: nn.Module | Victim,
    x: Tensor,
    labels: Tensor | None = None,
    *,
    bounds: tuple[Bound, Bound] = (0.0, 1.0),
    seed: int = 0,
) -> list[Finding]:
    """Everything that CHECKS find, the worst first; [] where nothing is wrong.

    model: as it would be attacked; left exactly as it was. Gradients that a `Victim` does not reveal are not looked at.
    x, labels: examples [B, ...] and their class numbers [B] int64, of which at most 64, spread over them, are shown to
        the model, in at most 20 forward passes of these. None for labels leaves out what they are needed for.
    bounds: (low, high), numbers or one per feature.
    seed: of the directions in which the gradient is tried, and of the model's random numbers.
    Where the answers are no logits, or all alike, the checks that need more are left out.
    Raises InputError where the model is no module, or x no tensor [B, ...] of at least one example.
    """
    reveals = model.access if isinstance(model, Victim) else Access.GRADIENT
    model = model.model if isinstance(model, Victim) else model
    if not isinstance(model, nn.Module):
        raise InputError(
            f"The model is {type(model).__name__}; a torch.nn.Module is needed (attacks.models.FromCallable)."
        )
    if not isinstance(x, Tensor) or x.ndim < 2 or x.numel() == 0:
        there = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"Inputs are {there}; a tensor of at least one example [B, ...] is needed.")
    for bound in map(torch.as_tensor, bounds):
        try:
            bound.expand(x.shape[1:])
        except RuntimeError:
            there, needed = tuple(bound.shape), tuple(x.shape[1:])
            raise InputError(f"A bound is {there}; a number, or one per feature {needed}, is needed.") from None
    with torch.inference_mode(False), torch.no_grad():  # what is made under inference mode takes part in no gradient
        look = Look(model, x, labels, bounds, seed)
        with borrowed(model, seed):
            found = _found(look, OF_SENSE if reveals is Access.GRADIENT else {"accuracy": answers.accuracy})
    order = ("fatal", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _found(look: Look, of_sense: dict[str, Check]) -> list[Finding]:
    found = _asked(OF_TYPES, look)
    if look.data.dtype not in data.TYPES or not len(look.x):
        return found
    found += _asked(OF_DATA, look) + _asked(OF_THE_MODEL, look)
    if not look.usable:
        return found
    logits = _asked(OF_LOGITS, look)
    ends = {"constant_logits", "probabilities"} & {finding.code for finding in logits}
    return found + logits + ([] if ends else _asked(of_sense, look))


def _asked(checks: dict[str, Check], look: Look) -> list[Finding]:
    return [finding for check in checks.values() for finding in check(look)]
