"""What was put round a model on the way from its source, in words, and what does it reveal?"""

from torch import Tensor, nn

from attacks import Access, Victim
from attacks.models import FromCallable, LogProbabilities, Normalized, Resized

REVEALED = {
    Access.GRADIENT: "its gradients",
    Access.SCORES: "its scores, no gradients",
    Access.DECISION: "its decisions, no scores",
}


def victim_of(model: nn.Module) -> Victim:
    """The model, with the access that its source gives."""
    return Victim(model, access_of(model))


def access_of(model: nn.Module) -> Access:
    """GRADIENT, but for what runs outside PyTorch."""
    inner = _layers(model)[-1]
    if not isinstance(inner, FromCallable):
        return Access.GRADIENT
    return Access.DECISION if inner.decisions else Access.SCORES


def told(model: nn.Module) -> list[str]:
    """A sentence for each module round a model, and for what it is itself where that is not PyTorch's."""
    sentences = [_said(layer) for layer in _layers(model)]
    return [sentence for sentence in sentences if sentence]


def _layers(model: nn.Module) -> list[nn.Module]:
    """From the outermost wrapper to what it wraps in the end."""
    found = [model]
    while isinstance(inner := getattr(found[-1], "model", None), nn.Module) and _is_wrapper(found[-1]):
        found.append(inner)
    return found


def _is_wrapper(module: nn.Module) -> bool:
    return isinstance(module, Normalized | Resized | LogProbabilities)


def _said(layer: nn.Module) -> str | None:
    if isinstance(layer, Normalized):
        return f"normalisation folded in: mean {_numbers(layer.mean)}, deviation {_numbers(layer.std)}."
    if isinstance(layer, Resized):
        return f"resizing folded in: {layer.described()}."
    if isinstance(layer, LogProbabilities):
        return "it gives probabilities: their logarithms are its logits."
    note = getattr(getattr(layer, "function", layer), "note", None)
    revealed = f"it reveals {REVEALED[access_of(layer)]}" if isinstance(layer, FromCallable) else None
    return f"{revealed}{f' ({note})' if note else ''}." if revealed else note


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
