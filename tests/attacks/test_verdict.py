"""Does the verdict spend passes where they change the answer, and say where it should not be believed?"""

from dataclasses import replace

import linear
import pytest
import torch
from scipy.optimize import linprog
from test_every_attack import ElementwiseNet, task
from torch import nn

import attacks
from attacks import CATALOG, Access, Goal, InputError, Transferred, Victim, card_of
from attacks.ascents import BROAD, NOISE, scattered
from attacks.doubts import Doubt, doubts, has
from attacks.gradient.pgd import GradientAscent
from attacks.gradient.pieces import Coarse, Proportional, Scattered, Steepest, far_off
from attacks.gradient.rival import by_nearness
from attacks.hyperplanes import highest_in_l1
from attacks.losses import from_function, margin, soft_margin
from attacks.prospects import NEAR
from attacks.rows import Rows
from attacks.verdict import LOOK, ROUND, Stage, Verdict
from attacks.victim import gradient

NORMS = ("linf", "l2", "l1")


class Front(nn.Module):
    """A classifier behind something that hides its gradients."""

    def __init__(self, change, model=None):
        super().__init__()
        self.change, self.model = change, model or blocks()

    def forward(self, x):
        return self.model(self.change(x))


def blocks():
    """A small convolutional classifier of [b, 1, 12, 12]."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5)).eval()


def images(rows=16, model=None):
    x = torch.rand(rows, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    return x, (model or blocks())(x).argmax(1)


def quantised(x):
    return (x * 3).round() / 3


def noted(result, doubt):
    assert result.seen is not None
    return has(doubts(result.seen), doubt)


def breakable(norm, classes=10):
    """A linear model, its inputs, and the eps from which on each falls."""
    model, x, labels = linear.make(classes, 30, 60, seed=3)
    targets = [torch.full_like(labels, k) for k in range(classes)]
    least = torch.stack([linear.distance(norm, model, x, labels, target, 0.0, 1.0) for target in targets], 1)
    least = least.scatter(1, labels[:, None], torch.inf).amin(1)
    return model, x, labels, least


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.1), ("l1", 0.3)])
def test_every_row_of_a_linear_model_that_can_fall_falls_and_no_other(norm, eps):
    model, x, labels, least = breakable(norm)
    assert (least < 0.98 * eps).any()
    assert (least > eps).any()
    result = attacks.run("verdict", model, x, labels, f"{norm}:{eps}")
    assert result.fooled[least < 0.98 * eps].all()
    assert not result.fooled[least > eps].any()


@pytest.mark.parametrize("norm", NORMS)
def test_rows_of_a_straight_model_are_let_go_of_soon_and_without_a_doubt(norm):
    eps = {"linf": 0.005, "l2": 0.025, "l1": 0.075}[norm]
    model, x, labels, least = breakable(norm)
    result = attacks.run("verdict", model, x, labels, f"{norm}:{eps}")
    far = least > 2 * eps
    assert far.sum() > 10
    assert (result.queries[far] <= 75).all()
    assert (result.backwards[far] <= (75 if norm == "l1" else 60)).all()  # an ascent in L1 is longer
    assert result.seen is not None
    assert (doubts(result.seen)[far] == 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_quick_look_costs_at_most_25_passes(norm):
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    result = attacks.run(CATALOG["verdict"](effort="quick"), model, x, labels, f"{norm}:0.01")
    assert not result.fooled.all()
    assert (result.queries + result.backwards).max() <= 25


def test_an_eps_of_nothing_costs_the_clean_look_alone():
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    result = attacks.run("verdict", model, x, labels, "linf:0")
    assert result.fooled.sum() == 4  # those that are wrong when clean
    assert (result.queries == 1).all()
    assert (result.backwards == 0).all()


@pytest.mark.parametrize("scale", [2.0**-13, 2.0**13])
def test_the_scale_of_the_logits_changes_nothing(scale):
    class Scaled(nn.Module):
        def forward(self, x):
            return model(x) * scale + 100 * scale

    model = ElementwiseNet(192, 10, torch.float64)
    x, labels = task(model, torch.float64)
    plain, scaled = (attacks.run(Verdict(queries=100), m, x, labels, "linf:0.004") for m in (model, Scaled()))
    assert 4 < plain.fooled.sum() < len(x)
    for field in ("fooled", "step", "queries", "backwards"):
        assert torch.equal(getattr(plain, field), getattr(scaled, field))
    torch.testing.assert_close(plain.x_adv, scaled.x_adv, rtol=0, atol=1e-9)
    assert plain.seen is not None
    assert scaled.seen is not None
    assert torch.equal(doubts(plain.seen), doubts(scaled.seen))
    assert torch.equal(plain.seen.stage, scaled.seen.stage)


@pytest.mark.parametrize("shape", [(1, 12, 12), (144,)])
def test_without_gradients_rows_fall_all_the_same_and_the_doubt_is_named(shape):
    hidden = Front(lambda x: quantised(x.view(-1, 1, 12, 12)))
    x, labels = images(model=hidden)
    x = x.view(-1, *shape)
    result = attacks.run(Verdict(rounds=2, queries=400), hidden, x, labels, "linf:0.15")
    assert result.seen is not None
    found = result.fooled & (result.seen.stage == Stage.SEARCH)
    assert found.any()
    assert noted(result, Doubt.ZERO_GRADIENT).all()
    assert not attacks.run("apgd", hidden, x, labels, "linf:0.15").fooled.all()


def test_without_any_gradient_there_are_two_ascents_and_then_the_search():
    hidden = Front(quantised)
    x, labels = images(model=hidden)
    result = attacks.run(Verdict(queries=50), hidden, x, labels, "linf:0.1")
    assert result.seen is not None
    standing = ~result.fooled
    assert standing.any()
    assert (result.seen.stage[standing] == Stage.SEARCH).all()
    assert (result.backwards[standing] == LOOK[0] + ROUND[0]).all()


def test_blind_rows_that_came_near_are_searched_twice():
    hidden = Front(quantised)
    x, labels = images(200, model=hidden)
    result = attacks.run(Verdict(queries=100), hidden, x, labels, "linf:0.1")
    assert result.seen is not None
    near = result.seen.lead > NEAR["linf"] * result.seen.first
    twice, once = (result.queries[~result.fooled & rows] for rows in (near, ~near))
    assert len(twice) > 2
    assert len(once) > 2
    assert (twice == once.max() + 100).all()


def test_a_tie_that_nothing_moves_is_let_go_of():
    x, labels = images(4)
    last = nn.Linear(144, 2, bias=False)
    nn.init.zeros_(last.weight)
    result = attacks.run("verdict", nn.Sequential(nn.Flatten(), last), x, torch.zeros_like(labels), "linf:0.1")
    assert not result.fooled.any()
    assert result.queries.max() < 1200


def test_gradients_that_promise_what_never_comes_are_doubted():
    rippled = Front(lambda x: x + 0.01 * (x * 3000).sin())  # slope up to 31 on a model of slope 1
    x, labels = images(model=rippled)
    result = attacks.run(Verdict(rounds=3, queries=100), rippled, x, labels, "linf:0.02")
    standing = ~result.fooled
    assert standing.any()
    assert noted(result, Doubt.BROKEN_PROMISE)[standing].all()
    honest = attacks.run(Verdict(rounds=3, queries=100), blocks(), *images(), "linf:0.02")
    assert not noted(honest, Doubt.BROKEN_PROMISE)[~honest.fooled].any()


def rippled_as_wide_as_eps():
    """Whose gradients point the wrong way half of the time, within some 0.06 of each other."""
    return Front(lambda x: x + 0.03 * (x * 105).sin())


def test_means_of_gradients_strewn_broadly_lead_over_ripples_as_wide_as_eps():
    model = rippled_as_wide_as_eps()
    x, labels = images(100, model=model)
    rows = rows_of(x, labels, "linf:0.05")
    narrow, broad = (
        attacks.run(scattered(rows, copies=16, noise=noise), model, x, labels, "linf:0.05").fooled.sum()
        for noise in (NOISE, BROAD)
    )
    assert broad > 2 * narrow


def test_rows_climb_along_means_for_as_long_as_it_pays():
    model = rippled_as_wide_as_eps()
    x, labels = images(100, model=model)
    result = attacks.run("verdict", model, x, labels, "linf:0.05")
    assert result.seen is not None
    assert (result.fooled & (result.seen.stage == Stage.SCATTERED)).sum() > 20
    left = ~result.fooled & (result.seen.stage == Stage.SEARCH)
    climbed = result.backwards[left] - result.backwards[left].min()
    assert (climbed == 0).double().mean() > 0.5  # the first ascent gained little
    assert climbed.max() == 10 * (8 + 16)  # the second and the third
    thorough = attacks.run(Verdict("exhaustive", queries=2), model, x, labels, "linf:0.05")
    assert (thorough.backwards[left] > result.backwards[left]).all()


class LeadsAway(torch.autograd.Function):
    """x, and gradients of the wrong sign."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad


