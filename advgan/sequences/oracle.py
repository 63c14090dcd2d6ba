"""The truth to be learnt: an LSTM whose weights are known, and with them the likelihood of every sequence."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from attacks.errors import InputError

from .lstm import Lstm

GATE_LETTERS = "ifoc"  # in the order of `Lstm`


def load(path: Path | str) -> Lstm:
    """The oracle of SeqGAN (arXiv 1609.05473), from an .npz file of arrays.

    embedding [V, e]; W_g [e, h], U_g [h, h] and b_g [h] of the gates g = i, f, o, c; W_out [h, V], b_out [V]. It starts
    from token 0. Raises InputError for a file that is missing, or does not hold these as finite numbers.
    """
    arrays = _read(Path(path))
    vocabulary, embedding = _shape(path, arrays, "embedding", 2)
    hidden = _shape(path, arrays, "b_i", 1)[0]
    wanted = {"W_out": (hidden, vocabulary), "b_out": (vocabulary,)}
    for g in GATE_LETTERS:
        wanted |= {f"W_{g}": (embedding, hidden), f"U_{g}": (hidden, hidden), f"b_{g}": (hidden,)}
    for name, shape in wanted.items():
        if _shape(path, arrays, name, len(shape)) != shape:
            raise InputError(
                f"{path}: {name} is {list(arrays[name].shape)}, and with an embedding of {[vocabulary, embedding]} "
                f"and {hidden} hidden units it must be {list(shape)}."
            )
    joined = {
        name: np.concatenate([arrays[f"{letter}_{g}"] for g in GATE_LETTERS], axis=-1)
        for name, letter in (("inputs", "W"), ("recurrent", "U"), ("bias", "b"))
    }
    joined |= {"embedding": arrays["embedding"], "out": arrays["W_out"], "out_bias": arrays["b_out"]}
    model = Lstm(vocabulary, embedding, hidden)
    model.load_state_dict({name: torch.from_numpy(np.float32(array)) for name, array in joined.items()})
    return model.eval().requires_grad_(False)


def drawn(seed: int, vocabulary: int = 5000, embedding: int = 32, hidden: int = 32) -> Lstm:
    """An oracle like SeqGAN's, every weight from N(0, 1)."""
    return Lstm.drawn(seed, 1.0, vocabulary, embedding, hidden).eval().requires_grad_(False)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, TypeError, BadZipFile) as error:
        raise InputError(f"{path} is not an .npz file of plain arrays ({error}).") from error


def _shape(path: Path | str, arrays: dict[str, np.ndarray], name: str, dimensions: int) -> tuple[int, ...]:
    """Of the array of that name, which must be there, finite and of so many dimensions."""
    if name not in arrays:
        raise InputError(f"{path} holds no {name}. It has: {', '.join(arrays) or 'nothing'}.")
    array = arrays[name]
    if array.ndim != dimensions or not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(
            f"{path}: {name} is {list(array.shape)} {array.dtype}, "
            f"and must be finite floats in {dimensions} dimension{'s' if dimensions > 1 else ''}."
        )
    return array.shape
