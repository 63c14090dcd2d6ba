"""Does a probe measure what is known otherwise of linear, quadratic and round models, and count its passes?"""

import math

import pytest
import torch
from linear import Linear, make, optimum
from torch import Tensor, nn

import attacks
from attacks import Access, AccessError, Goal, InputError, Victim
from attacks.kernels.reference import random_words
from attacks.norms import NORMS
from attacks.probe import Plane, directions, distances, geometry, plane, walk
from reports import zoo

BEYOND = 1 + 1.5e-4  # a distance over the true one, at most
NORM_NAMES = ("linf", "l2", "l1")
ENDLESS = (-math.inf, math.inf)


class Counting(nn.Module):
    """Counts the rows it is shown, and the gradients that are taken through it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.rows, self.gradients = model, 0, 0

    def forward(self, x):
        self.rows += len(x)
        logits = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, slope):
        self.gradients += len(slope)


class Ball(nn.Module):
    """Class 0 within `radius` of the centre, class 1 outside."""

    def __init__(self, radius: float, centre: float = 0.5):
        super().__init__()
        self.radius, self.centre = radius, centre

    def forward(self, x):
        square = (x - self.centre).flatten(1).square().sum(1)
        return torch.stack((torch.full_like(square, self.radius**2), square), 1)


class Quadratic(nn.Module):
    """Logit 1 is c + g x + x H x / 2, logit 0 is zero."""

    def __init__(self, features: int = 6):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        half = torch.randn(features, features, generator=generator, dtype=torch.float64)
        self.hessian, self.slope = half + half.T, torch.randn(features, generator=generator, dtype=torch.float64)

    def forward(self, x):
        rival = x @ self.slope + 0.5 * ((x @ self.hessian) * x).sum(1) - 9
        return torch.stack((torch.zeros_like(rival), rival), 1)


def smooth(features: int = 6) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(features, 12), nn.Tanh(), nn.Linear(12, 3)).double()


def problem(rows: int = 6, features: int = 12):
    model, x, labels = make(3, features, rows)
    return model, x, labels, directions.gaussian(x, 5)


def straight(model: Linear, x, labels, towards, norm: str):
    """[B, q] where the line x + t * direction first leaves the label's class of a linear model, in the norm."""
    t = torch.full(towards.shape[:2], torch.inf, dtype=torch.float64)
    logits = model(x).detach()
    for k in range(len(model.bias)):
        w = (model.weight[k] - model.weight[labels]).detach()
        need = logits.gather(1, labels[:, None]) - logits[:, [k]]
        rate = (towards * w[:, None]).sum(2)
        met = torch.where((rate > 0) & (labels[:, None] != k), need / rate, torch.inf)
        t = torch.minimum(t, met)
    return t * NORMS[norm].size(towards.flatten(0, 1)).view_as(t)


def bent(model: Linear, x, label, towards, norm: str) -> list:
    """For each direction the sizes at which the path x + t * direction, clamped to [0, 1], leaves the class.

    Logits are linear between the bends of the path.
    """
    furthest = NORMS[norm].size(torch.maximum(x, 1 - x)[None])
    sizes = []
    for way in towards / towards.abs().amax(1, keepdim=True):
        room = torch.where(way > 0, 1 - x, x)
        bends = torch.cat((torch.zeros(1), (room / way.abs()).sort().values))
        if norm == "linf":  # a ray ends where its steepest entry has gone as far as the widest bound
            bends = torch.cat((bends[bends < furthest], furthest))
        logits = model(x + way.sign() * torch.minimum(bends[:, None] * way.abs(), room)).detach()
        gap = logits - logits[:, [int(label)]]
        rising = (gap[:-1] < 0) & (gap[1:] > 0)
        t = (bends[:-1, None] - gap[:-1] / (gap[1:] - gap[:-1]) * (bends[1:] - bends[:-1])[:, None])[rising]
        sizes.append(NORMS[norm].size(torch.minimum(t.sort().values[:, None] * way.abs(), room)))
    return sizes


# Distances


