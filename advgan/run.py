"""A run's folder: the generator to keep, what it was trained by, and how that went."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks import noise
from attacks.errors import InputError

from . import networks
from .checkpoint import FORMAT, load_into, pack, unpack, write, write_json
from .recipe import Recipe
from .samples import SAMPLING, stream

GENERATOR, RUN = "generator.safetensors", "run.json"
KEPT = ("step", "measures", "history", "warnings", "seconds")
AT_ONCE = 256  # samples per pass

Shape = tuple[int, ...]
Build = Callable[[Any, Shape, int | None], tuple[nn.Module, nn.Module | None]]  # recipe, ... -> (generator, critic)


def build(recipe: Recipe, shape: Shape, classes: int | None) -> tuple[nn.Module, nn.Module]:
    """The generator and critic that the recipe names."""
    return networks.build(
        recipe.network,
        shape,
        recipe.latent,
        classes,
        width=recipe.width,
        depth=recipe.depth,
        conditioning=recipe.conditioning,
        seed=recipe.seed,
    )


@dataclass(eq=False)
class Run:
    """What a run has come to, finished or not."""

    folder: Path
    recipe: Recipe
    generator: nn.Module  # the average, in eval mode
    shape: Shape  # of one sample
    classes: int | None
    config: dict[str, Any]  # the recipe's fields, and "data"
    step: int = 0
    measures: dict[str, float | None] = field(default_factory=dict)  # the newest; None: not finite
    history: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def sample(self, n: int, labels: Tensor | None = None, seed: int = 0) -> Tensor:
        """[n, ...] on the CPU: images within [0, 1], vectors as they are.

        labels: [n] int64; without them the classes in turn. Sample k depends on the seed, k and
        its label alone. Raises InputError for labels that do not fit.
        """
        labels = self._labels(n, labels)
        device = next(self.generator.parameters()).device
        parts = []
        with torch.no_grad():
            for ids in torch.arange(n, device=device).split(AT_ONCE):
                z = noise.normal(stream(seed, SAMPLING), ids, 0, (self.recipe.latent,))
                given = None if labels is None else labels.to(device)[ids]
                parts.append(self.generator(None, given, z).cpu())
        x = torch.cat(parts) if parts else torch.empty(0, *self.shape)
        return ((x + 1) / 2).clamp(0, 1) if len(self.shape) == 3 else x

    def save(self) -> None:
        """Writes the generator and run.json."""
        about = {"format": FORMAT, "config": self.config}
        write(self.folder / GENERATOR, pack(self.generator.state_dict(), about))
        self.save_json()

    def save_json(self) -> None:
        about = {name: getattr(self, name) for name in ("config", *KEPT)}
        write_json(self.folder / RUN, {"format": FORMAT, **about})

    @classmethod
    def load(cls, folder: Path | str, build: Build = build, kind: type[Recipe] = Recipe) -> "Run":
        """Raises InputError for a folder without a run, or whose files are damaged, of another format or kind."""
        folder = Path(folder)
        about = _read_json(folder / RUN)
        what = about["config"].get("what", Recipe.what)
        if what != kind.what:
            raise InputError(f"{folder} holds a run of another kind: {what}, and {kind.what} was asked for.")
        recipe, data = kind.of(about["config"]), about["config"]["data"]
        shape, classes = tuple(data["shape"]), data["classes"] if recipe.conditional else None
        generator = build(recipe, shape, classes)[0].eval().requires_grad_(False)
        load_into(generator, unpack(folder / GENERATOR)[0], folder / GENERATOR)
        kept = {name: about[name] for name in ("config", *KEPT)}
        return cls(folder, recipe, generator, shape, classes, **kept)

    def _labels(self, n: int, labels: Tensor | None) -> Tensor | None:
        if self.classes is None:
            if labels is not None:
                raise InputError("This generator was trained without classes, so it takes no labels.")
            return None
        if labels is None:
            return torch.arange(n) % self.classes
        if labels.shape != (n,) or labels.dtype != torch.int64:
            raise InputError(f"Labels are [{n}] int64, and these are {list(labels.shape)} {labels.dtype}.")
        if n and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise InputError(
                f"This generator knows the classes 0 to {self.classes - 1}, and the labels lie within "
                f"{int(labels.min())} and {int(labels.max())}."
            )
        return labels


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path.parent} is not a run: there is no {path.name}.")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): it is damaged.") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise InputError(f"{path} has format {found!r}, and this version reads {FORMAT}.")
    return about
