"""How do the commands name models and data, and what do they say of how these were read?"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from reports.sources.forms import DATA, MODELS, texts
from reports.terminal import note

if TYPE_CHECKING:
    from torch import nn

MODEL = f"One of {'; '.join(texts(MODELS))}. FUNCTION takes no argument and returns the classifier."
DATASET = f"One of {'; '.join(texts(DATA))}."


def announce(models: "Mapping[str, nn.Module]", notes: Iterable[str] = ()) -> None:
    """On the standard error: what was put round each model, and what was taken for granted of the data."""
    from reports.sources.told import told

    for name, model in models.items():
        for sentence in told(model):
            note(f"{name}: {sentence}")
    for sentence in notes:
        note(sentence)