@pytest.mark.parametrize("norm", NORM_NAMES)
def test_a_linear_models_distance_along_any_line_is_exact(norm):
    model, x, labels, towards = problem()
    threat = attacks.ThreatModel(NORMS[norm], 1e4, ENDLESS)
    found = distances(model, x, labels, towards, threat, levels=40).distance
    true = straight(model, x, labels, towards, norm)
    assert torch.equal(found.isinf(), true.isinf() | (true > 1e4))
    assert 5 < int(found.isfinite().sum()) < found.numel()
    met = found.isfinite()
    assert (found[met] >= true[met] * (1 - 1e-12)).all()
    assert (found[met] <= true[met] * BEYOND).all()


@pytest.mark.parametrize("norm", NORM_NAMES)
def test_within_bounds_a_ray_goes_on_along_them(norm):
    """Each distance is one of the places where the path leaves the class; it is mostly the first."""
    model, x, labels, towards = problem(rows=8)
    found = distances(model, x, labels, towards, f"{norm}:inf").distance
    firsts = 0
    for row in range(len(x)):
        for k, true in enumerate(bent(model, x[row], labels[row], towards[row], norm)):
            if found[row, k].isinf():
                assert len(true) == 0
                continue
            over = float(found[row, k]) / true
            firsts += 1 <= over[0] + 1e-9 <= BEYOND
            assert ((over >= 1 - 1e-9) & (over <= BEYOND)).any()
    assert firsts > 0.9 * int(found.isfinite().sum()) > 5


def test_every_direction_out_of_a_ball_is_its_radius_long():
    x = torch.full((2, 9), 0.5, dtype=torch.float64)
    found = distances(Ball(0.3), x, torch.zeros(2, dtype=torch.int64), directions.signs(x, 4)).distance
    assert (found >= 0.3).all()
    assert (found <= 0.3 * BEYOND).all()


def test_a_direction_that_leads_nowhere_or_is_not_finite_is_inf_and_costs_the_clean_pass_alone():
    model, x, labels, towards = problem()
    towards[:, 0] = 0
    towards[:, 1, 3] = torch.nan
    found = distances(model, x, labels, towards)
    assert found.distance[:, :2].isinf().all()
    assert (found.queries[:, :2] == 1).all()


def test_an_example_that_is_wrong_already_is_at_its_boundary():
    model, x, labels, towards = problem()
    found = distances(model, x, (labels + 1) % 3, towards)
    assert (found.distance == 0).all()
    assert (found.queries == 1).all()


def test_what_eps_and_the_mask_forbid_is_not_reached():
    model, x, labels, towards = problem()
    free = distances(model, x, labels, towards).distance
    near = distances(model, x, labels, towards, "l2:0.8").distance
    assert (near[free > 0.8].isinf()).all()
    assert torch.allclose(near[free <= 0.79], free[free <= 0.79], rtol=2e-4)
    threat = attacks.l2(torch.inf, mask=torch.zeros(12))
    assert distances(model, x, labels, towards, threat).distance.isinf().all()


def test_limits_of_each_example_stay_with_its_rays():
    model, x, labels, towards = problem()
    free = distances(model, x, labels, towards).distance
    eps = torch.full((len(x),), 1e-3, dtype=torch.float64)
    eps[2] = 4
    found = distances(model, x, labels, towards, attacks.l2(eps)).distance
    assert found[[0, 1, 3, 4, 5]].isinf().all()
    assert torch.allclose(found[2], free[2], rtol=3e-4)


def test_the_batch_and_the_order_change_nothing():
    model, x, labels, _ = problem(rows=5)
    ids = torch.tensor([7, 3, 11, 0, 2])
    together = distances(model, x, labels, directions.gaussian(x, 4, ids=ids), ids=ids, batch_size=20)
    turned = torch.tensor([4, 2, 0, 1, 3])
    drawn = directions.gaussian(x[turned], 4, ids=ids[turned])
    apart = distances(model, x[turned], labels[turned], drawn, ids=ids[turned], batch_size=3)
    assert torch.equal(together.distance[turned], apart.distance)
    assert torch.equal(together.queries[turned], apart.queries)


