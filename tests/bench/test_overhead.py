"""How much PGD costs over the passes through the model that it cannot do without."""

from dataclasses import dataclass

import networks
import numpy as np
import peers
import pytest
import torch
from race import Race, passes_of, quartiles
from record import Book
from torch import Tensor, nn

import attacks

STEPS = 40
SHARE = 0.1  # step size over eps
PEER_BAR = 1.03

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own


@dataclass(frozen=True)
class Setting:
    network: str
    shape: tuple[int, ...]
    batch: int
    bar: float | None = None
    laps: int = 1  # per repeat: short ones are noisy

    @property
    def name(self) -> str:
        return f"{self.network}-{self.batch}"


SETTINGS = [
    Setting("tiny_cnn", (1, 28, 28), 16, None, laps=4),
    Setting("small_cnn", (1, 28, 28), 16, 1.15, laps=2),
    Setting("small_cnn", (1, 28, 28), 128, 1.05),
    Setting("resnet18_for_32x32", (3, 32, 32), 4, 1.03),
]
EPS = {("linf", 1): 0.1, ("l2", 1): 1.0, ("linf", 3): 8 / 255, ("l2", 3): 0.5}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_pgd_costs_little_more_than_its_passes(setting: Setting, norm: str, benchmark, book: Book, repeats: int):
    """Nothing is fooled, so ours makes 42 forward passes (clean, start, 40 steps) and takes 40 gradients."""
    model = getattr(networks, setting.network)()
    x, labels = networks.images(setting.batch, setting.shape)
    eps = EPS[norm, setting.shape[0]]
    race = Race(contenders(model, x, labels, norm, eps))
    race.warm_up()
    forwards = {name: passes_of(model, race.calls[name])[0] / len(x) for name in peers.installed()}
    benchmark.pedantic(race.lap, rounds=repeats * setting.laps, iterations=1)

    floor = race.times("gradients") + race.times("two forwards")
    forward = race.times("two forwards") / 2
    ratios = {name: race.times(name) / floor for name in ["ours", "ours, objects", *forwards]}
    # A peer is charged for the forwards that it does not make, or let off those it makes beyond 42.
    level = {name: race.times(name) + (STEPS + 2 - made) * forward for name, made in forwards.items()}
    against = {name: quartiles(race.times("ours") / times)[1] for name, times in level.items()}
    fastest = max(against, key=lambda name: against[name], default="")
    low, middle, high = quartiles(ratios["ours"])
    benchmark.extra_info.update({name: quartiles(value)[1] for name, value in ratios.items()})
    book.add(
        suite="overhead",
        measured=f"PGD-{STEPS} {norm}, {setting.network}, batch {setting.batch}",
        unit="s",
        repeats=repeats * setting.laps,
        ours=race.median("ours"),
        reference=float(np.median(floor)),
        reference_is=f"{STEPS + 2} forward and {STEPS} input-gradient passes",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        bar=setting.bar or "",
        note=f"called with objects {quartiles(ratios['ours, objects'])[1]:.3f}; forwards of peers {forwards}",
        **{name: race.median(name) for name in forwards},
        **{f"{name}_ratio": quartiles(ratios[name])[1] for name in forwards},
        **({"fastest_peer": fastest, "ours_over_fastest_peer": against[fastest]} if fastest else {}),
        peer_bar=PEER_BAR if setting.bar else "",
    )
    if setting.bar:
        assert middle <= setting.bar
        assert not fastest or against[fastest] <= PEER_BAR


def contenders(model: nn.Module, x: Tensor, labels: Tensor, norm: str, eps: float) -> dict:
    text = f"{norm}:{eps!r}"
    victim, goal, threat = attacks.Victim(model), attacks.Goal(labels), attacks.ThreatModel.parse(text)
    pgd = attacks.pgd(steps=STEPS, share=SHARE)
    result = attacks.run("pgd", model, x, labels, text)
    assert not result.fooled.any()
    assert (result.queries == STEPS + 2).all()
    assert (result.backwards == STEPS).all()
    return {
        "ours": lambda: attacks.run("pgd", model, x, labels, text),
        "ours, objects": lambda: attacks.run(pgd, victim, x, goal, threat),
        "gradients": lambda: gradients(model, x, labels),
        "two forwards": lambda: two_forwards(model, x),
        **peers.pgd_calls(model, x, labels, norm, eps, STEPS, SHARE),
    }


def gradients(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Forty forward passes, each with the gradient of the loss to the input."""
    for _ in range(STEPS):
        leaf = x.detach().requires_grad_()
        loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
        torch.autograd.grad(loss, leaf)


def two_forwards(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)
        model(x)
