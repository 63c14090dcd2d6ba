"""How the two classifiers were trained: `python -m reports.zoo.train` writes their weights again.

Both: AdamW with a cosine schedule, gradients cut at norm 1, and in the end the mean of the weights. The standard one
sees each digit moved by up to half a pixel. The robust one learns from each digit twice: as it is, and as PGD leaves
it, under L-inf and L2 threats by turns (adversarial training, arXiv 1706.06083).
The same seed on the same machine and versions gives the same bytes; other ones may round differently.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.progress import track
from safetensors.torch import save
from torch import Tensor, nn

import attacks
from attacks.loop import Search
from attacks.rows import Rows

from .digits import training
from .network import FOLDER, network


@dataclass(frozen=True)
class Recipe:
    epochs: int
    threats: tuple[tuple[str, float], ...] = ()  # (norm, eps), by turns from batch to batch; none: clean training
    pgd_steps: int = 10
    pgd_share: float = 0.25  # of eps, each step
    clean_share: float = 0.3  # of the loss, where there are threats
    warm_up: float = 10  # epochs until eps is reached
    shift: float = 0.0  # pixels that a digit is moved at most, up or down and sideways
    batch: int = 64
    learning_rate: float = 4e-3
    averaged: float = 0.99  # what the mean of the weights keeps at each step
    seed: int = 0


RECIPES = {
    "digits_standard": Recipe(epochs=80, shift=0.5),
    "digits_robust": Recipe(epochs=150, threats=(("linf", 0.2), ("l2", 1.0))),
}


def fit(recipe: Recipe, x: Tensor, y: Tensor, label: str = "Training") -> nn.Module:
    """A network trained on x [B, 1, 8, 8] and y [B], in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = network()
    mean = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(recipe.seed)
    each = steps_per_epoch(recipe, len(x))
    last = recipe.epochs * each
    for step, ids in enumerate(track(batches(recipe, len(x), generator), label, total=last)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * cosine(step, last)
        moved = shifted(x[ids], recipe.shift, generator) if recipe.shift else x[ids]
        optimizer.zero_grad()
        loss(recipe, model, moved, y[ids], ids, step, step / each).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        keep = min(recipe.averaged, (1 + step) / (10 + step))
        for name, weight in model.state_dict().items():
            mean[name].lerp_(weight, 1 - keep)
    model.load_state_dict(mean)
    return model.eval()


def loss(recipe: Recipe, model: nn.Module, x: Tensor, y: Tensor, ids: Tensor, step: int, epoch: float) -> Tensor:
    clean = F.cross_entropy(model(x), y)
    if not recipe.threats:
        return clean
    norm, eps = recipe.threats[step % len(recipe.threats)]
    threat = attacks.ThreatModel.parse(f"{norm}:{eps * min(1.0, epoch / recipe.warm_up)}")
    x_adv = worst(attacks.pgd(recipe.pgd_steps, recipe.pgd_share), model, x, y, threat, seed=step, ids=ids)
    return recipe.clean_share * clean + (1 - recipe.clean_share) * F.cross_entropy(model(x_adv), y)


def worst(
    attack: attacks.Attack, model: nn.Module, x: Tensor, y: Tensor, threat: attacks.ThreatModel, seed: int, ids: Tensor
) -> Tensor:
    """[B, ...]: where the attack ends, fooled or not; where the clean input is wrong already, that."""
    arrived = Arrived(attack, x.clone())
    attacks.run(arrived, model, x, y, threat, seed=seed, ids=ids, until="smallest")
    return arrived.at


@dataclass(frozen=True)
class Arrived:
    """An attack that also writes down where it ends: `run` gives back x itself for a row that is not fooled."""

    attack: attacks.Attack
    at: Tensor  # [B, ...], written to

    def search(self, rows: Rows) -> Search:
        yield from self.attack.search(rows)
        self.at[rows.index] = rows.x_adv


def steps_per_epoch(recipe: Recipe, examples: int) -> int:
    return max(1, examples // recipe.batch)


def batches(recipe: Recipe, examples: int, generator: torch.Generator) -> Iterator[Tensor]:
    """[b] int64 places, `epochs` times round in a new order; what does not fill a batch waits for another epoch."""
    for _ in range(recipe.epochs):
        order = torch.randperm(examples, generator=generator)
        yield from order.split(recipe.batch)[: steps_per_epoch(recipe, examples)]


def shifted(x: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Each image of x [b, 1, 8, 8] moved by up to `most` pixels, between pixels too; what comes in is empty."""
    affine = torch.eye(2, 3).repeat(len(x), 1, 1)
    affine[:, :, 2] = (torch.rand(len(x), 2, generator=generator) * 2 - 1) * most * 2 / x.shape[-1]
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp(0, 1)


def cosine(step: int, last: int) -> float:
    """Up to 1 within a fiftieth of the steps, then down to 0 along half a cosine."""
    return min(1.0, (step + 1) / (0.02 * last)) * (1 + math.cos(math.pi * step / last)) / 2


def write(model: nn.Module, path: Path) -> None:
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(save(model.state_dict()))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the two .safetensors files.")] = FOLDER,
    seed: Annotated[int, typer.Option(help="Of the first weights and of the order of the digits.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipes' own.")] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Train on the first so many only.")] = None,
) -> None:
    """Train both digits classifiers and write their weights."""
    torch.set_num_threads(1)  # sums are then always taken in the same order
    x, y = (part[:examples] for part in training())
    out.mkdir(parents=True, exist_ok=True)
    for name, recipe in RECIPES.items():
        recipe = replace(recipe, seed=seed, epochs=epochs or recipe.epochs)
        write(fit(recipe, x, y, name), out / f"{name}.safetensors")


if __name__ == "__main__":
    typer.run(main)