def test_every_pass_of_a_ray_is_counted():
    model, x, labels, towards = problem()
    counting = Counting(model)
    found = distances(counting, x, labels, towards, batch_size=1)
    assert counting.rows == int(found.queries.sum())
    assert int(found.queries.max()) <= 1 + 20 + 12


def test_decisions_are_enough():
    model, x, labels, towards = problem()
    victim = Victim(model, Access.DECISION)
    assert torch.equal(distances(victim, x, labels, towards).distance, distances(model, x, labels, towards).distance)


def test_the_way_to_the_only_other_class_is_the_way_out():
    model, x, labels = make(2, 12, 6)
    towards = directions.gaussian(x, 5)
    out, there = (distances(model, x, goal, towards) for goal in (labels, Goal(1 - labels, targeted=True)))
    assert torch.equal(out.distance, there.distance)


# Directions


def test_random_directions_belong_to_an_example_and_a_draw():
    x = torch.rand(3, 2, 50)
    drawn = directions.gaussian(x, 3, seed=4, ids=torch.tensor([5, 6, 7]))
    assert drawn.shape == (3, 3, 2, 50)
    alone = directions.gaussian(x[1:2], 2, seed=4, ids=torch.tensor([6]))
    assert torch.equal(drawn[1:2, :2], alone)
    flat = drawn.flatten(0, 1).flatten(1).double()
    assert (torch.corrcoef(flat) - torch.eye(9)).abs().max() < 0.35
    assert flat.std() == pytest.approx(1, abs=0.08)


def test_signs_are_even_and_share_no_numbers_with_the_others():
    x = torch.rand(2, 400)
    drawn = directions.signs(x, 2)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(drawn.mean())) < 0.12
    gaussian = directions.gaussian(x, 2).sign()
    assert abs(float((drawn * gaussian).mean())) < 0.12
    used = {kind: random_words(0, torch.tensor([0]), draw, 4) for kind, draw in directions.FIRST_DRAW.items()}
    used["attack"] = random_words(0, torch.tensor([0]), 0, 4)
    assert len({tuple(words[0].tolist()) for words in used.values()}) == len(used)


def test_the_steepest_direction_of_a_linear_model_is_its_weights():
    model, x, labels, _ = problem()
    counting = Counting(model)
    found = directions.steepest(counting, x, labels)
    rival = model(x).scatter(1, labels[:, None], -torch.inf).argmax(1)
    true = (model.weight[rival] - model.weight[labels]).detach()
    assert torch.allclose(found.directions[:, 0], true)
    assert torch.equal(directions.steepest(model, x, labels, "linf:0.1").directions[:, 0], true.sign())
    assert (counting.rows, counting.gradients) == (int(found.queries.sum()), int(found.backwards.sum()))


def test_other_examples_are_of_another_class_and_belong_to_the_draw():
    _, x, labels, _ = problem(rows=9)
    found = directions.to_examples(x, labels, x, labels, 6)
    reached = found + x[:, None]
    at = torch.cdist(reached.flatten(0, 1), x).argmin(1).view(9, 6)
    assert torch.allclose(x[at], reached)
    assert (labels[at] != labels[:, None]).all()
    assert len(at.unique()) > 5
    alone = directions.to_examples(x[4:5], labels[4:5], x, labels, 3, ids=torch.tensor([4]))
    assert torch.equal(alone, found[4:5, :3])


def test_the_means_are_those_of_the_other_classes():
    _, x, labels, _ = problem(rows=9)
    found = directions.to_means(x, labels, x, labels)
    for row, label in enumerate(labels.tolist()):
        for k, other in enumerate(labels.unique().tolist()):
            true = torch.zeros(12).double() if other == label else x[labels == other].mean(0) - x[row]
            assert torch.allclose(found[row, k], true)


# Planes


