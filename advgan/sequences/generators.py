"""Which generator? A new one by name, or one that a run has left in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attacks.errors import InputError, unknown

from ..checkpoint import load_into, unpack
from ..run import GENERATOR
from ..samples import stream
from .lstm import Lstm
from .memory import Memory
from .model import Model
from .sampling import START

KINDS: dict[str, type[Model]] = {"lstm": Lstm, "memory": Memory}
DEVIATION = 0.1  # of an LSTM's first weights


def new_generator(seed: int, vocabulary: int, embedding: int = 32, hidden: int = 32, kind: str = "lstm") -> Model:
    """Untrained, its weights small. hidden: of an LSTM's units, or of the one slot of a memory with two heads."""
    if kind not in KINDS:
        raise unknown("generator", kind, KINDS)
    if kind == "memory":
        return Memory.drawn(stream(seed, START), vocabulary, embedding, width=hidden)
    return Lstm.drawn(stream(seed, START), DEVIATION, vocabulary, embedding, hidden)


def load(folder: Path | str) -> Model:
    """The generator of a run's folder, frozen. Raises InputError where there is none, or another kind of run's."""
    path = Path(folder) / GENERATOR
    tensors, about = unpack(path)
    model = of(about["config"], path)
    load_into(model, tensors, path)
    return model.eval().requires_grad_(False)


def of(config: Mapping[str, Any], path: Path) -> Model:
    """Untrained, of the shapes that a run's configuration names."""
    if "model" not in config:
        raise InputError(f"{path} is not a generator of sequences.")
    shapes = dict(config["model"])
    kind = shapes.pop("kind")
    if kind not in KINDS:
        raise unknown("generator", kind, KINDS)
    return KINDS[kind](**shapes)
