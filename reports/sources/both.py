"""What do texts name together: models, and the data to audit them on?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from reports.sources import data, models
from reports.sources.dataset import Dataset


def load_both(
    specs: Sequence[str], weights: Path | None, spec: str, image_size: int | None, root: Path | None
) -> tuple[Mapping[str, nn.Module], Dataset]:
    """As `models.load_several` and `data.load` do; functools.partial of it makes them anew in another process."""
    named, _ = models.load_several(specs, weights=weights)
    return named, data.load(spec, image_size=image_size, root=root)
