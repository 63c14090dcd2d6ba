"""Everything that decides a run's result, beside the data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self

import torch

from attacks.errors import InputError, unknown

from .objectives import OBJECTIVES
from .penalties import PENALTIES
from .schedules import Schedule

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
R3GAN_LR, R3GAN_BETA2 = Schedule(2e-4, 5e-5), Schedule(0.9, 0.99)
COUNTS = ("latent", "steps", "batch", "critic_steps")


@dataclass(frozen=True)
class Recipe:
    """The defaults are R3GAN's (arXiv 2501.05441) at the size of small images."""

    what: ClassVar[str] = "gan"

    network: str = "dcgan"  # as `networks.build` knows it
    width: int | None = None  # None: the network's own
    depth: int | None = None  # likewise
    latent: int = 64
    conditional: bool = False
    conditioning: str = "projection"  # of a conditional critic: or "concat", "auxiliary"
    objective: str = "relativistic"
    penalty: str = "r1r2"
    penalty_weight: Schedule | float = 1.0
    class_weight: float = 1.0  # of an auxiliary critic's cross entropy
    gan_weight: float = 1.0  # of the critic's judgement in the generator's loss; what a perturber must fool weighs 1
    steps: int = 10_000  # of the generator
    critic_steps: int = 1  # of the critic, for each of the generator's; each on a batch of its own
    batch: int = 64  # over all processes together
    lr: Schedule | float = R3GAN_LR
    beta1: float = 0.0
    beta2: Schedule | float = R3GAN_BETA2
    half_life: float = 10_000  # of the average of generators, in samples
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        for name, table in (("objective", OBJECTIVES), ("penalty", PENALTIES), ("precision", PRECISIONS)):
            if getattr(self, name) not in table:
                raise unknown(name, getattr(self, name), table)
        for name in COUNTS:
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InputError(f"A recipe with {name} = {getattr(self, name)!r}. It takes a whole number from 1 up.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"The seed {self.seed} is not within 0 and {2**32 - 1}.")
        if self.half_life < 0:
            raise InputError(f"A half-life of {self.half_life} samples. It takes 0 (no averaging) or more.")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """From what `as_config` gives; keys of others are passed over, and missing ones have their defaults."""
        known: dict[str, Any] = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        return cls(**{name: _read(value) for name, value in known.items()})

    def as_config(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return Schedule(**value) if isinstance(value, Mapping) else value
