"""How are torchvision's classifiers made, with its weights or with one's own?"""

from difflib import get_close_matches
from pathlib import Path

import torch
from torch import nn

from attacks.errors import InputError, unknown
from attacks.models import Normalized
from reports.sources.weights import fill, read_weights

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation per channel


def load(spec: str, weights: Path | None) -> tuple[str, nn.Module]:
    """`torchvision:NAME`, the normalisation that belongs to it folded in."""
    name = spec.partition(":")[2]
    return name, _torchvision(name, weights)


def _torchvision(name: str, weights: Path | None) -> nn.Module:
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise unknown("torchvision model", name, get_close_matches(name, names, n=8, cutoff=0.3) or names)
    if weights is None:
        return _with_default_weights(name)
    state = read_weights(weights)
    with torch.device("meta"):
        last, parameter = list(models.get_model(name, weights=None).named_parameters())[-1]
    if last not in state:
        raise InputError(f"{weights} does not fit torchvision:{name}: it lacks {last}. Name the model that it is of.")
    with torch.random.fork_rng():
        model = models.get_model(name, weights=None, num_classes=len(state[last]) if parameter.ndim else None)
    fill(model, state, weights, f"torchvision:{name}")
    return Normalized(model, *IMAGENET)


def _with_default_weights(name: str) -> nn.Module:
    from torchvision import models

    chosen = models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    try:
        model = models.get_model(name, weights=chosen)
    except Exception as error:  # no network, a full disk, a damaged file in the cache
        raise InputError(
            f"The weights of torchvision:{name} could not be fetched ({error}). Where there is a network, download "
            f"{chosen.url}, and name the file with --weights."
        ) from error
    transforms = chosen.transforms()
    return Normalized(model, transforms.mean, transforms.std)