def test_the_plane_of_a_linear_model_is_cut_by_its_boundary():
    model, x, labels, towards = problem()
    threat = attacks.ThreatModel(NORMS["l2"], torch.inf, ENDLESS)
    first, second = x[0] + towards[0, 0], x[0] + towards[0, 1]
    counting = Counting(model)
    shown = plane(counting, x[0], int(labels[0]), first, second, threat, side=41, reach=3.0)
    assert counting.rows == shown.queries == 41 * 41
    assert shown.extent == (-3, 3, -3, 3)
    steps = torch.linspace(-3, 3, 41, dtype=torch.float64)
    for row, column in [(0, 0), (40, 0), (7, 33), (20, 20)]:
        point = x[0] + steps[column] * shown.across + steps[row] * shown.up
        logits = model(point[None]).detach()[0]
        lead = logits[labels[0]] - logits[[k for k in range(3) if k != labels[0]]].amax()
        assert shown.classes[row, column] == logits.argmax()
        assert float(shown.margin[row, column]) == pytest.approx(float(lead), rel=1e-5, abs=1e-6)
        assert float(shown.size[row, column]) == pytest.approx(math.hypot(steps[row], steps[column]), abs=1e-9)
    assert ((shown.margin > 0) == (shown.classes == labels[0])).all()
    assert float((shown.across * shown.up).sum()) == pytest.approx(0, abs=1e-12)
    for mark, point in zip(shown.marks, (x[0], first, second), strict=True):
        assert torch.allclose(x[0] + mark[0] * shown.across + mark[1] * shown.up, point)


def test_what_lies_beyond_the_bounds_is_clamped_and_the_ball_with_it():
    x = torch.zeros(4, dtype=torch.float64)
    first, second = torch.eye(4, dtype=torch.float64)[:2] * 0.5
    shown = plane(Ball(0.3, 0.0), x, 0, first, second, side=3, reach=2.0)
    assert shown.size[0, 0] == 0  # both coordinates would be negative
    assert float(shown.size[2, 2]) == pytest.approx(math.sqrt(2))
    assert shown.classes.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 1]]


def test_a_fine_plane_is_asked_where_classes_meet_and_interpolated_elsewhere():
    model, (x, labels), row = zoo.load()["digits_standard"], zoo.held_out(), 3
    shown = plane(model, x[row], int(labels[row]), x[row + 5], x[row + 9], side=401)
    assert shown.queries == int(shown.asked.sum()) < 0.25 * 401 * 401
    logits = torch.cat([model(points) for points in everywhere(shown, x[row]).split(4000)]).detach()
    own = logits[:, labels[row]]
    margin = (own - logits.index_fill(1, labels[row], -torch.inf).amax(1)).view(401, 401)
    classes = logits.argmax(1).view(401, 401)
    assert len(classes.unique()) >= 5
    assert torch.allclose(shown.margin[shown.asked], margin[shown.asked], rtol=1e-4, atol=1e-3)
    assert int((shown.classes != classes).sum()) <= 2  # of 160,801, for rounding
    assert float((shown.margin - margin).abs().max()) < 0.005 * float(margin.max() - margin.min())


def everywhere(shown: Plane, x: Tensor) -> Tensor:
    """[side * side, ...]: the inputs of a plane, row by row."""
    left, right, bottom, top = shown.extent
    side = len(shown.classes)
    across, up = (torch.linspace(*ends, side).double() for ends in ((left, right), (bottom, top)))
    along = across[None, :, None] * shown.across.flatten() + up[:, None, None] * shown.up.flatten()
    return (x.flatten() + along.flatten(0, 1)).float().clamp(0, 1).view(-1, *x.shape)


def test_the_square_of_three_examples_holds_them():
    model, x, labels, _ = problem()
    shown = plane(model, x[0], int(labels[0]), x[1], x[2], side=5, batch_size=4)
    left, right, bottom, top = shown.extent
    assert right - left == pytest.approx(top - bottom)
    assert ((shown.marks[:, 0] > left) & (shown.marks[:, 0] < right)).all()
    assert ((shown.marks[:, 1] > bottom) & (shown.marks[:, 1] < top)).all()


# Geometry


