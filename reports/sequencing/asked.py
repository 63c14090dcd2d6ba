"""What may be asked of the training of a generator of sequences, what is usual, and what is typed to get it again?"""

import math
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from advgan.sequences import gumbel, likelihood, policy
from advgan.sequences.loop import Method
from advgan.sequences.model import Model
from attacks.errors import InputError, unknown
from reports.training.asked import Options, spelled

ORACLE = "oracle"
RECIPES: dict[str, type[likelihood.Recipe]] = {
    "likelihood": likelihood.Recipe,
    "seqgan": policy.Recipe,
    "gumbel": gumbel.Recipe,
}
GAMES = ("seqgan", "gumbel")
SHORT: dict[str, dict[str, Any]] = {  # of what is small; an oracle from a file has the papers' recipes
    "likelihood": {},
    "seqgan": {
        "lr": 3e-3,
        "critic_lr": 1e-3,
        "rounds": 60,
        "rollouts": 8,
        "baseline": True,
        "critic": "small",
        "critic_first": 10,
        "critic_sets": 1,
        "critic_epochs": 1,
        "critic_sequences": 1000,
    },
    "gumbel": {"rounds": 300},
}
STEPS = 3000  # of likelihood on text, about: a small text is read often, a large one seldom
MOST_EPOCHS = 20
RATES = ("lr", "critic_lr", "game_lr")
COUNTED = ("critic_first", "critic_sets")  # from 0 up; all other whole numbers from 1
ONLY_TEXT, ONLY_ORACLE = ("vocabulary", "vocabulary_size", "cut"), ("sequences",)


@dataclass(frozen=True)
class Asked(Options):
    """Of `advgan train sequence`. data: `oracle`, `oracle:FILE` or a file of text."""

    data: str = ORACLE
    method: str = "likelihood"
    vocabulary: str | None = None  # words or characters
    vocabulary_size: int | None = None
    length: int | None = None
    cut: bool | None = None
    sequences: int | None = None
    start: str | None = None  # the folder of a trained generator

    @property
    def is_text(self) -> bool:
        return self.data.partition(":")[0] != ORACLE

    def checked(self) -> "Asked":
        """InputError for options that the data or the method do not have, and for numbers that make no sense."""
        if self.method not in RECIPES:
            raise unknown("method", self.method, RECIPES)
        odd = [name for name in (ONLY_ORACLE if self.is_text else ONLY_TEXT) if getattr(self, name) is not None]
        if odd:
            whose = "an oracle's sequences" if self.is_text else "text"
            raise InputError(f"{_options(odd)} is for {whose}, and the data are {self.data}. Leave it out.")
        known = {field.name for field in fields(RECIPES[self.method])}
        odd = [name for name in self.recipe if name not in known]
        if odd:
            raise InputError(f"--method {self.method} has no {_options(odd)}. Leave it out, or take {_takers(odd[0])}.")
        if self.start is not None and self.method not in GAMES:
            raise InputError("--start is what a game begins with: --method seqgan or gumbel. Likelihood begins anew.")
        self._check_numbers()
        return self

    def _check_numbers(self) -> None:
        for name, value in self.recipe.items():
            if name in RATES and not 0 < value < math.inf:
                raise InputError(f"{_options([name])} is {value:g}; it is a finite number above 0, say 0.001.")
            least = int(name not in COUNTED)
            if type(value) is int and name != "seed" and value < least:
                raise InputError(f"{_options([name])} is {value}; it must be {least} or more.")
        for name in ("length", "sequences"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} is {value}; it must be 1 or more.")
        seed = self.recipe.get("seed", 0)
        if not 0 <= seed < 2**32:
            raise InputError(f"--seed is {seed}; it must be within 0 and {2**32 - 1}.")

    def make_recipe(self, count: int) -> likelihood.Recipe:
        """For so many sequences. InputError for options that no recipe has."""
        usual: dict[str, Any] = {} if self.data.startswith(f"{ORACLE}:") else dict(SHORT[self.method])
        if self.data == ORACLE:
            usual |= {"epochs": 12 if self.method == "seqgan" else 8}
        elif self.is_text:
            batch = self.recipe.get("batch", likelihood.Recipe.batch)
            usual |= {"epochs": max(1, min(MOST_EPOCHS, STEPS * batch // count)), "hidden": 64}
        if self.method == "seqgan":
            learnt = min(count, {**usual, **self.recipe}.get("critic_sequences") or count)
            usual["critic_batch"] = min(policy.Recipe.critic_batch, 2 * learnt)
        return RECIPES[self.method](**{**usual, **self.recipe})

    def command(self, out: str) -> str:
        """One option a line."""
        names = ("vocabulary", "vocabulary_size", "length", "cut", "sequences", "method", "start")
        lines = ["advgan train sequence", *spelled({"data": self.data})]
        told = {("soft" if name == "hard" else name): value for name, value in self.recipe.items()}
        if "soft" in told:
            told["soft"] = not told["soft"]
        lines += [*spelled({name: getattr(self, name) for name in names}), *spelled(told), *spelled({"out": out})]
        return " \\\n  ".join(lines)


def method_of(recipe: likelihood.Recipe, data: Tensor, vocabulary: int, start: Model | None) -> Method:
    """What a step is, for data [N, T]."""
    if isinstance(recipe, policy.Recipe):
        return policy.Policy(recipe, data, vocabulary, start)
    if isinstance(recipe, gumbel.Recipe):
        return gumbel.Gumbel(recipe, data, vocabulary, start)
    return likelihood.Likelihood(recipe, data, vocabulary)


def _options(names: list[str]) -> str:
    return " and ".join(f"--{name.replace('_', '-')}" for name in names)


def _takers(name: str) -> str:
    takers = [method for method, kind in RECIPES.items() if name in {field.name for field in fields(kind)}]
    return f"--method {' or '.join(takers)}"
