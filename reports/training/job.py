"""How is a generator of samples trained, from what was asked for to the page?"""

from pathlib import Path
from typing import Any

from advgan.fit import fit
from reports.devices import device_named
from reports.provenance import versions
from reports.training import page, saved
from reports.training.asked import Asked
from reports.training.folder import Progress, Show, carried_out, refuse_to_harm
from reports.training.saved import SavedRun
from reports.training.subject import subject_of


def train(
    named: dict[str, Any],
    recipe: dict[str, Any],
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    every: int | None = None,
    show: Show | None = None,
) -> SavedRun:
    """Trains, measures and writes the folder with its page. named, recipe: options, None where they were not named.

    Raises InputError for what cannot be done, and KeyboardInterrupt where the run was stopped: what it came to is then
    saved, the page too.
    """
    refuse_to_harm(folder, _Sampling.command, resume)
    place = device_named(device)
    asked = (_asked_before(folder) if resume else Asked()).but(named, recipe)
    return carried_out(_Sampling(folder, asked, resume, str(place), every), folder, show)


class _Sampling:
    command = "advgan train gan"

    def __init__(self, folder: Path, asked: Asked, resume: bool, device: str, every: int | None):
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
            device=self.device,
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


def _asked_before(folder: Path) -> Asked:
    return Asked.of(saved.read_json(folder, saved.ABOUT).get("asked", {}))
