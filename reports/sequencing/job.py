"""How is a generator of sequences trained, from what was asked for to the page?"""

import io
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from advgan.checkpoint import write
from advgan.sequences import generators
from advgan.sequences.loop import train as trained
from advgan.sequences.model import Model
from advgan.sequences.sampling import sample
from advgan.sequences.text import Vocabulary
from attacks.errors import InputError
from reports.provenance import versions
from reports.sequencing import page, told
from reports.sequencing.asked import Asked, method_of
from reports.sequencing.lines import VOCABULARY, Lines
from reports.sequencing.subject import subject_of, swept
from reports.training import saved
from reports.training.folder import Progress
from reports.training.saved import SavedRun

MOMENTS, SHOWN = 12, 24  # sequences at a mark, and of the finished generator


class Sequencing:
    asked_of: ClassVar = Asked
    command: ClassVar = "advgan train sequence"

    def __init__(self, folder: Path, asked: Asked, resume: bool, device: torch.device, every: int | None):
        self.folder, self.asked, self.resume, self.every = folder, asked, resume, every
        self.subject = subject_of(asked, device)
        recipe = asked.make_recipe(len(self.subject.training))
        self.method = method_of(recipe, self.subject.training, self.subject.vocabulary, self._start())
        for model in (net for net in self.method.nets.values() if isinstance(net, Model)):
            for token in self.subject.absent:
                model.rule_out(token)
        self.method.config = {
            "what": "sequence",
            "steps": self.method.steps,
            "length": self.subject.training.shape[1],
            **self.method.config,
            **self.subject.config,
        }
        self.results: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        return self.method.steps

    def go(self, progress: Progress) -> None:
        def watched(step: int, row: dict[str, float]) -> None:
            progress(step, row)
            if row["step"] == step:
                self._keep(step)

        rows = trained(
            self.method,
            self.folder,
            resume=self.resume,
            every=self.every,
            also=[step for step in [told.game_from(self.method.config)] if step],
            measure=self._measure,
            progress=watched,
        )
        generator, critic = self.generator, self.method.nets.get("critic")
        measures = _finite(self.subject.examine(generator, critic))
        if self.asked.method == "likelihood":
            self.results = {"sweep": [_finite(row) for row in swept(self.subject.measure, generator)]}
        run = saved.read_json(self.folder, saved.RUN)
        warned = told.warnings(run["config"], rows, measures)
        saved.write_json(self.folder, saved.RUN, {**run, "measures": measures, "warnings": warned})
        tokens = self._written(SHOWN)
        saved.write_pictures(self.folder, {"x": tokens.cpu().numpy(), **self.subject.shown(tokens)})

    def about(self) -> dict[str, Any]:
        return {
            "command": self.asked.command(str(self.folder)),
            "asked": self.asked.described(),
            "data": self.subject.about,
            "results": self.results,
            "versions": versions(),
        }

    def page(self, run: SavedRun) -> str:
        return page.page(run)

    @property
    def generator(self) -> Model:
        generator = self.method.nets["generator"]
        assert isinstance(generator, Model)
        return generator

    def _measure(self, generator: Model) -> dict[str, float]:
        return _finite(self.subject.measure(generator))

    def _keep(self, step: int) -> None:
        """What it writes by the same random numbers at each mark, and what it takes to read it."""
        if step == 0 or self.resume:
            self.subject.keep(self.folder)
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, x=self._written(MOMENTS).cpu().numpy())
        write(self.folder / saved.SAMPLES / f"step-{step}.npz", file.getvalue())

    def _written(self, count: int) -> torch.Tensor:
        return sample(self.generator, count, self.subject.training.shape[1], seed=0)

    def _start(self) -> Model | None:
        """InputError for a run that is no generator of sequences, or of other tokens."""
        if self.asked.start is None:
            return None
        folder = Path(self.asked.start)
        model = generators.load(folder)
        if isinstance(self.subject, Lines) and Vocabulary.load(folder / VOCABULARY) != self.subject.words:
            raise InputError(
                f"--start {folder} knows other tokens than {self.asked.data} has. Train it on the same file."
            )
        return model


def _finite(measures: dict[str, float]) -> dict[str, float]:
    """JSON knows no NaN and no infinity."""
    return {name: value for name, value in measures.items() if math.isfinite(value)}