def test_rows_whose_gradients_lead_away_are_searched_as_if_they_had_none():
    wrong = Front(LeadsAway.apply)
    x, labels = images(64)
    honest, misled = (attacks.run("verdict", model, x, labels, "l2:0.5") for model in (blocks(), wrong))
    gradients = attacks.run("apgd", wrong, x, labels, "l2:0.5")
    assert misled.fooled.sum() > 0.75 * honest.fooled.sum() > 3 * gradients.fooled.sum()
    assert misled.seen is not None
    assert (misled.seen.kept[~misled.fooled] < 0).all()
    assert (misled.seen.stage[~misled.fooled] == Stage.SEARCH).all()


class Bent(nn.Module):
    """By the mean of x [b, d]: what class 0 is ahead shrinks by `slope` a unit, and beyond `bend` by `steep`."""

    def __init__(self, slope, bend, steep):
        super().__init__()
        self.slope, self.bend, self.steep = slope, bend, steep

    def forward(self, x):
        come = x.mean(1) - 0.5
        ahead = 2 - self.slope * come - (self.steep - self.slope) * (come - self.bend).clamp_min(0)
        return torch.stack([ahead, torch.ones_like(ahead)], 1)


@pytest.mark.parametrize(("bend", "steep", "stage"), [(0.097, 50.0, Stage.LONG), (0.09, 20.0, Stage.ROUNDS)])
def test_rows_that_are_far_by_their_lead_and_near_by_the_eps_they_want_get_long_ascents(bend, steep, stage):
    """At eps 0.1 more than a quarter of the way is left to both, which 5 or 13 % of eps more would bring."""
    x = torch.full((4, 30), 0.5, dtype=torch.float64)
    result = attacks.run("verdict", Bent(6.0, bend, steep), x, torch.zeros(4, dtype=torch.int64), "linf:0.1")
    assert not result.fooled.any()
    assert result.seen is not None
    assert (result.seen.lead < 0.25 * result.seen.first).all()  # both are negative
    assert (result.seen.stage == stage).all()


