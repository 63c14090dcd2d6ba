"""Rounding to the grid and its repair: inside the ball, nearest, and as small as a linear model allows."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import attacks
from attacks import Access, Goal, InputError, ThreatModel, Victim
from attacks.repair import Repair, rounded
from attacks.rows import Rows

THREATS = ["linf:8/255", "linf:0.031", "l2:0.5", "l1:3", "l0:7"]


def grid(n: int, d: int = 48, low: int = 60, high: int = 196, seed: int = 0) -> Tensor:
    return torch.randint(low, high, (n, d), generator=torch.Generator().manual_seed(seed)) / 255


def linear(d: int = 48, seed: int = 1) -> nn.Module:
    layer = nn.Linear(d, 2, bias=False)
    slope = torch.randn(d, generator=torch.Generator().manual_seed(seed)) ** 3  # heavy-tailed, as gradients are
    layer.weight.data = torch.stack([slope / 2, -slope / 2])
    return layer


def rows_of(threat: ThreatModel, x: Tensor) -> Rows:
    return Rows(x, torch.arange(len(x)), Goal(torch.zeros(len(x), dtype=torch.int64)), threat.around(x))


def on_surface(threat: ThreatModel, x: Tensor) -> Tensor:
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    return threat.around(x).reach(direction.sign() if threat.norm.name == "linf" else direction)


@pytest.mark.parametrize("text", THREATS)
@pytest.mark.parametrize(("low", "high"), [(60, 196), (0, 4), (252, 256)])
def test_what_is_rounded_is_on_the_grid_inside_the_ball_and_the_bounds(text: str, low: int, high: int):
    x, threat = grid(64, low=low, high=high), replace(ThreatModel.parse(text), levels=255)
    rows = rows_of(threat, x)
    moved = rounded(rows, (on_surface(ThreatModel.parse(text), x) - x) * 255)
    assert torch.equal(moved, moved.round())
    x_adv = ((x * 255).round() + moved) / 255
    assert bool(threat.around(x).size(x_adv).isfinite().all())


def test_rounding_is_to_the_nearest_level_where_the_ball_allows_it():
    x, threat = grid(8), replace(ThreatModel.parse("l2:5"), levels=255)
    wanted = torch.randn(8, 48, generator=torch.Generator().manual_seed(3)) * 4
    assert torch.equal(rounded(rows_of(threat, x), wanted), wanted.round())


def test_a_perturbation_that_cutting_off_would_undo_is_kept():
    x, threat = grid(20), replace(ThreatModel.parse("linf:1/255"), levels=255)
    wanted = torch.full((20, 48), 0.6)
    assert bool((wanted.trunc() == 0).all())
    assert bool((rounded(rows_of(threat, x), wanted) == 1).all())


@pytest.mark.parametrize("text", ["linf:4/255", "l2:0.1"])
def test_on_a_linear_model_nothing_that_the_grid_can_hold_is_lost(text: str):
    """The best point of the ball on the grid is known; where it is well beyond the boundary, repair must get there."""
    model, d = linear(), 48
    slope = (model.weight.data[1] - model.weight.data[0]).double()  # type: ignore[operator, index]
    threat = replace(ThreatModel.parse(text), levels=255)
    radius = threat.eps * 255
    best = {
        "linf": slope.abs().sum() * int(radius + 1e-9),
        "l2": max(
            (slope * move).sum() for m in torch.linspace(0.1, 60, 600) if (move := (slope * m).round()).norm() <= radius
        ),
    }[threat.norm.name]
    x = grid(200, d)
    behind = -(x.double() * 255 @ slope)  # labels are 0 where this is positive
    can = (behind > 0) & (behind < 0.8 * best)
    x = x[can]
    assert len(x) > 5
    nothing = x + 0.4 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    result = attacks.run(Repair(nothing), model, x, torch.zeros(len(x), dtype=torch.int64), threat)
    assert bool(result.fooled.all())


def test_the_smallest_perturbations_stay_near_the_best_that_the_grid_allows():
    model, x = linear(), grid(100)
    labels = model(x).argmax(1)
    found = attacks.run("ddn", model, x, labels, "l2:inf")
    assert bool(found.fooled.all())
    threat = replace(ThreatModel.parse("l2:inf"), levels=255)
    result = attacks.run(Repair(found.x_adv), model, x, labels, threat, until="smallest")
    assert bool(result.fooled.all())
    slope = (model.weight.data[1] - model.weight.data[0]).double()  # type: ignore[operator, index]
    behind = (x.double() * 255 @ slope).abs()
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for m in torch.logspace(-3, 3, 20_000, dtype=torch.float64):
        move = (slope * m).round()
        enough = (slope * move).sum() > behind
        best = torch.where(enough, torch.minimum(best, move.norm()), best)
    assert float((result.size * 255 / best).max()) < 1.1
    assert float((result.size * 255 / best).median()) <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("attack", "text"), [("fmn", "linf:inf"), ("fmn", "l1:inf"), ("fmn", "l0:inf"), ("ddn", "l2:inf")]
)
def test_of_the_smallest_perturbations_none_is_lost(attack: str, text: str):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 4))
    x = grid(60)
    labels = model(x).argmax(1)
    found = attacks.run(attack, model, x, labels, text)
    at = found.fooled
    assert int(at.sum()) > 50
    threat = replace(ThreatModel.parse(text), levels=255)
    result = attacks.run(Repair(found.x_adv[at]), model, x[at], labels[at], threat, until="smallest")
    assert bool(result.fooled.all())
    assert float(result.size.median() / found.size[at].median()) < 1.05


def test_below_gradient_access_no_more_than_decisions_is_asked_for():
    model, x = linear(), grid(30)
    labels = model(x).argmax(1)
    found = attacks.run("ddn", model, x, labels, "l2:inf")
    threat = replace(ThreatModel.parse("l2:inf"), levels=255)
    victim = Victim(model, Access.DECISION)
    result = attacks.run(Repair(found.x_adv, Access.SCORES), victim, x, labels, threat)
    assert bool(result.fooled.all())
    assert int(result.backwards.sum()) == 0
    with pytest.raises(InputError, match="needs GRADIENT"):
        attacks.run(Repair(found.x_adv), victim, x, labels, threat)


def test_a_threat_without_levels_is_refused():
    x = grid(2)
    with pytest.raises(InputError, match="levels=255"):
        attacks.run(Repair(x), linear(), x, linear()(x).argmax(1), "l2:1")


def test_a_target_is_reached_where_one_is_aimed_at():
    x = grid(30)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(48, 5, bias=False)
    goal = Goal((model(x).argmax(1) + 1) % 5, targeted=True)
    found = attacks.run("apgd", model, x, goal, "linf:0.2")
    at = found.step > 0
    assert int(at.sum()) > 10
    threat = replace(ThreatModel.parse("linf:0.2"), levels=255)
    result = attacks.run(Repair(found.x_adv[at]), model, x[at], goal.keep(at), threat)
    assert bool((model(result.x_adv).argmax(1) == goal.labels[at]).all())
