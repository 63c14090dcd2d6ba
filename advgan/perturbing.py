"""Everything that decides what a perturber becomes, beside the victim and the data."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from attacks.errors import InputError, unknown
from attacks.threat import ThreatModel

from .bounding import check_threat
from .fooling import LOSSES
from .networks.perturber import FEATURES
from .recipe import Recipe
from .schedules import Schedule

FALLING = Schedule(1e-3, 1e-5)
KINDS = {
    "image": "one perturbation for each input",
    "universal": "one perturbation for all inputs",
    "per_class": "one perturbation for each class",
}


@dataclass(frozen=True)
class Perturbing(Recipe):
    """AdvGAN's game (arXiv 1801.02610): loss + gan_weight * generator's loss + hinge_weight * soft hinge, batch means.

    The weights of 1 are the paper's: what is made shall look untouched and be short. Where nothing but fooling
    counts: gan_weight=0, hinge_weight=0.

    gan_weight=0 trains against the victim alone, without a critic. conditional, conditioning and class_weight are for
    samples; the critic of perturbations is told no class.
    """

    what: ClassVar[str] = "perturber"

    threat: str = "linf:0.3"
    low: float = 0.0  # bounds of the data
    high: float = 1.0
    kind: Literal["image", "universal", "per_class"] = "image"
    target: int | Literal["any"] | None = None  # a class to reach; "any": whichever it is told, drawn anew each time
    loss: str = "margin"  # as `fooling.LOSSES` knows it
    confidence: float = 20.0  # of the margin: rows that are just fooled must go on teaching the others
    layer: str = ""  # of the victim, for losses on features and for the network that reads them
    layer_shape: tuple[int, ...] = ()  # of what the layer that is read gives, for one input; training finds it out
    layer_of: str = ""  # sha256 of the model whose layer is read; likewise
    hinge_weight: float = 1.0
    hinge: float | None = None  # L2 norm that is free; None: half of what the threat allows
    labels: Literal["predicted", "true"] = "predicted"  # what to get away from: the victim's own answer, or the data's
    victim: str = ""  # which, for people

    network: str = "residual"  # or mlp: see `networks.perturber`; "features" reads the layer (AdvGAN++)
    latent: int = 8
    conditional: bool = True  # each input comes with the label to get away from
    objective: str = "least_squares_zero_one"
    penalty: str = "none"
    steps: int = 2000
    batch: int = 32
    lr: Schedule | float = FALLING
    beta1: float = 0.5
    beta2: Schedule | float = 0.999
    half_life: float = 1000

    def __post_init__(self):
        super().__post_init__()
        check_threat(self.threat_model)
        if self.kind not in KINDS:
            raise unknown("kind of perturber", self.kind, KINDS)
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        if self.labels not in ("predicted", "true"):
            raise InputError(f"labels={self.labels!r}: predicted (by the victim) or true.")
        if self.network == FEATURES and not self.layer:
            raise InputError(
                "The network features reads a layer of the victim: name it (layer, on the command line --layer)."
            )
        if self.network == FEATURES and self.kind != "image":
            raise InputError(f"A {self.kind} perturbation reads nothing of its input: network='features' has no part.")
        if self.target is not None and self.loss.startswith("feature"):
            raise InputError(f"The loss {self.loss} drives features apart, towards no class: leave out the target.")
        if self.target == "any" and self.kind == "universal":
            raise InputError("One perturbation for all inputs cannot aim at any class: name one, or kind='per_class'.")
        if isinstance(self.target, int) and self.kind == "per_class":
            raise InputError(f"One perturbation for each class to reach, and only {self.target} is: kind='universal'.")
        for name in ("gan_weight", "hinge_weight", "confidence"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"A recipe with {name} = {getattr(self, name)}. It takes 0 or more.")

    @property
    def threat_model(self) -> ThreatModel:
        return ThreatModel.parse(self.threat, (self.low, self.high))

    @property
    def targeted(self) -> bool:
        return self.target is not None

    def free(self, count: int) -> float:
        """The L2 norm that the hinge leaves free, for inputs of so many numbers."""
        if self.hinge is not None:
            return self.hinge
        eps, norm = float(self.threat_model.eps), self.threat_model.norm.name
        return min(eps, self.high - self.low) * (math.sqrt(count) if norm == "linf" else 1.0) / 2

    def as_config(self) -> dict[str, Any]:
        return {"what": self.what} | super().as_config() | {"layer_shape": list(self.layer_shape)}