def test_a_random_model_is_noticed():
    noisy = Front(lambda x: x + 0.1 * torch.randn_like(x))
    x, labels = images()
    result = attacks.run(Verdict(rounds=2, queries=50), Victim(noisy, passes=5), x, labels, "linf:0.005")
    standing = ~result.fooled
    assert standing.any()
    assert noted(result, Doubt.RANDOM)[standing].all()
    assert result.seen is not None
    assert (result.seen.stage[standing] <= Stage.SCATTERED).all()  # queries of one pass each say nothing
    calm = attacks.run(Verdict(rounds=2, queries=50), blocks(), x, labels, "linf:0.005")
    assert not noted(calm, Doubt.RANDOM).any()


def test_the_stage_says_how_far_a_row_came():
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    result = attacks.run("verdict", model, x, labels, "linf:0.03")
    assert result.seen is not None
    stage = result.seen.stage
    assert (stage[:4] == Stage.CLEAN).all()  # wrong when clean
    assert (stage[4:] >= Stage.LOOK).all()
    in_look = result.fooled & (stage == Stage.LOOK)
    assert in_look.any()
    assert (result.step[in_look] <= 9).all()
    quick = attacks.run(Verdict("quick"), model, x, labels, "linf:0.03")
    assert quick.seen is not None
    assert (quick.seen.stage[4:] == Stage.LOOK).all()


