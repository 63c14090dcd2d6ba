"""How are timm's classifiers made, with its weights or with one's own?"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attacks.errors import InputError, unknown
from attacks.models import Normalized, Resized
from reports.sources.needed import needed
from reports.sources.weights import fill, read_weights


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`timm:NAME` with the normalisation of its pretrained configuration folded in.

    The size that it was trained at is folded in, too, where the weights are timm's own or the network takes no other.
    weights: a state dict of that architecture, which says the number of classes; without it timm's own are fetched.
    """
    timm = needed("timm", spec, "hub")
    name = spec.partition(":")[2]
    if not timm.is_model(name.partition(".")[0]):
        names = timm.list_models()
        raise unknown("timm model", name, get_close_matches(name, names, n=8, cutoff=0.3) or names[:8])
    with torch.random.fork_rng():
        model: Any = _pretrained(timm, name) if weights is None else _filled(timm, name, weights)
    about = needed("timm.data", spec, "hub").resolve_model_data_config(model)
    inner: nn.Module = Normalized(model, about["mean"], about["std"])
    if weights is None or model.pretrained_cfg.get("fixed_input_size"):
        inner = _resized(inner, about)
    return name, inner


def _pretrained(timm: Any, name: str) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # no network, no such weights, a damaged file in the cache
        raise InputError(
            f"The weights of timm:{name} could not be fetched ({error}). Name a file of them with --weights."
        ) from error


def _filled(timm: Any, name: str, weights: Path) -> nn.Module:
    state = read_weights(weights)
    head = timm.get_pretrained_cfg_value(name, "classifier")
    head = head if isinstance(head, str) else (head or ("",))[0]
    last = next((key for key in (f"{head}.bias", f"{head}.weight") if key in state), None)
    if last is None or state[last].ndim < 1:
        raise InputError(f"{weights} does not fit timm:{name}: it lacks {head}.bias. Name the model that it is of.")
    try:
        model = timm.create_model(name, pretrained=False, num_classes=len(state[last]))
    except Exception as error:  # timm's own checks of a tag or an option
        raise InputError(f"timm:{name} cannot be made ({error}).") from error
    fill(model, state, weights, f"timm:{name}")
    return model


def _resized(model: nn.Module, about: dict[str, Any]) -> nn.Module:
    height, width = about["input_size"][1:]
    mode = "bicubic" if about["interpolation"] == "bicubic" else "bilinear"
    if about["crop_mode"] != "center" or about["crop_pct"] >= 1 or height != width:
        return Resized(model, (height, width), mode=mode)
    return Resized(model, int(height / about["crop_pct"]), (height, width), mode)
