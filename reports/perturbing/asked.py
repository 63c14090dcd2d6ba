"""What may be asked of the training of a perturber, and what is typed to get the run again?"""

from dataclasses import dataclass, field
from typing import Any

from advgan.perturbing import Perturbing
from attacks.errors import InputError, unknown
from reports.sources.models import digits_for
from reports.training.asked import OfImages, spelled

DIGITS = "digits:standard"
DIGITS_RECIPE = {
    "threat": "linf:0.2",
    "gan_weight": 0.1,
    "objective": "relativistic",
    "penalty": "r1r2",
    "width": 24,
    "depth": 2,
    "steps": 1000,
}
KINDS = {"universal": "--universal", "per_class": "--per-class"}


@dataclass(frozen=True)
class Asked(OfImages):
    """Of `advgan train perturber`."""

    model: list[str] = field(default_factory=lambda: [DIGITS])
    transfer: list[str] = field(default_factory=list)  # models that are shown what was made
    target: str | None = None  # a class by number or name, or any

    def checked(self) -> "Asked":
        """InputError where data or a threat must be named and are not, for what only the digits have by default."""
        if self.data == "digits":
            digits_for(self.model)
        if self.data != "digits" and "threat" not in self.recipe:
            raise InputError(f"--data {self.data} needs --threat, which says how far inputs may be moved: linf:8/255.")
        if self.weights is not None and len(self.model) > 1:
            raise InputError(f"--weights belongs to one --model, and {len(self.model)} are given. Name one.")
        return self

    def make_recipe(self, victim: str, classes: list[str]) -> Perturbing:
        """InputError for options that no recipe has."""
        usual: dict[str, Any] = DIGITS_RECIPE if self.data == "digits" else {}
        target = None if self.target is None else _class(self.target, classes)
        return Perturbing(**{**usual, **self.recipe, "target": target, "victim": victim})

    def command(self, out: str) -> str:
        """One option a line."""
        lines = ["advgan train perturber"]
        lines += [line for spec in self.model for line in spelled({"model": spec})]
        lines += spelled({"weights": self.weights, "data": self.data})
        lines += spelled({"image_size": self.image_size, "data_root": self.data_root})
        told = {**(DIGITS_RECIPE if self.data == "digits" else {}), **self.recipe}
        kind = KINDS.get(told.pop("kind", ""))
        if "penalty_weight" in told:
            told["penalty"] = f"{told['penalty']}:{told.pop('penalty_weight'):g}"
        lines += [*spelled({"target": self.target}), *([kind] if kind else []), *spelled(told)]
        lines += [line for spec in self.transfer for line in spelled({"transfer": spec})]
        return " \\\n  ".join([*lines, *spelled({"out": out})])


def _class(text: str, names: list[str]) -> Any:
    """The number of a class that was named or numbered; or "any"."""
    if text == "any":
        return text
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise unknown("target class", text, [*names, "any"])