def test_exhaustive_lets_go_of_nothing_and_runs_what_applies():
    class Peeped:
        """Asks once, and takes down for what."""

        card = card_of(CATALOG["square"]())
        seen: list[tuple[int, ...]] = []  # noqa: RUF012

        def search(self, rows):
            self.seen.append(tuple(rows.ids.tolist()))
            yield attacks.victim.decision(rows.x)

    model = blocks()
    x, labels = images(4)
    attack = Verdict("exhaustive", rounds=1, queries=3, also=(Peeped(), CATALOG["sigma_zero"](steps=2)))
    result = attacks.run(attack, model, x, labels, "linf:1e-4")
    assert Peeped.seen == [(0, 1, 2, 3)]
    assert not result.fooled.any()
    Peeped.seen.clear()
    attacks.run(attack, nn.Sequential(nn.Unflatten(1, (1, 12, 12)), model), x.flatten(1), labels, "linf:1e-4")
    assert Peeped.seen == []  # it needs images


def test_exhaustive_has_every_other_attack_of_the_catalogue():
    attack = CATALOG["verdict"](effort="exhaustive")
    assert isinstance(attack, Verdict)
    assert len(attack.also) == len(CATALOG) - 2  # itself, and the one that needs a surrogate


def test_it_can_aim():
    model = ElementwiseNet(192, 10)
    x, labels = task(model)
    result = attacks.run(Verdict(queries=30), model, x, Goal((labels + 1) % 10, targeted=True), "linf:0.2")
    assert result.fooled.any()
    assert (model(result.x_adv).argmax(1) == (labels + 1) % 10)[result.fooled].all()


def test_it_decides_by_the_victims_answers_and_so_does_not_transfer():
    with pytest.raises(InputError, match="Verdict decides by the victim's own answers"):
        Transferred(Verdict(), blocks())


@pytest.mark.parametrize("options", [{"effort": "hasty"}, {"rounds": 0}, {"queries": 0}])
def test_what_it_cannot_do_is_refused(options):
    with pytest.raises(InputError):
        CATALOG["verdict"](**options)


# -- the parts --


def rows_of(x, labels, threat):
    return Rows(x, torch.arange(len(x)), Goal(labels), attacks.ThreatModel.parse(threat).around(x))