def test_a_quadratics_curvature_is_its_hessian_along_the_gradient_both_ways():
    model = Quadratic()
    x = torch.rand(5, 6, dtype=torch.float64)
    labels = torch.zeros(5, dtype=torch.int64)
    found = geometry(model, x, labels, x + 0.1)
    gradient = model.slope + x @ model.hessian
    unit = gradient / gradient.norm(dim=1, keepdim=True)
    true = ((unit @ model.hessian) * unit).sum(1)
    assert torch.allclose(found.hessian, true)
    assert torch.allclose(found.curvature, true, rtol=1e-6)
    assert torch.allclose(found.slope, gradient.norm(dim=1))
    rise = model(x + 0.1)[:, 1] - model(x)[:, 1] - 0.1 * gradient.sum(1)
    assert torch.allclose(found.missed, rise / model(x)[:, 1].abs())
    assert torch.allclose(found.bend, true * model(x)[:, 1].abs() / gradient.norm(dim=1) ** 2)


def test_finite_differences_and_hessian_products_agree_on_a_smooth_network():
    model, x = smooth(), torch.rand(20, 6, dtype=torch.float64)
    labels = model(x).argmax(1)
    x_adv = attacks.run("fmn", model, x, labels, "l2:inf").x_adv
    found = geometry(model, x, labels, x_adv, step=0.02)
    apart = (found.curvature - found.hessian).abs()
    assert (apart <= 0.02 * found.hessian.abs() + 0.002).all()
    assert found.hessian.abs().median() > 0.01
    single = geometry(model.float(), x.float(), labels, x_adv.float(), step=0.02)
    assert ((single.curvature - found.hessian).abs() <= 0.03 * found.hessian.abs() + 0.01).all()


def test_between_its_kinks_a_relu_network_has_no_hessian():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 200), nn.ReLU(), nn.Linear(200, 3)).double()
    x = torch.rand(8, 6, dtype=torch.float64)
    labels = model(x).detach().argmax(1)
    found = geometry(model, x, labels, attacks.run("fmn", model, x, labels, "l2:inf").x_adv)
    assert (found.hessian == 0).all()
    assert (found.curvature != 0).any()


@pytest.mark.parametrize("norm", NORM_NAMES)
def test_a_linear_models_smallest_perturbation_is_margin_over_slope(norm):
    model, x, labels = make(2, 12, 10)
    w = (model.weight[1 - labels] - model.weight[labels]).detach()
    steepest = {"l2": w, "linf": w.sign(), "l1": w * (w.abs() == w.abs().amax(1, keepdim=True))}[norm]
    logits = model(x).detach()
    need = (logits.gather(1, labels[:, None]) - logits.gather(1, 1 - labels[:, None])).squeeze(1)
    x_adv = x + steepest * (need / (w * steepest).sum(1))[:, None]
    found = geometry(model, x, labels, x_adv, attacks.ThreatModel(NORMS[norm], torch.inf, ENDLESS))
    assert torch.allclose(found.found, optimum(norm, model, x, labels, -9.0, 9.0))
    assert torch.allclose(found.linear, found.found)
    assert torch.allclose(found.margin, -need)
    assert (found.missed.abs() < 1e-9).all()
    assert (found.curvature.abs() < 1e-6).all()
    assert (found.hessian == 0).all()


def test_four_passes_and_four_gradients_are_what_geometry_costs():
    counting = Counting(smooth())
    x = torch.rand(3, 6, dtype=torch.float64)
    found = geometry(counting, x, torch.zeros(3, dtype=torch.int64), x + 0.1)
    assert counting.rows == int(found.queries.sum())
    # The Hessian-vector product goes back through the gradient, by way of the logits once more.
    assert counting.gradients <= int(found.backwards.sum())


def test_without_a_perturbation_its_columns_are_empty():
    model, x, labels, _ = problem()
    found = geometry(model, x, labels, x)
    assert found.found.isinf().all()
    assert found.missed.isnan().all()
    assert found.curvature.isfinite().all()


# Walks


def test_a_walk_comes_near_a_linear_models_boundary_by_decisions_alone():
    model, x, labels, _ = problem(rows=6)
    counting = Counting(model)
    start = torch.stack([x[labels != label][0] for label in labels])
    found = walk(Victim(counting, Access.DECISION), x, labels, start, queries=1500)
    assert counting.rows == int(found.queries[-1]) * len(x)
    assert int(found.queries[-1]) <= 1500
    assert found.queries[0] == 1
    true = attacks.run("deepfool", model, x, labels, "l2:inf").size
    assert torch.equal(found.x_adv[0], start)
    assert (found.size[1:] <= found.size[:-1] * (1 + 1e-9)).all()
    assert (found.size[-1] >= true * 0.999).all()
    assert (found.size[-1] <= 1.4 * true).all()
    assert (model(found.x_adv.flatten(0, 1)).argmax(1) != labels.repeat(len(found.x_adv))).all()


