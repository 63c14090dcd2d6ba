"""What is a run of sequences about: what is learnt, and by which measures is it judged?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from advgan.sequences.model import Model
from reports.sequencing.asked import Asked
from reports.sequencing.lines import Lines
from reports.sequencing.truth import Truth

TEMPERATURES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5)


class Subject(Protocol):
    @property
    def training(self) -> Tensor:
        """[N, T] int64."""
        ...

    @property
    def vocabulary(self) -> int: ...
    @property
    def absent(self) -> tuple[int, ...]:
        """Tokens that the data cannot hold, so that no generator of them may write one."""
        ...

    @property
    def about(self) -> dict[str, Any]:
        """Of the data; JSON-able."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """What decides the result beside the tokens; JSON-able."""
        ...

    def keep(self, folder: Path) -> None:
        """Writes what it takes to read the generator's tokens."""
        ...

    def measure(self, generator: Model) -> dict[str, float]:
        """At a mark, of a few sequences."""
        ...

    def examine(self, generator: Model, critic: nn.Module | None) -> dict[str, float]:
        """At the end, of many; "samples", of how many."""
        ...

    def shown(self, tokens: Tensor) -> dict[str, np.ndarray]:
        """What the page says of sequences [n, T], beside themselves."""
        ...


def subject_of(asked: Asked, device: torch.device) -> Subject:
    """InputError for data that cannot be used."""
    if asked.is_text:
        return Lines.of(
            Path(asked.data), asked.vocabulary, asked.vocabulary_size, asked.length, bool(asked.cut), device
        )
    return Truth.of(asked.data, asked.length, asked.sequences, device)


def swept(measure: Callable[[Model], dict[str, float]], generator: Model) -> list[dict[str, float]]:
    """The measures at several temperatures, each with its "tau"."""
    return [{"tau": tau} | measure(generator.at_temperature(tau)) for tau in TEMPERATURES]
