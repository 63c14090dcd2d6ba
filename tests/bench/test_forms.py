"""What a cheaper form of a model gains on this machine, where every success is asked of the model itself."""

import networks
import pytest
import torch
from race import Race, quartiles
from record import Book
from torch import Tensor, nn

import attacks

BAR = 1.25


def half_sure(batch: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A ResNet-18 for 32 x 32 pixels, untrained, and inputs labelled as it answers: some fall within eps."""
    net = networks.resnet18_for_32x32()
    x, _ = networks.images(batch, (3, 32, 32))
    with torch.no_grad():
        net.fc.bias.zero_()  # type: ignore[union-attr]
        return net, x, net(x).argmax(1)


@pytest.mark.parametrize("name", ["apgd", "square"])
def test_the_fastest_form_gains_and_breaks_as_much(name, benchmark, book: Book, repeats: int):
    net, x, labels = half_sure(16)
    form = attacks.fastest_form(net, x)
    attack = attacks.CATALOG[name](**({"steps": 20} if name == "apgd" else {"queries": 60}))
    eps = {"apgd": 0.06, "square": 0.08}[name]
    goal, threat = attacks.Goal(labels), attacks.linf(eps)
    plain, fast = attacks.Victim(net), attacks.Victim.in_form(net, form)
    results = {who: attacks.run(attack, victim, x, goal, threat) for who, victim in (("plain", plain), ("fast", fast))}
    race = Race(
        {
            "plain": lambda: attacks.run(attack, plain, x, goal, threat),
            "fast": lambda: attacks.run(attack, fast, x, goal, threat),
        }
    )
    race.warm_up()
    benchmark.pedantic(race.lap, rounds=max(3, repeats // 3), iterations=1)
    low, middle, high = quartiles(race.times("plain") / race.times("fast"))
    with torch.no_grad():
        borne_out = net(results["fast"].x_adv).argmax(1) != labels
    assert torch.equal(borne_out, results["fast"].fooled)
    same = (results["fast"].fooled == results["plain"].fooled).double().mean().item()
    book.add(
        suite="forms",
        measured=f"{name} linf:{eps}, ResNet-18, 16 x 3 x 32 x 32, {form}",
        unit="s",
        repeats=len(race.times("plain")),
        ours=race.median("fast"),
        reference=race.median("plain"),
        reference_is="the same attack on the model as it is, over ours",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        bar=BAR,
        note=f"fooled {int(results['fast'].fooled.sum())} and {int(results['plain'].fooled.sum())} of {len(x)}; "
        f"the same verdict in {same:.1%}",
    )
    assert 0 < results["plain"].fooled.sum() < len(x)
    assert same >= 0.95
    assert middle >= BAR
