"""Attacks against linear models, whose exact optimum is known for each norm."""

import pytest
import torch
from linear import distance, make

import attacks
from attacks import CATALOG, EachTarget, Goal, ThreatModel, pgd
from attacks.norms import NORMS

ROWS = 100


@pytest.fixture(scope="module", params=[20, 300], ids=["d=20", "d=300"])
def two_classes(request):
    model, x, y = make(2, request.param, ROWS)
    return model, x, y


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
@pytest.mark.parametrize(
    ("attack", "norm", "box"),
    [(a, n, "free") for a in ("fgsm", "pgd", "apgd") for n in ("linf", "l2")]
    + [(a, n, "active") for a in ("pgd", "apgd") for n in ("linf", "l2", "l1")]
    + [("pgd", "l1", "free"), ("apgd", "l1", "free")],
)
def test_every_row_falls_just_above_the_optimum_and_none_just_below(two_classes, attack, norm, box, loss):
    model, x, y = two_classes
    bounds = (0.0, 1.0) if box == "active" else (-100.0, 100.0)
    eps = distance(norm, model, x, y, 1 - y, *bounds)
    assert eps.isfinite().all()
    if box == "active" and norm != "l1":
        room = torch.where((model.weight[1 - y] - model.weight[y]) > 0, 1 - x, x)
        assert (room < eps[:, None]).any()  # the box does cut the ball
    for factor, expected in ((1.05, ROWS), (0.95, 0)):
        result = attacks.run(CATALOG[attack](loss=loss), model, x, y, ThreatModel(NORMS[norm], factor * eps, bounds))
        assert int(result.fooled.sum()) == expected


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fmn_ends_close_to_the_optimum(two_classes, norm):
    model, x, y = two_classes
    eps = distance(norm, model, x, y, 1 - y, 0.0, 1.0)
    size = attacks.run("fmn", model, x, y, f"{norm}:inf").size
    assert (size >= eps * (1 - 1e-9)).all()
    assert (size / eps).median() < 1.02
    assert (size / eps).quantile(0.9) < 1.1


def test_each_target_over_a_margin_fools_every_row_that_any_target_breaks(capsys):
    model, x, y = make(10, 40, 200)
    targets = torch.arange(10)
    nearest = torch.stack([distance("linf", model, x, y, t.expand(200), 0.0, 1.0) for t in targets])
    nearest = nearest.masked_fill(targets[:, None] == y, torch.inf).amin(0)
    eps = float(nearest.median())
    breakable = nearest < 0.98 * eps
    assert 50 < int(breakable.sum()) < 150
    threat = attacks.linf(eps)
    each = attacks.run(EachTarget(pgd(loss="margin")), model, x, y, threat)
    assert each.fooled[breakable].all()
    assert not each.fooled[nearest > eps].any()
    untargeted = {loss: attacks.run(pgd(loss=loss), model, x, y, threat) for loss in ("cross_entropy", "margin")}
    shares = {loss: float(r.fooled[breakable].double().mean()) for loss, r in untargeted.items()}
    with capsys.disabled():
        print(f"\nlinear, 10 classes, {int(breakable.sum())} breakable rows: each target 100 %, untargeted {shares}")
    assert shares["cross_entropy"] < 1.0


@pytest.mark.parametrize("loss", ["margin", "dlr"])
@pytest.mark.parametrize("attack", ["pgd", "apgd", "square"])
@pytest.mark.parametrize("change", ["+100", "*2^10", "*2^-10"])
def test_shift_and_scale_of_the_logits_change_nothing(attack, loss, change):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(216, 5)
    ).double()
    x = torch.rand(24, 1, 8, 8, dtype=torch.float64)
    y = net(x).argmax(1)
    changed = {
        "+100": lambda z: z + 100,
        "*2^10": lambda z: z * 2**10,
        "*2^-10": lambda z: z * 2**-10,
    }[change]
    options = {"queries": 100} if attack == "square" else {"steps": 20}
    search = CATALOG[attack](loss=loss, **options)
    threat = "linf:0.1" if attack == "square" else "linf:0.05"
    plain = attacks.run(search, net, x, y, threat)
    other = attacks.run(search, _Changed(net, changed), x, y, threat)
    assert plain.fooled.any()
    assert not plain.fooled.all()
    for field in ("fooled", "step", "queries"):
        assert torch.equal(getattr(plain, field), getattr(other, field)), field
    torch.testing.assert_close(plain.x_adv, other.x_adv, rtol=0, atol=1e-9)


class _Changed(torch.nn.Module):
    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.change(self.net(x))


def test_a_targeted_attack_reaches_exactly_the_target():
    model, x, y = make(5, 40, 60)
    target = (y + 1) % 5
    eps = distance("l2", model, x, y, target, 0.0, 1.0) * 1.5
    result = attacks.run("apgd", model, x, Goal(target, targeted=True), attacks.l2(eps))
    assert result.fooled.double().mean() > 0.5
    assert torch.equal(model(result.x_adv).argmax(1)[result.fooled], target[result.fooled])
