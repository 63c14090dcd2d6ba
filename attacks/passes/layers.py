"""What does a layer inside a model give in one pass?"""

from collections.abc import Callable

from torch import Tensor, nn

from ..errors import InputError, unknown


def heard(model: nn.Module, layer: str, passes: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What `passes` returns, and what the layer gave [b, ...] in the pass through the model that it makes.

    layer: a submodule, as `named_modules` gives it. Raises InputError where there is none, where it takes no part in
    the pass, and where it gives anything but a tensor.
    """
    given: list[Tensor] = []
    with layer_named(model, layer).register_forward_hook(lambda *passed: given.append(passed[-1])):
        result = passes()
    if not given:
        raise InputError(f"The layer {layer!r} takes no part in a pass through the model. Name another.")
    if not isinstance(given[-1], Tensor):
        raise InputError(
            f"The layer {layer!r} gives {type(given[-1]).__name__}; name one that gives a tensor [b, ...]."
        )
    return result, given[-1]


def layer_named(model: nn.Module, layer: str) -> nn.Module:
    """Raises InputError where the model has no such layer."""
    try:
        return model.get_submodule(layer)
    except AttributeError:
        known = model.get_submodule("").named_modules()  # of a wrapper that hands its names through: the model inside
        raise unknown("layer", layer, filter(None, dict(known))) from None
