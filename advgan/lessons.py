"""What has a victim answered so far, and what has a copy learnt of it?"""

import copy as copies
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from attacks.api import check_inputs, device_of
from attacks.errors import InputError
from attacks.victim import Access, Victim, borrowed, check_logits

from .checkpoint import FORMAT, pack, put_back, refuse_differences, tensors_of, unpack, write
from .networks.classifier import classifier
from .samples import Order
from .train import descend

AT_ONCE = 256  # rows that the victim is shown in one pass


@dataclass(frozen=True)
class Distilling:
    """How a copy is trained: Adam on the cross entropy to the victim's answers, its rate falling to 0 each time."""

    epochs: int = 20  # over the answers to the data
    again: int = 1  # epochs over all answers so far, after each round of a dynamic distillation
    batch: int = 64
    lr: float = 1e-3
    width: int = 16  # of the copy's own architecture, `networks.classifier`
    seed: int = 0

    def __post_init__(self):
        if min(self.epochs, self.again, self.batch, self.width) < 1 or not self.lr > 0:
            raise InputError(f"{self}: at least one epoch, a row a batch, a width of 1 and a rate above 0 are needed.")


USUAL = Distilling()


class Lessons:
    """All that the victim has answered so far, and the copy that learns it."""

    def __init__(
        self,
        victim: Victim,
        x: Tensor,
        distilling: Distilling,
        copy: nn.Module | None = None,
        budget: int | None = None,
    ):
        _check(victim, x, copy)
        self.victim, self.distilling, self.budget = victim, distilling, budget
        self.device = device_of(victim.model, x.device)
        self.x = x.to(self.device)
        self.copy = copies.deepcopy(copy)
        self.opt: torch.optim.Optimizer | None = None
        self.queries = torch.zeros(len(x), dtype=torch.int64)
        self.shown: list[Tensor] = []  # [n, ...] of each time asked
        self.answers: list[Tensor] = []  # [n, K] likewise
        self.steps = 0

    def ask(self, x: Tensor, rows: Tensor) -> None:
        """The victim's answers to x [n, ...], made of these rows [n] int64 of the data, become lessons."""
        self._check_budget(len(x))
        x, answers = x.to(self.device), []
        with borrowed(self.victim.model, self.distilling.seed):
            for part, places in zip(x.split(AT_ONCE), rows.split(AT_ONCE), strict=True):
                logits = self.victim.logits(part)
                self.queries.index_add_(0, places, torch.ones_like(places))
                check_logits(logits)
                self._begin(logits.shape[1])
                answers.append(logits.float())
        logits = torch.cat(answers)
        named = logits.argmax(1)
        if not self.answers and bool((named == named[0]).all()):
            raise InputError(
                f"The victim names class {int(named[0])} for all {len(x)} rows, from which nothing can be learnt. "
                "Give data of several classes, within the bounds that the victim is used with."
            )
        scores = self.victim.access >= Access.SCORES
        self.shown.append(x)
        self.answers.append(logits.softmax(1) if scores else one_hot(named, logits.shape[1]).float())

    def learn(self, epochs: int) -> None:
        """The copy goes over all lessons so many times."""
        assert self.copy is not None
        assert self.opt is not None
        x, answers, distilling = torch.cat(self.shown), torch.cat(self.answers), self.distilling
        batch = min(distilling.batch, len(x))
        order, steps = Order(distilling.seed, len(x)), epochs * math.ceil(len(x) / batch)
        with torch.enable_grad(), torch.random.fork_rng():
            torch.manual_seed(distilling.seed + self.steps)
            self.copy.train()
            for step in range(steps):
                for group in self.opt.param_groups:
                    group["lr"] = distilling.lr * (1 + math.cos(math.pi * step / steps)) / 2
                ids = torch.arange((self.steps + step) * batch, (self.steps + step + 1) * batch)
                places = order.at(ids).to(x.device)
                descend(self.opt, cross_entropy(self.copy(x[places]), answers[places]))
            self.copy.eval()
        self.steps += steps

    def agreement(self) -> float:
        """The share of all answers in which the copy names the class that the victim named."""
        assert self.copy is not None
        right = []
        with torch.no_grad():
            for x, answers in zip(self.shown, self.answers, strict=True):
                parts = zip(x.split(AT_ONCE), answers.argmax(1).split(AT_ONCE), strict=True)
                right += [self.copy(part).argmax(1) == named for part, named in parts]
        return float(torch.cat(right).double().mean())

    def keep(self, path: Path, about: dict[str, Any]) -> None:
        """Writes what was asked last, and all that the copy is; of the data themselves, the answers alone."""
        assert self.copy is not None
        assert self.opt is not None
        tensors = tensors_of({"copy": self.copy}, {"opt": self.opt})
        tensors |= {"answers": self.answers[-1], "queries": self.queries}
        if len(self.shown) > 1:
            tensors["shown"] = self.shown[-1]
        write(path, pack(tensors, {"format": FORMAT, "config": self._config, "steps": self.steps, "about": about}))

    def recall(self, path: Path) -> dict[str, Any]:
        """Takes up the lesson after those that are known, as `keep` wrote it; the victim is not asked. Returns `about`.

        Raises InputError for a file that is missing, damaged, or of a distillation with other options.
        """
        tensors, told = unpack(path)
        refuse_differences(told["config"], self._config, path.parent)
        answers = tensors["answers"].to(self.device)
        self._begin(answers.shape[1])
        assert self.copy is not None
        assert self.opt is not None
        put_back({"copy": self.copy}, {"opt": self.opt}, tensors, path)
        self.copy.eval()
        self.shown.append(tensors["shown"].to(self.device) if "shown" in tensors else self.x)
        self.answers.append(answers)
        self.queries, self.steps = tensors["queries"], told["steps"]
        return told["about"]

    @property
    def _config(self) -> dict[str, Any]:
        return asdict(self.distilling) | {"budget": self.budget, "access": self.victim.access.name}

    def _begin(self, classes: int) -> None:
        """The first answer has told how many classes there are."""
        if self.opt is not None:
            return
        shape, options = tuple(self.x.shape[1:]), self.distilling
        copy = self.copy or classifier(shape, classes, width=options.width, seed=options.seed)
        self.copy = copy.to(self.device).requires_grad_()
        with borrowed(self.copy):
            logits = self.copy(self.x[:1])
        if logits.shape != (1, classes):
            raise InputError(f"The victim has {classes} classes; the copy gives {list(logits.shape)} for one row.")
        self.opt = torch.optim.Adam(self.copy.parameters(), options.lr)

    def _check_budget(self, more: int) -> None:
        asked = int(self.queries.sum())
        if self.budget is not None and asked + more > self.budget:
            raise InputError(
                f"{more} rows are to be shown to a victim that answers {self.budget} times, and has {asked} times: "
                "give fewer rows, or a larger budget."
            )


def _check(victim: Victim, x: Tensor, copy: nn.Module | None) -> None:
    if not isinstance(victim, Victim):
        raise InputError(
            f"The victim is {type(victim).__name__}; say what it reveals: attacks.Victim(model, Access.DECISION)."
        )
    check_inputs(x, None, None)
    if not bool(x.isfinite().all()):
        raise InputError("The data hold NaN or infinity; leave such rows out.")
    if copy is None and x.ndim not in (2, 4):
        raise InputError(
            f"The data are {list(x.shape)}, and the copy's own architectures are for [N, D] and [N, C, H, W]: "
            "give a `copy` that takes such rows."
        )
