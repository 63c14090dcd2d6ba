"""How is a generator of samples trained, from what was asked for to the page?"""

from pathlib import Path
from typing import Any, ClassVar

import torch

from advgan.fit import fit
from reports.provenance import versions
from reports.training import page, saved
from reports.training.asked import Asked
from reports.training.folder import Progress
from reports.training.saved import SavedRun
from reports.training.subject import subject_of


class Sampling:
    asked_of: ClassVar = Asked
    command: ClassVar = "advgan train gan"

    def __init__(self, folder: Path, asked: Asked, resume: bool, device: torch.device, every: int | None):
        self.folder, self.asked, self.resume, self.device = folder, asked, resume, device
        self.subject = subject_of(asked)
        self.recipe = asked.make_recipe(self.subject.conditional)
        self.every = every or self.subject.every

    @property
    def steps(self) -> int:
        return self.recipe.steps

    def go(self, progress: Progress) -> None:
        run = fit(
            self.recipe,
            self.subject.training,
            self.folder,
            resume=self.resume,
            measure=self.subject.measure,
            every=self.every,
            progress=progress,
            device=str(self.device),
        )
        saved.write_pictures(self.folder, self.subject.pictures(run))

    def about(self) -> dict[str, Any]:
        return {
            "command": self.asked.command(str(self.folder)),
            "asked": self.asked.described(),
            "data": self.subject.about,
            "judge": self.subject.judge,
            "features": self.subject.features,
            "versions": versions(),
        }

    def page(self, run: SavedRun) -> str:
        return page.page(run)
