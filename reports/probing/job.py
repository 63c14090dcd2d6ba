"""How are classifiers probed, from what was asked for to the folder?"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from reports.probing import page, saved
from reports.probing.asked import Asked
from reports.probing.measured import PARTS, Probed
from reports.probing.saved import Probe
from reports.provenance import DataHash, versions
from reports.sources.dataset import Dataset

Show = Callable[[int, int, str], None]


def probe(
    models: Mapping[str, nn.Module],
    data: Dataset,
    asked: Asked,
    out: Path,
    *,
    examples: int = 200,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    show: Show | None = None,
    configuration: dict[str, Any] | None = None,
) -> Probe:
    """Probe models on the first examples of a data set, write a folder, and give what it holds.

    Only examples that a model gets right are probed. show: called with (done, of how many, what is being done).
    Raises InputError where the input cannot be used; nothing is written then.
    """
    saved.refuse_to_harm(out, overwrite)
    batch = next(data.batches(examples, min(max(examples, 1), len(data))))
    seen = DataHash()
    seen.add(batch)
    steps = _Steps(show, len(models) * len(PARTS))
    done = [Probed(name, model.to(device), batch, asked, steps.next) for name, model in models.items()]
    planes = [plane for one in done for plane in one.planes]
    about = {
        "configuration": {
            "threat": asked.threat, "attack": asked.attack, "directions": asked.draws, "side": asked.side,
            "walk": asked.walk, "seed": asked.seed, "examples": examples, "data": data.name, "device": str(device),
            **(configuration or {}),
        },
        "data": {
            "name": data.name, "n": len(batch.x), "shape": list(data.shape), "classes": list(data.classes),
            "sha256": seen.hexdigest(),
        },
        "versions": versions(),
        "models": {one.name: one.about for one in done},
        "planes": [told for told, _ in planes],
    }  # fmt: skip
    pictures = {f"plane{k}_{name}": array for k, (_, arrays) in enumerate(planes) for name, array in arrays.items()}
    for k, one in enumerate(done):
        pictures |= {f"walk{k}_{name}": array for name, array in one.looks.items()}
    tables = {name: pd.concat([getattr(one, name) for one in done], ignore_index=True) for name in saved.TABLES}
    found = Probe(out, about, **tables, pictures=pictures)
    saved.write(found, page.page(found), overwrite=overwrite)
    return Probe.load(out)


class _Steps:
    """Tells how many of the parts are done."""

    def __init__(self, show: Show | None, total: int):
        self.show, self.total, self.done = show, total, 0

    def next(self, what: str) -> None:
        if self.show:
            self.show(self.done, self.total, what)
        self.done += 1