def test_a_walk_depends_on_the_example_and_not_on_its_company():
    model, x, labels, _ = problem(rows=6)
    start = torch.stack([x[labels != label][0] for label in labels])
    whole = walk(model, x, labels, start, queries=200)
    alone = walk(model, x[3:4], labels[3:4], start[3:4], queries=200, ids=torch.tensor([3]))
    assert torch.equal(whole.x_adv[:, 3:4], alone.x_adv)


def test_a_start_that_is_not_adversarial_goes_nowhere():
    model, x, labels, _ = problem(rows=6)
    start = torch.stack([x[labels != label][0] for label in labels])
    start[2] = x[2]
    found = walk(model, x, labels, start, queries=60)
    assert found.size[:, 2].isinf().all()
    assert found.size[:, [0, 1, 3]].isfinite().all()


# Bad input


def bad_calls():
    model, x, labels, towards = problem()
    no_gradient = Victim(model, Access.SCORES)
    beyond = attacks.ThreatModel(NORMS["l2"], torch.inf, ENDLESS)
    return {
        "directions of another shape": lambda: distances(model, x, labels, towards[:, :, :5]),
        "one direction too few": lambda: distances(model, x, labels, towards[1:]),
        "no tensor": lambda: distances(model, x, labels, [1.0]),  # type: ignore[arg-type]
        "no levels": lambda: distances(model, x, labels, towards, levels=0),
        "l0": lambda: distances(model, x, labels, towards, "l0:3"),
        "no bounds and no eps": lambda: distances(model, x, labels, towards, beyond),
        "a grid": lambda: distances(model, x, labels, towards, attacks.l2(1.0, levels=255)),
        "no direction": lambda: directions.gaussian(x, 0),
        "ids of another length": lambda: directions.signs(x, 2, ids=torch.arange(3)),
        "one class alone": lambda: directions.to_examples(x, labels * 0, x, labels * 0, 2),
        "others of another shape": lambda: directions.to_means(x, labels, x[:, :3], labels),
        "integers": lambda: directions.gaussian(x.long(), 2),
        "points on a line": lambda: plane(model, x[0], 0, x[1], (x[0] + x[1]) / 2),
        "the example itself": lambda: plane(model, x[0], 0, x[0], x[1]),
        "one point a side": lambda: plane(model, x[0], 0, x[1], x[2], side=1),
        "no reach": lambda: plane(model, x[0], 0, x[1], x[2], reach=0.0),
        "a label beyond the classes": lambda: plane(model, x[0], 7, x[1], x[2], side=3),
        "a batch": lambda: plane(model, x[0], 0, x, x[2]),
        "geometry in l0": lambda: geometry(model, x, labels, x, "l0:3"),
        "x_adv of another type": lambda: geometry(model, x, labels, x.float()),
        "no step": lambda: geometry(model, x, labels, x, step=0.0),
        "a walk in l1": lambda: walk(model, x, labels, x, "l1:inf"),
        "no start that fools": lambda: walk(model, x, labels, x),
        "a start outside the bounds": lambda: walk(model, x, labels, x + 2),
        "starts of another shape": lambda: walk(model, x, labels, x[:, :4]),
        "no scores": lambda: plane(Victim(model, Access.DECISION), x[0], 0, x[1], x[2]),
        "no gradient": lambda: geometry(no_gradient, x, labels, x),
        "no gradient for a direction": lambda: directions.steepest(no_gradient, x, labels),
    }


@pytest.mark.parametrize("name", bad_calls())
def test_what_cannot_be_probed_is_said(name):
    with pytest.raises(InputError) as raised:
        bad_calls()[name]()
    assert str(raised.value).endswith(".")
    assert issubclass(AccessError, InputError)
