"""Does the model give logits that attacks can read: the right shape, finite, before the softmax, of a usable scale?"""

import torch
from torch import Tensor

from ..passes.tape import HANDED
from ..victim import are_probabilities
from .finding import Finding, graded, number
from .look import Look

UNDERFLOW = 88.0  # exp(-88) is the last that float32 has in full: a lead beyond it leaves the softmax no slope
TINY_SPREAD = 0.01  # logits that lie no further apart: the softmax weighs all classes alike


def output(look: Look) -> list[Finding]:
    """Whatever keeps the answers from being logits [b, K >= 2]."""
    given = look.first.output
    if isinstance(given, Exception):
        return [_raised(look, given)]
    if not isinstance(given, Tensor):
        text = f"The model returns {type(given).__name__}, not a tensor of logits [b, K]."
        return [Finding("no_tensor", "fatal", text, "Wrap it in a module whose forward returns the logits alone.")]
    shape, kind = tuple(given.shape), str(given.dtype).removeprefix("torch.")
    if shape in ((len(look.x),), (len(look.x), 1)):
        text = f"The model returns one logit per row {shape}; attacks need one per class."
        return [Finding("one_logit", "fatal", text, "Wrap it in attacks.models.Binary.")]
    if len(shape) != 2 or shape[0] != len(look.x) or not given.is_floating_point():
        text = f"The model returns {kind} {shape} for {len(look.x)} rows; logits [{len(look.x)}, K] are needed."
        remedy = "Wrap it in a module whose forward returns one row of floating-point logits per input."
        return [Finding("output_shape", "fatal", text, remedy)]
    bad = int((~given.isfinite()).any(1).sum())
    if bad:
        text = f"The model gives NaN or inf for {bad} of {shape[0]} clean inputs."
        remedy = "Mend its numerics first: look for overflow in half precision, a logarithm of 0, damaged weights."
        return [Finding("nonfinite_logits", "fatal", text, remedy)]
    return []


def _raised(look: Look, error: Exception) -> Finding:
    shape = ", ".join(map(str, look.x.shape[1:]))
    why = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    if look.dtype not in (None, look.x.dtype, *HANDED):
        have, want = (str(dtype).removeprefix("torch.") for dtype in (look.x.dtype, look.dtype))
        remedy = f"The model is {want} and the inputs are {have}: convert it, model.to(torch.{have}), or them."
    else:
        remedy = "Give it inputs of the shape and range that it was trained on, or mend its forward."
    return Finding("raises", "fatal", f"The model cannot take inputs [b, {shape}]: {why.rstrip('.')}.", remedy)


def probabilities(look: Look) -> list[Finding]:
    if are_probabilities(look.logits):
        text = "The model returns probabilities: no entry is negative and each row sums to 1."
        remedy = "Drop the softmax, or wrap the model in attacks.models.LogProbabilities."
        return [Finding("probabilities", "fatal", text, remedy)]
    if are_probabilities(look.logits.exp()):
        text = "The model returns logarithms of probabilities, which serve as logits."
        return [Finding("log_probabilities", "note", text, "Nothing needs to be done.")]
    return []


def constant(look: Look) -> list[Finding]:
    """The same answer to inputs that are not the same."""
    if len(look.x) < 2 or bool((look.x == look.x[:1]).all()) or bool((look.logits != look.logits[:1]).any()):
        return []
    text = f"The model gives the same logits for all {len(look.x)} inputs."
    return [Finding("constant_logits", "fatal", text, "Look for weights that were not loaded, or dead layers.")]


def precision(look: Look) -> list[Finding]:
    if look.coarse is None:
        return []
    kind = str(look.coarse).removeprefix("torch.")
    return [
        Finding(
            "reduced_precision",
            "warning",
            f"The model computes in {kind}, whose {'8' if look.coarse == torch.bfloat16 else '11'} binary digits leave "
            "many logits equal: small perturbations and small margins cannot be told from rounding.",
            "Audit the model in float32 (model.float(), without autocast), unless it is this type that is asked about.",
        )
    ]


def saturation(look: Look) -> list[Finding]:
    """Rows whose softmax leaves the naive cross entropy no gradient at all in float32."""
    top = look.logits.topk(2, dim=1).values
    count = int((top[:, 0] - top[:, 1] > UNDERFLOW).sum())
    if not count:
        return []
    return [
        Finding(
            "saturated",
            graded(count, len(top)),
            f"The softmax is saturated for {count} of {len(top)} examples (logits up to {number(look.spread)} apart): "
            "the gradient of cross entropy underflows to zero, and attacks that climb it stand still.",
            "Divide the logits by a constant, or use losses that do not care (margin, dlr); distrust robustness that "
            "only cross entropy sees.",
        )
    ]


def scale(look: Look) -> list[Finding]:
    if not 0 < look.spread < TINY_SPREAD:
        return []
    return [
        Finding(
            "tiny_logits",
            "warning",
            f"Logits lie no more than {number(look.spread)} apart, so the softmax is nearly flat: cross entropy weighs "
            "all classes alike, and its gradient may be lost in rounding.",
            "Multiply the logits by a constant, or use losses that do not care (margin, dlr).",
        )
    ]


def classes(look: Look) -> list[Finding]:
    """Labels that the model does not have, and a model that has far more classes than there are labels."""
    if look.labels is None:
        return []
    count, least, most = look.logits.shape[1], int(look.labels.min()), int(look.labels.max())
    if least < 0 or most >= count:
        text = f"Labels run from {least} to {most}, and the model has {count} classes, 0 to {count - 1}."
        remedy = "Number the labels from 0, or take the model that belongs to these data."
        return [Finding("labels_beyond", "fatal", text, remedy)]
    if 2 * (most + 1) <= count and len(look.labels) >= 8:
        text = f"The model has {count} classes, and no label goes beyond {most}."
        remedy = "See that the model belongs to these data; where these are sorted by class, take examples of all."
        return [Finding("more_classes", "note", text, remedy)]
    return []
