"""What is a run about: what is learnt, how is it measured, and what is shown of it?"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from advgan.run import Run
from advgan.samples import Samples
from reports.training.asked import KNOWN, Asked
from reports.training.images import Images
from reports.training.known import known


class Subject(Protocol):
    @property
    def training(self) -> Samples: ...
    @property
    def conditional(self) -> bool: ...
    @property
    def about(self) -> dict[str, Any]:
        """Of the data; JSON-able."""
        ...

    @property
    def judge(self) -> str | None: ...
    @property
    def features(self) -> str | None:
        """The space in which samples and data are compared."""
        ...

    @property
    def every(self) -> int | None:
        """Steps between marks where the caller names none; None: as `fit` has it."""
        ...

    def measure(self, run: Run, critic: nn.Module) -> dict[str, float]:
        """Named values, as `measured.MEASURES` knows them, and "samples", of how many."""
        ...

    def pictures(self, run: Run) -> dict[str, np.ndarray]:
        """What the page shows of the finished run."""
        ...


def subject_of(asked: Asked) -> Subject:
    """InputError for data or a judge that cannot be used."""
    if asked.data in KNOWN:
        return known(asked)
    return Images.of(
        asked.data,
        conditional=asked.conditional,
        image_size=asked.image_size,
        root=_path(asked.data_root),
        judge=asked.judge,
        weights=_path(asked.weights),
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
