"""What may be asked of a training run, what is usual for which data, and what is typed to get the run again?"""

import math
import shlex
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from advgan import gaussian
from advgan.mixtures import MIXTURES
from advgan.recipe import Recipe
from advgan.recipes import RECIPES
from attacks.errors import InputError

KNOWN = (*MIXTURES, "gaussian-1d")


def usual(data: str) -> Recipe:
    """The recipe for data of that name where nothing is said of it."""
    if data == "gaussian-1d":
        return gaussian.recipe()
    return RECIPES.get(data, RECIPES["images"])


@dataclass(frozen=True)
class Options:
    """A command's options, JSON-able. `recipe`: the fields that were named, others are the usual ones."""

    data: str = "digits"
    recipe: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """From what `described` gave."""
        return cls(**{each.name: told[each.name] for each in fields(cls) if each.name in told})

    def described(self) -> dict[str, Any]:
        return asdict(self)

    def but(self, named: dict[str, Any], recipe: dict[str, Any]) -> Self:
        """With other options where they are not None."""
        return replace(self, **_given(named), recipe={**self.recipe, **_given(recipe)})

    def checked(self) -> Self:
        """InputError for options that do not go together."""
        return self


@dataclass(frozen=True)
class OfImages(Options):
    image_size: int | None = None
    data_root: str | None = None
    weights: str | None = None  # of the model that is named


@dataclass(frozen=True)
class Asked(OfImages):
    """Of `advgan train gan`."""

    conditional: bool | None = None  # None: where the data have labels
    judge: str | None = None

    def make_recipe(self, conditional: bool) -> Recipe:
        """InputError for options that no recipe has."""
        return replace(usual(self.data), **self.recipe, conditional=conditional)

    def command(self, out: str) -> str:
        """One option a line."""
        lines = ["advgan train gan", f"--data {shlex.quote(self.data)}"]
        lines += [] if self.conditional is None else ["--conditional" if self.conditional else "--unconditional"]
        lines += spelled({"image-size": self.image_size, "data-root": self.data_root})
        lines += spelled({"judge": self.judge, "judge-weights": self.weights})
        told = {**self.recipe}
        if "penalty_weight" in told:
            told["penalty"] = f"{told.get('penalty', usual(self.data).penalty)}:{told.pop('penalty_weight'):g}"
        return " \\\n  ".join([*lines, *spelled(told), *spelled({"out": out})])


def spelled(options: dict[str, Any]) -> list[str]:
    """Each as it is typed, a flag alone or as --no-NAME; those that are None are left out."""
    return [_spelled(name.replace("_", "-"), value) for name, value in _given(options).items()]


def _spelled(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {shlex.quote(str(value))}"


def penalty_from_text(text: str | None) -> dict[str, Any]:
    """`r1r2` or `r1r2:0.1`, a penalty and its weight, as fields of a recipe."""
    if text is None:
        return {}
    name, colon, weight = text.partition(":")
    if not colon:
        return {"penalty": name}
    try:
        value = float(weight)
    except ValueError:
        raise InputError(
            f"--penalty {text}: {weight!r} is no weight. Write NAME or NAME:WEIGHT, say r1r2:0.1."
        ) from None
    if value < 0:
        raise InputError(
            f"--penalty {text}: a weight of {value:g} would reward what a penalty is against. Take 0 or more."
        )
    return {"penalty": name, "penalty_weight": value}


def rate_checked(lr: float | None) -> float | None:
    """InputError unless it is a learning rate, or none was named."""
    if lr is not None and not 0 < lr < math.inf:
        raise InputError(f"--lr is {lr:g}; a learning rate is a finite number above 0, say 0.0002.")
    return lr


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
