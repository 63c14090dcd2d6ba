"""The whole state of a run in one file: written so that it is there or not, read without running code.

A checkpoint is one safetensors file: the tensors by name, and one JSON text, {"format", "config", "progress"}, in its
header. Pickle has no place in it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from attacks.errors import InputError

from .train import Players

FORMAT = 1
FILE = "state.safetensors"
TOTALS = "totals"


def write(path: Path, content: bytes) -> None:
    """All of the content or none of it: what stood there before stays until the new file is safe on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def pack(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """A safetensors file with `about` as JSON in its header."""
    text = json.dumps(about, ensure_ascii=False)
    return save(
        {name: tensor.detach().contiguous().to("cpu", copy=True) for name, tensor in tensors.items()}, {"about": text}
    )


def unpack(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and `about` of a file written by `pack`. Raises InputError for whatever is not one of this format."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file of ours ({error}): cut short, or of another kind. "
            "Pickled files are not read. Take last_good/, or train anew."
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise InputError(
            f"{path} has format {found!r}, and this version reads {FORMAT}. "
            "Use the version that wrote it, or train anew."
        )
    return tensors, about


def save_checkpoint(
    folder: Path, players: Players, totals: Mapping[str, Tensor], config: dict[str, Any], progress: dict[str, Any]
) -> None:
    """totals: further tensors; progress: JSON-able. With the players they decide how the run goes on."""
    about = {"format": FORMAT, "config": config, "progress": progress}
    others = {f"{TOTALS}.{name}": value for name, value in totals.items()}
    write(folder / FILE, pack(state_of(players) | others, about))


def load_checkpoint(folder: Path, players: Players, config: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Puts the players where they were and returns the totals and the progress.

    Raises InputError for a file that is missing, damaged, of another format, configuration or network.
    """
    tensors, about = unpack(folder / FILE)
    refuse_differences(about["config"], config, folder)
    restore(players, tensors, folder / FILE)
    device = next(players.generator.parameters()).device
    return {name: value.to(device) for name, value in _under(tensors, TOTALS).items()}, about["progress"]


def refuse_differences(saved: Mapping[str, Any], asked: Mapping[str, Any], folder: Path) -> None:
    """Raises InputError with a line for each key that differs."""
    before, now = flat(saved), flat(asked)
    keys = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
    if keys:
        lines = [f"  {key}: {before.get(key, 'absent')!r} there, {now.get(key, 'absent')!r} asked" for key in keys]
        raise InputError(
            "\n".join([f"{folder} was written by another configuration:", *lines])
            + "\nResume with what stands there, or start a run in another folder."
        )


def flat(config: Mapping[str, Any], stem: str = "") -> dict[str, Any]:
    """{"lr": {"start": 1}} -> {"lr.start": 1}."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        result |= flat(value, f"{stem}{key}.") if isinstance(value, Mapping) else {f"{stem}{key}": value}
    return result


def state_of(players: Players) -> dict[str, Tensor]:
    """Every tensor that the players consist of, by name."""
    return tensors_of(players.nets, players.opts)


def restore(players: Players, tensors: Mapping[str, Tensor], path: Path) -> None:
    put_back(players.nets, players.opts, tensors, path)


def state_hash(model: nn.Module) -> str:
    """sha256 over the state dict: each entry's name, type, shape and bytes."""
    hashed = hashlib.sha256()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            hashed.update(f"{name} {value!r}\n".encode())
            continue
        hashed.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        hashed.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def tensors_of(nets: Mapping[str, nn.Module], opts: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every tensor of networks and optimisers, by name."""
    tensors: dict[str, Tensor] = {}
    for name, net in nets.items():
        tensors |= {f"{name}.{key}": value for key, value in net.state_dict().items()}
    for name, opt in opts.items():
        for index, entry in opt.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in entry.items()}
    return tensors


def put_back(
    nets: Mapping[str, nn.Module],
    opts: Mapping[str, torch.optim.Optimizer],
    tensors: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Makes them what they were when `tensors_of` was asked."""
    for name, net in nets.items():
        load_into(net, _under(tensors, name), path)
    for name, opt in opts.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, name).items():
            index, _, entry = key.partition(".")
            state.setdefault(int(index), {})[entry] = value
        opt.load_state_dict({"state": state, "param_groups": opt.state_dict()["param_groups"]})


def load_into(net: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises InputError where names or shapes are not those of the network."""
    try:
        net.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise InputError(f"{path} does not hold this network: {error}") from error


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
