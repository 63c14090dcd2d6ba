"""Which models hide their gradients? Small MNIST classifiers, each with the threat that it withstands in part.

They are tried on the first rows of the test images; those that are trained here are trained on its last 5,000.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from masks import JPEG, Noisy, Pruned, Quantised, Rippled, Scaled, Steep
from outside import outside
from taught import Recipe, trained
from torch import nn

from attacks.models import BPDA, Repeated


@dataclass(frozen=True)
class Masked:
    make: Callable[[], nn.Module]
    threat: str
    aids: Callable[[], dict[str, nn.Module]]  # models like it that hide less, to search on
    passes: int = 1  # of a random model, the fresh passes of which more than half must be wrong


def _kw() -> nn.Module:
    return outside("kw_mnist_01")


def _behind(front: nn.Module) -> nn.Module:
    return nn.Sequential(front, _kw()).eval()


def _hidden_by(front: nn.Module, threat: str) -> Masked:
    """The aids are the classifier without the front, and with one that lets gradients through as they are."""
    return Masked(lambda: _behind(front), threat, lambda: {"bare": _kw(), "straight": _behind(BPDA(front))})


def _random(make: Callable[[], nn.Module], threat: str) -> Masked:
    return Masked(make, threat, lambda: {"bare": _kw(), "repeated": Repeated(make(), 10)}, passes=11)


def _pruned(draws: float) -> nn.Module:
    net = _kw()
    assert isinstance(net, nn.Sequential)
    layers = chain.from_iterable([layer, Pruned(draws)] if isinstance(layer, nn.ReLU) else [layer] for layer in net)
    return nn.Sequential(*layers).eval()


def _steepened(steepness: float) -> nn.Module:
    net = trained(STEEP)
    for layer in net.modules():
        if isinstance(layer, Steep):
            layer.steepness = steepness
    return net


PLAIN = Recipe()
WINNERS = Recipe(("winners", 0.1))
STEEP = Recipe(("steep", 10.0))
SOFT = 50.0  # the temperature of distillation (1511.04508)
STUDENT = Recipe(temperature=SOFT, teacher=Recipe(temperature=SOFT))

MASKING: dict[str, Masked] = {
    "quantised": _hidden_by(Quantised(8), "linf:0.2"),
    "quantised_straight": Masked(lambda: _behind(BPDA(Quantised(8))), "linf:0.2", lambda: {"bare": _kw()}),
    "rippled": _hidden_by(Rippled(0.02, 1000.0), "linf:0.15"),
    "jpeg": _hidden_by(JPEG(1.0), "linf:0.15"),
    "scaled_down": Masked(lambda: Scaled(_kw(), 1e-4), "linf:0.15", lambda: {"bare": _kw()}),
    "scaled_up": Masked(lambda: Scaled(_kw(), 1e4), "linf:0.15", lambda: {"bare": _kw()}),
    "noisy": _random(lambda: _behind(Noisy(0.2)), "linf:0.1"),
    "pruned": _random(lambda: _pruned(0.5), "linf:0.15"),
    "steep": Masked(lambda: _steepened(1000.0), "linf:0.1", lambda: {"bare": trained(STEEP)}),
    "winners": Masked(lambda: trained(WINNERS), "linf:0.1", lambda: {"bare": trained(PLAIN)}),
    "distilled": Masked(lambda: trained(STUDENT), "linf:0.15", lambda: {"bare": Scaled(trained(STUDENT), 1 / SOFT)}),
}