@pytest.mark.parametrize("threat", ["linf:0.1", "l2:0.5", "l1:3"])
@pytest.mark.parametrize("start", [far_off, Coarse(3), Coarse(9)])
def test_a_far_off_start_is_inside_and_far(start, threat):
    x = 0.4 + 0.2 * torch.rand(5, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    rows = rows_of(x, torch.zeros(5, dtype=torch.int64), threat)
    size = rows.threat.size(start(rows))
    assert size.isfinite().all()
    assert (size >= 0.999 * rows.threat.eps).all()


def test_a_coarse_start_has_blocks_of_one_value():
    x = torch.full((2, 3, 8, 8), 0.5)
    moved = Coarse(2)(rows_of(x, torch.zeros(2, dtype=torch.int64), "linf:0.1"))
    blocks = moved.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert torch.equal(blocks.amin(4), blocks.amax(4))
    assert len(moved[0].unique()) == 2


def test_scattered_sights_lie_round_the_point_and_their_gradients_are_averaged():
    x = torch.full((2, 6), 0.5)
    rows = rows_of(x, torch.zeros(2, dtype=torch.int64), "linf:0.1")
    rows.progress = 0.0
    view = Scattered(copies=5, share=0.5)
    sights = view.show(rows, x[None])
    assert sights.shape == (5, 2, 6)
    assert 0 < (sights - x).abs().max() <= 0.05
    grads = torch.arange(10.0)[:, None, None].expand(10, 2, 6)  # two points, five sights of each
    assert torch.equal(view.pull(rows, grads)[:, 0, 0], torch.tensor([4.0, 5.0]))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_scattered_sights_are_strewn_by_fades(norm):
    x = torch.zeros(2, 10_000)
    threat = replace(attacks.ThreatModel.parse(f"{norm}:2"), bounds=(-100.0, 100.0))
    rows = Rows(x, torch.arange(2), Goal(torch.zeros(2, dtype=torch.int64)), threat.around(x))
    for rows.progress, share in ((0.0, 0.5), (0.5, 0.05), (1.0, 0.005)):
        sight = Scattered(copies=1, share=0.5, last=0.01).show(rows, x[None])[0]
        size = sight.abs().amax(1) if norm == "linf" else sight.norm(dim=1)
        torch.testing.assert_close(size, torch.full_like(size, 2 * share), rtol=0.02, atol=0)


class Gated(nn.Module):
    """Class 1 where a tenth of x [b, d] is above 0.5; only what is close to it has a gradient worth speaking of."""

    def __init__(self, steepness: float):
        super().__init__()
        self.steepness = steepness

    def forward(self, x):
        lead = (self.steepness * (x - 0.5)).sigmoid().mean(1) - 0.1
        return torch.stack((-lead, lead), 1)


@pytest.mark.parametrize(("threat", "steepness"), [("l2:2", 100.0), ("l1:20", 200.0)])
def test_an_ascent_whose_noise_fades_passes_gates(threat, steepness):
    x = torch.rand(20, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3 + 0.1
    plain = GradientAscent("soft_margin", Proportional(), share=0.3, steps=12, schedule="cosine")
    if threat.startswith("l2"):
        plain = replace(plain, direction=Steepest(), share=1.0)
    smoothed = replace(plain, views=(Scattered(1, 3.0 if threat.startswith("l2") else 1.0, 0.03),))
    labels = torch.zeros(20, dtype=torch.int64)
    before, after = (attacks.run(a, Gated(steepness), x, labels, threat).fooled.sum() for a in (plain, smoothed))
    assert before <= 2
    assert after >= 15


def test_the_most_that_a_linear_function_gains_in_l1_within_a_box():
    draw = torch.Generator().manual_seed(3)
    x, normal = (torch.rand(6, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    normal = normal * 4 - 2
    normal[:, 0] = 0
    radius = torch.tensor([0.0, 0.3, 1.0, 2.0, 3.0, 99.0], dtype=torch.float64)
    found = highest_in_l1(x, normal, radius, torch.zeros_like(x), torch.ones_like(x))
    for row in range(6):  # delta = up - down
        slope, within = normal[row].numpy(), [(0, 1 - v) for v in x[row].tolist()] + [(0, v) for v in x[row].tolist()]
        best = linprog([*-slope, *slope], [[1.0] * 16], [radius[row].item()], bounds=within)
        assert found[row].item() == pytest.approx(-best.fun, abs=1e-9)
    open_box = torch.full_like(x, torch.inf)
    far = highest_in_l1(x, normal, radius, -open_box, open_box)
    torch.testing.assert_close(far, radius * normal.abs().amax(1))


@pytest.mark.parametrize("norm", NORMS)
def test_rivals_come_in_the_order_of_their_distance(norm):
    """The box is far; where it is near, what counts is what the ball and the box let a rival gain together."""
    model, x, labels = linear.make(10, 30, 20, seed=3)
    threat = replace(attacks.ThreatModel.parse(f"{norm}:0.1"), bounds=(-100.0, 100.0))
    rows = Rows(x, torch.arange(20), Goal(labels), threat.around(x))
    victim = Victim(model, Access.GRADIENT)
    answer = victim.answer(gradient(x, margin), rows.goal, rows.aim)
    rivals, ways = by_nearness(answer, rows, 9)
    assert answer.backwards == 9
    far = [linear.distance(norm, model, x, labels, rivals[:, j], -100.0, 100.0) for j in range(9)]
    assert (torch.stack(far, 1).diff(dim=1) >= -1e-6).all()
    torch.testing.assert_close(0.1 * ways, torch.stack(far, 1))
    again, _ = by_nearness(victim.answer(gradient(x, margin), rows.goal, rows.aim), rows, 20)
    assert torch.equal(again, rivals)


def test_a_rival_that_the_box_holds_back_comes_last():
    weight = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    model = linear.Linear(weight, torch.tensor([4.0, 0.0, 0.0], dtype=torch.float64))
    x = torch.tensor([[1.0, 0.5]], dtype=torch.float64)  # class 1 is nearer, but x is at its bound
    rows = rows_of(x, torch.zeros(1, dtype=torch.int64), "linf:0.2")
    answer = Victim(model).answer(gradient(x, margin), rows.goal, rows.aim)
    rivals, ways = by_nearness(answer, rows, 2)
    assert rivals.tolist() == [[2, 1]]
    assert ways.isfinite().all()


class Decoy(nn.Module):
    """By the mean of x [b, d]: class 1 is the nearest from 0 and stays behind, class 2 is further and reached at -1."""

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        rise = 1.3 * mean.clamp_max(0.6) + 0.05 * (mean - 0.6).clamp_min(0)
        return torch.cat([torch.zeros_like(mean), rise - 1, -1.1 * mean - 1], 1)


def test_a_rival_beyond_the_nearest_is_tried_while_it_may_be_within_reach():
    x, labels = torch.zeros(20, 100), torch.zeros(20, dtype=torch.int64)
    threat = replace(attacks.ThreatModel.parse("linf:1"), bounds=(-2.0, 2.0))
    two, three = (attacks.run(Verdict(rounds=rounds), Decoy(), x, labels, threat) for rounds in (2, 3))
    assert not two.fooled.all()  # strewn points, then the nearest
    assert three.fooled.all()


# -- the loss --


def behind(logits, goal):
    gaps = logits.gather(1, goal.labels[:, None]) - logits
    rivals = torch.ones_like(logits, dtype=torch.bool).scatter(1, goal.labels[:, None], False)
    return gaps[rivals].view(len(logits), -1)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_soft_margin_and_its_slope_are_those_of_autograd(classes):
    logits = torch.randn(20, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    goal = Goal(logits.argmax(1))
    formula = from_function(lambda z, goal: -((behind(z, goal) ** -2).sum(1) ** -0.5))
    for found, expected in zip(soft_margin(logits, goal)[:2], formula(logits, goal)[:2], strict=True):
        torch.testing.assert_close(found, expected)


def test_where_one_is_ahead_or_the_goal_is_a_class_the_soft_margin_is_the_margin():
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    for goal in (Goal(logits.argmin(1)), Goal(logits.argmax(1), targeted=True), Goal(logits.argmin(1), targeted=True)):
        for soft, plain in zip(soft_margin(logits, goal), margin(logits, goal), strict=True):
            assert torch.equal(soft, plain)


def test_the_soft_margin_is_finite_at_a_tie_and_where_a_rival_is_infinitely_far():
    logits = torch.tensor([[1.0, 1.0, 1.0], [0.0, -torch.inf, -torch.inf], [0.0, -1e-30, -torch.inf]])
    climb = soft_margin(logits, Goal(torch.zeros(3, dtype=torch.int64)))
    assert climb.slope.isfinite().all()
    assert (climb.slope.sum(1).abs() < 1e-6).all()
    assert climb.value.tolist() == [0.0, -torch.inf, pytest.approx(-1e-30)]
