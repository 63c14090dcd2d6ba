"""What does a game on tokens begin with? A generator that maximum likelihood has trained, here or in another run."""

import hashlib
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from .likelihood import Likelihood, Recipe
from .loop import digest
from .model import Model, check_tokens


class Beginning:
    """epochs: of maximum likelihood; none where there is a trained generator, `start`, which stays as it is."""

    def __init__(self, recipe: Recipe, data: Tensor, vocabulary: int, start: Model | None):
        check_tokens(data, vocabulary)
        if start is not None and start.vocabulary != vocabulary:
            raise InputError(f"A generator of {start.vocabulary} tokens to begin with, and the data have {vocabulary}.")
        self.recipe, self.count, self.start = recipe, len(data), start
        self.likelihood = Likelihood(recipe, data, vocabulary) if start is None else None
        self.epochs = recipe.epochs if start is None else 0
        if self.likelihood is not None:
            self.generator = self.likelihood.generator
            self.opts: dict[str, torch.optim.Optimizer] = {"likelihood_opt": self.likelihood.opt}
        elif start is not None:
            self.generator = deepcopy(start).to(data.device).train().requires_grad_(True)
            self.opts = {}
        self.config: dict[str, Any] = {**asdict(recipe), "model": self.generator.about(), "data": digest(data)}
        self.config["start"] = None if start is None else fingerprint(start)

    def epoch(self, number: int) -> dict[str, Tensor]:
        """Epoch number `number`, from 0. Returns the mean "nll" of its batches."""
        assert self.likelihood is not None
        first, end = (each * self.count // self.recipe.batch for each in (number, number + 1))
        nll = [self.likelihood.advance(step)["nll"] for step in range(first, end)]
        return {"nll": torch.stack(nll).mean()} if nll else {}


def fingerprint(net: nn.Module) -> str:
    """Tells other weights apart."""
    state = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        state.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]
