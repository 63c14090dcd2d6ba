"""How are weights read from a file without running code, and put into a model that they must fit?"""

from pathlib import Path

import torch
from torch import Tensor, nn

from attacks.errors import InputError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # names under which training scripts keep the weights
NAMED = 3  # names given of those that do not fit

State = dict[str, Tensor]


def read_weights(path: Path) -> State:
    """The state dict in a file of safetensors or of torch.save; nothing pickled is run."""
    if not path.is_file():
        raise InputError(f"There is no file of weights {path}.")
    found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_saved(path)
    for name in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds {_kind(found)}; a state dict is needed: torch.save(model.state_dict(), FILE).")
    if all(name.startswith("module.") for name in found):  # saved from DataParallel
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def fill(model: nn.Module, state: State, path: Path, spec: str) -> None:
    """Load the state dict into the model; InputError that names what does not fit."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} is {list(state[name].shape)} in the file and {list(value.shape)} in the model"
        for name, value in wanted.items()
        if name in state and isinstance(value, Tensor) and state[name].shape != value.shape
    ]
    wrong = [*_some("missing", missing), *_some("unexpected", unexpected), *shapes[:NAMED]]
    if wrong:
        raise InputError(f"{path} does not fit {spec}: {'; '.join(wrong)}. Name the model that these weights are of.")
    model.load_state_dict(state)


def _some(what: str, names: list[str]) -> list[str]:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"{what} {', '.join(names[:NAMED])}{more}"] if names else []


def _read_safetensors(path: Path) -> State:
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except Exception as error:  # the format's own, and OSError
        raise InputError(f"{path} is not a whole safetensors file ({error}).") from error


def _read_saved(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch each raise their own
        if "Unsupported" in str(error):
            raise InputError(
                f"{path} holds pickled code, which is not run. Save the weights alone: "
                "torch.save(model.state_dict(), FILE), or safetensors."
            ) from error
        raise InputError(f"{path} is not a whole file of weights ({_first_line(error)}).") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _kind(found: object) -> str:
    if isinstance(found, dict):
        return f"a dict of {', '.join(map(str, list(found)[:NAMED])) or 'nothing'}"
    return type(found).__name__
