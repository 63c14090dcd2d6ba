"""How is a perturber trained, from what was asked for to the page?"""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from advgan.checkpoint import write
from advgan.networks.perturber import FEATURES
from advgan.perturb import Perturber, train_perturber
from advgan.samples import Samples
from attacks.passes.layers import heard
from reports.generated import TRAINED_ON
from reports.perturbing import page
from reports.perturbing.asked import Asked
from reports.perturbing.examined import examined
from reports.perturbing.victims import victims
from reports.provenance import row_digests, state_hash, versions
from reports.sources.dataset import Batch
from reports.sources.told import told
from reports.training import data, saved
from reports.training.folder import Progress
from reports.training.saved import SavedRun


class Perturbing:
    asked_of: ClassVar = Asked
    command: ClassVar = "advgan train perturber"

    def __init__(self, folder: Path, asked: Asked, resume: bool, device: torch.device, every: int | None):
        self.folder, self.asked, self.resume, self.device, self.every = folder, asked, resume, device, every
        root = None if asked.data_root is None else Path(asked.data_root)
        self.parts = data.parted(asked.data, image_size=asked.image_size, root=root)
        self.victims = victims(asked, self.parts.training, self.parts.classes, device)
        hashes = ", ".join(f"{name} {state_hash(model)[:16]}" for name, model in self.victims.fooled.items())
        self.recipe = asked.make_recipe(hashes, self.victims.classes)
        if self.parts.training.x.ndim == 2 and "network" not in asked.recipe:
            self.recipe = replace(self.recipe, network="mlp")
        self._check_layer()
        self.results: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        return self.recipe.steps

    def go(self, progress: Progress) -> None:
        trained, held_out = (self._samples(part) for part in (self.parts.training, self.parts.held_out))
        run = train_perturber(
            list(self.victims.fooled.values()),
            trained,
            self.recipe,
            self.folder,
            held_out=held_out,
            others=self.victims.shown,
            resume=self.resume,
            every=self.every,
            progress=progress,
        )
        assert isinstance(run.generator, Perturber)
        batch = Batch(*(tensor.to(self.device) for tensor in self.parts.held_out))
        self.results, arrays = examined(run.generator, self.victims, batch)
        saved.write_pictures(self.folder, arrays)

    def _check_layer(self) -> None:
        """InputError where a layer is used that a model lacks; before anything is written."""
        models = list(self.victims.fooled.values())
        used = models if self.recipe.loss.startswith("feature") else models[: self.recipe.network == FEATURES]
        for model in used:
            heard(model, self.recipe.layer, lambda model=model: model(self.parts.training.x[:2].to(self.device)))

    def about(self) -> dict[str, Any]:
        self._note_examples()
        return {
            "command": self.asked.command(str(self.folder)),
            "asked": self.asked.described(),
            "data": data.about(self.asked.data, self.parts) | {"classes": self.victims.classes},
            "victims": {name: _described(model) for name, model in self.victims.fooled.items()},
            "shown": list(self.victims.shown),
            "results": self.results,
            "versions": versions(),
        }

    def page(self, run: SavedRun) -> str:
        return page.page(run)

    def _samples(self, part: Batch) -> Samples:
        return Samples(part.x, part.labels, len(self.parts.classes), f"{self.asked.data}; {self.parts.how}")

    def _note_examples(self) -> None:
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, digest=np.sort(row_digests(self.parts.training.x)))
        write(self.folder / TRAINED_ON, file.getvalue())


def _described(model: nn.Module) -> dict[str, Any]:
    parameters = sum(each.numel() for each in model.parameters())
    return {"sha256": state_hash(model), "parameters": parameters, "source": told(model)}
