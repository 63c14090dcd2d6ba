"""Maximum likelihood: the generator that games on tokens start from, and that they have to beat."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..samples import Order
from ..train import descend
from .generators import new_generator
from .loop import digest
from .model import check_tokens


@dataclass(frozen=True)
class Recipe:
    """The defaults are SeqGAN's (arXiv 1609.05473) as in its published code."""

    epochs: int = 120
    batch: int = 64
    lr: float = 1e-2
    clip: float = 5.0  # the longest gradient
    generator: str = "lstm"  # or "memory"
    embedding: int = 32
    hidden: int = 32
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch", "embedding", "hidden"):
            if getattr(self, name) < 1:
                raise InputError(f"A recipe with {name} = {getattr(self, name)}. It takes 1 or more.")


class Likelihood:
    """A `loop.Method`: each step one batch of data [N, T], each epoch all of them, shuffled anew."""

    def __init__(self, recipe: Recipe, data: Tensor, vocabulary: int):
        check_tokens(data, vocabulary)
        self.recipe, self.data, self.order = recipe, data, Order(recipe.seed, len(data))
        self.steps = max(1, recipe.epochs * len(data) // recipe.batch)
        self.generator = new_generator(recipe.seed, vocabulary, recipe.embedding, recipe.hidden, recipe.generator).to(
            data.device
        )
        self.opt = torch.optim.Adam(self.generator.parameters(), recipe.lr, fused=True)
        self.nets: dict[str, nn.Module] = {"generator": self.generator}
        self.opts: dict[str, torch.optim.Optimizer] = {"generator_opt": self.opt}
        self.config: dict[str, Any] = {"method": "likelihood", **asdict(recipe), "model": self.generator.about()}
        self.config["data"] = digest(data)

    def advance(self, step: int) -> dict[str, Tensor]:
        ids = torch.arange(step * self.recipe.batch, (step + 1) * self.recipe.batch)
        batch = self.data[self.order.at(ids).to(self.data.device)]
        loss = self.generator.weighted_nll(batch, torch.full(batch.shape, 1 / batch.numel(), device=batch.device))
        descend(self.opt, loss, longest=self.recipe.clip)
        return {"nll": loss.detach()}
