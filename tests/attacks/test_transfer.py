"""Transfer: do the parts add up to the attacks they are published as, and does a search on a surrogate carry over?"""

import copy

import pytest
import torch
from linear import distance, make
from torch import nn
from torch.nn import functional

import attacks
from attacks import CATALOG, Access, AccessError, Goal, InputError, Victim
from attacks.combine import Cascade, EachTarget, Restarts, Transferred
from attacks.gradient.pgd import GradientAscent, mi_fgsm, ni_fgsm
from attacks.gradient.pieces import Adam, Momentum, Nesterov, Proportional, gradients
from attacks.gradient.transfer import Resized, Scaled, Translated, VarianceTuned, di_fgsm, si_fgsm, ti_fgsm
from attacks.losses import cross_entropy, from_function, probability_margin
from attacks.models import Averaged
from attacks.norms import NORMS
from attacks.rows import Rows
from attacks.victim import gradient


def net(classes=5, seed=0, side=8, channels=3):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layers = nn.Conv2d(channels, 8, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(8 * (side // 2) ** 2, classes)
    return nn.Sequential(*layers).double().eval()


def images(rows=12, side=8, channels=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, channels, side, side, generator=generator, dtype=torch.float64)


def rows_of(model, x, threat="linf:0.1", seed=0):
    goal = Goal(model(x).argmax(1))
    return Rows(x, torch.arange(len(x)), goal, attacks.ThreatModel.parse(threat).around(x), seed)


def assert_same(one, other):
    for field in ("fooled", "queries", "backwards", "step", "size", "x_adv"):
        assert torch.equal(getattr(one, field), getattr(other, field)), field


# -- the views and directions --


@pytest.mark.parametrize(
    ("published", "plain"),
    [
        (di_fgsm(probability=0.0), mi_fgsm()),
        (di_fgsm(smallest=1.0), mi_fgsm()),
        (ti_fgsm(length=1), mi_fgsm()),
        (si_fgsm(copies=1), ni_fgsm()),
        (GradientAscent(direction=Momentum(), views=(Scaled(1),), share=0.1, start="input", steps=10), mi_fgsm()),
    ],
)
@pytest.mark.parametrize("threat", ["linf:0.03", "l2:0.3"])
def test_a_view_that_changes_nothing_leaves_the_attack_as_it_was(published, plain, threat):
    model, x = net(), images()
    labels = model(x).argmax(1)
    assert_same(*(attacks.run(attack, model, x, labels, threat) for attack in (published, plain)))


@pytest.mark.parametrize("shape", [(8, 8), (7, 12), (33, 20)])
def test_the_shrunken_image_is_that_of_torch_laid_on_black(shape):
    view, x = Resized(probability=1.0, smallest=0.5), torch.rand(20, 2, *shape, dtype=torch.float64)
    rows = rows_of(nn.Flatten(), x)
    shown = view.show(rows, x[None])[0]
    luck = rows.resize[:, 0]
    sides = set()
    for row, image, (_, u, v, w) in zip(x, shown, luck.tolist(), strict=True):
        least = max(1, int(0.5 * shape[0]))
        tall = int(u * (shape[0] - least + 1)) + least
        wide = round(tall * shape[1] / shape[0])
        top, left = int(v * (shape[0] - tall + 1)), int(w * (shape[1] - wide + 1))
        expected = torch.zeros_like(row)
        small = functional.interpolate(row[None], (tall, wide), mode="bilinear", align_corners=False)[0]
        expected[:, top : top + tall, left : left + wide] = small
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)
        sides.add(tall)
    assert len(sides) > 1


@pytest.mark.parametrize(
    "views",
    [
        (Resized(1.0, 0.6),),
        (Scaled(3),),
        (Scaled(2), Resized(0.5, 0.7)),
        (Resized(0.5, 0.7), Scaled(2)),
    ],
    ids=["DI", "SI", "SI-DI", "DI-SI"],
)
def test_gradients_come_back_through_the_views_exactly(views):
    """They are those of the mean loss over what is shown, as autograd finds them, but for one factor per row."""
    model, x = net(), images(6)
    rows = rows_of(model, x)
    attack = GradientAscent(views=views)
    rows.x_adv, rows.length = x, rows.threat.radius
    shown = attack._shown(rows)
    many = shown.ndim > x.ndim
    answer = Victim(model).answer(gradient(shown, cross_entropy, many), rows.goal, rows.aim)
    found = attack._pulled(rows, answer, cross_entropy, many)

    luck = getattr(rows, "resize", None) if any(isinstance(view, Resized) for view in views) else None

    class Fixed(Rows):
        def uniform(self, *shape, low=-1.0, high=1.0):
            assert luck is not None
            return luck

    again = Fixed(x, rows.ids, rows.goal, rows.threat)
    leaf = x.clone().requires_grad_()
    points = leaf[None]
    for view in views:
        points = view.show(again, points)
    loss = functional.cross_entropy(model(points.flatten(0, 1)), rows.goal.labels.repeat(len(points)), reduction="sum")
    (expected,) = torch.autograd.grad(loss / len(points), leaf)
    factor = (found / expected).flatten(1).median(1).values
    assert (factor > 0).all()
    torch.testing.assert_close(found, expected * factor[:, None, None, None], rtol=1e-9, atol=1e-12)


def test_translated_smooths_by_a_gaussian_kernel():
    x = images(3)
    rows, grads = rows_of(net(), x), torch.randn(1, 3, 3, 8, 8, dtype=torch.float64)
    at = torch.arange(-2, 3, dtype=torch.float64)
    line = torch.exp(-((at / (2 / 3)) ** 2) / 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    expected = functional.conv2d(grads[0].flatten(0, 1)[:, None], kernel[None, None], padding=2).view_as(grads)
    torch.testing.assert_close(Translated(5).pull(rows, grads), expected)
    torch.testing.assert_close(Translated().pull(rows, grads), expected)  # 5 is the least that it chooses


def test_gradients_of_many_tries_can_be_added_up():
    """One factor per row for all its tries, though one try is saturated and another is not."""
    model, x = net(), images(6)
    rows = rows_of(model, x)
    points = torch.stack((x, x * 40, x / 4))
    answer = Victim(model).answer(gradient(points, cross_entropy, many=True), rows.goal, rows.aim)
    found = gradients(answer, cross_entropy, rows)
    leaf = points.clone().requires_grad_()
    loss = functional.cross_entropy(model(leaf.flatten(0, 1)), rows.goal.labels.repeat(3), reduction="sum")
    (exact,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(found * rows.steepness[:, None, None, None], exact, rtol=1e-9, atol=1e-15)
    assert answer.backwards == 3


@pytest.mark.parametrize("inner", [Momentum(), Nesterov()])
def test_variance_tuning_is_the_published_recursion(inner):
    """Done again by hand: g <- decay g + (grad + v) / |grad + v|_1, v <- mean of the neighbours' gradients - grad."""
    model, x = net(), images(4)
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    labels = model(x).argmax(1)
    seen.clear()
    attack = GradientAscent("cross_entropy", VarianceTuned(inner, 3, 1.5), 0.2, "input", 5)
    attacks.run(attack, model, x, labels, "linf:1e-4")  # too small to fool: all five steps are taken
    _, *steps, last = seen.copy()  # clean, five times 1 + 3 tries, the last point
    assert [len(each) for each in steps] == [16] * 5

    def slope(points):
        leaf = points.clone().requires_grad_()
        loss = functional.cross_entropy(model(leaf), labels, reduction="sum")
        return torch.autograd.grad(loss, leaf)[0]

    x_adv, momentum, variance = x, torch.zeros_like(x), torch.zeros_like(x)
    for step in steps:
        points = step.unflatten(0, (4, 4))
        ahead = x_adv + 2e-5 * momentum.sign() if isinstance(inner, Nesterov) else x_adv
        torch.testing.assert_close(points[0], ahead.clamp(x - 1e-4, x + 1e-4).clamp(0, 1), rtol=0, atol=1e-12)
        assert ((points[1:] - points[0]).abs() <= 1.5e-4 * (1 + 1e-9)).all()
        assert ((points[1:] - points[0]).abs().flatten(2).amax(2) > 1e-4).all()
        here, around = slope(points[0]), torch.stack([slope(each) for each in points[1:]]).mean(0)
        tuned = here + variance
        momentum = momentum + tuned / tuned.abs().flatten(1).sum(1)[:, None, None, None]
        variance = around - here
        x_adv = (x_adv + 2e-5 * momentum.sign()).clamp(x - 1e-4, x + 1e-4).clamp(0, 1)
    torch.testing.assert_close(last, x_adv, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_neighbours_lie_at_beta_eps_in_other_norms(norm):
    model, x = net(), images(4)
    rows = rows_of(model, x, f"{norm}:0.5")
    rows.x_adv, rows.length = x, rows.threat.radius
    direction = VarianceTuned(neighbours=6, beta=1.5)
    direction.init(rows)
    noise = (direction.ask_at(rows, rows.length) - x)[1:].flatten(2)
    size = noise.abs().sum(2) if norm == "l1" else noise.square().sum(2).sqrt()
    torch.testing.assert_close(size, torch.full_like(size, 0.75))


def test_parts_combine():
    model, x = net(), images()
    labels = model(x).argmax(1)
    direction, views = VarianceTuned(Nesterov(), 2), (Translated(), Resized(), Scaled(2))
    attack = GradientAscent("margin", direction, 0.1, "input", 10, views)
    result = attacks.run(attack, model, x, labels, "linf:0.1")
    assert result.fooled.any()
    shown = []
    model.register_forward_pre_hook(lambda _, given: shown.append(len(given[0])))
    one = attacks.run(attack, model, x[:1], labels[:1], "linf:1e-6")
    assert int(one.queries) == sum(shown) == 1 + 10 * 3 * 2 + 1
    assert int(one.backwards) == 60


@pytest.mark.parametrize("budget", [2, 7, 13, 20])
@pytest.mark.parametrize("name", ["si_fgsm", "vmi_fgsm", "di_fgsm"])
def test_a_budget_that_cuts_the_tries_short_ends_the_search(name, budget):
    model, x = net(), images()
    labels = model(x).argmax(1)
    attack = CATALOG[name](**({"copies": 5} if name == "si_fgsm" else {"neighbours": 4} if "vmi" in name else {}))
    result = attacks.run(attack, model, x, labels, "linf:1e-6", max_queries=budget)
    assert (result.queries == min(budget, 52 if name != "di_fgsm" else 12)).all()
    result = attacks.run(attack, model, x, labels, "linf:1e-6", max_backwards=budget)
    assert (result.backwards <= budget).all()


@pytest.mark.parametrize("name", ["di_fgsm", "ti_fgsm"])
def test_views_of_images_are_refused_for_other_inputs(name):
    model, x, labels = make(3, 20, 4)
    with pytest.raises(InputError, match=r"images \[B, C, H, W\]"):
        attacks.run(name, model, x, labels, "linf:0.1")


@pytest.mark.parametrize("name", ["si_fgsm", "vmi_fgsm", "vni_fgsm", "pgd_adam", "pma", "apgd_restarts"])
def test_the_others_take_inputs_of_any_shape(name):
    model, x, labels = make(3, 20, 40)
    short = {"times": 2, "steps": 20} if name == "apgd_restarts" else {}
    result = attacks.run(CATALOG[name](**short), model, x, labels, "linf:0.2")
    assert result.fooled.any()


LINEAR = {
    "PGD-Adam": CATALOG["pgd_adam"](),
    "PMA": CATALOG["pma"](),
    "APGD-restarts": CATALOG["apgd_restarts"](times=2),
    "in proportion": GradientAscent("margin", Proportional(), 1.0, "input", 20, schedule="cosine"),
    "VMI": GradientAscent(direction=VarianceTuned(neighbours=2)),
    "VNI": GradientAscent(direction=VarianceTuned(Nesterov(), neighbours=2)),
}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("attack", LINEAR.values(), ids=LINEAR)
def test_every_row_of_a_linear_model_falls_just_above_the_optimum_and_none_just_below(attack, norm):
    model, x, labels = make(2, 20, 60)
    eps = distance(norm, model, x, labels, 1 - labels, 0.0, 1.0)
    for factor, expected in ((1.05, 60), (0.95, 0)):
        threat = attacks.ThreatModel(NORMS[norm], factor * eps)
        result = attacks.run(attack, model, x, labels, threat)
        assert int(result.fooled.sum()) == expected, factor


@pytest.mark.parametrize(
    ("make_it", "says"),
    [
        (lambda: Resized(probability=1.5), "probability"),
        (lambda: Resized(smallest=0.0), "smallest"),
        (lambda: Translated(4), "odd"),
        (lambda: Scaled(0), "copies"),
        (lambda: VarianceTuned(neighbours=0), "neighbours"),
        (lambda: VarianceTuned(beta=-1.0), "beta"),
        (lambda: Adam(mean_decay=1.0), "decays"),
        (lambda: di_fgsm(loss="hinge"), "hinge"),
        (lambda: CATALOG["ti_fgsm"](length=2), "odd"),
    ],
)
def test_bad_options_are_refused(make_it, says):
    with pytest.raises(InputError, match=says):
        make_it()


# -- Adam --


def test_adam_takes_the_published_steps():
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(7, 3, 20, generator=generator, dtype=torch.float64)
    x = torch.full((3, 20), 0.5, dtype=torch.float64)
    rows = Rows(x, torch.arange(3), Goal(torch.zeros(3, dtype=torch.int64)), attacks.linf(0.4).around(x))
    adam, leaf = Adam(), x.clone().requires_grad_()
    theirs = torch.optim.Adam([leaf], lr=0.01, maximize=True)
    adam.init(rows)
    rows.x_adv, rows.length = x, torch.full((3,), 0.01, dtype=torch.float64)
    for grad in grads:
        leaf.grad = grad / grad.abs().amax(1, keepdim=True)
        theirs.step()
        rows.x_adv = adam.move(rows, adam.turn(rows, grad * 1e-30), rows.length, 0.0)
        torch.testing.assert_close(rows.x_adv, leaf.detach(), rtol=0, atol=1e-9)


# -- the probability margin --


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("kind", ["untargeted", "targeted", "versus"])
def test_the_probability_margin_and_its_slope_are_those_of_autograd(dtype, scale, kind):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 6, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(6, (50,), generator=generator)
    goal = Goal(labels, kind != "untargeted", (labels + 1) % 6 if kind == "versus" else None)

    def plain(z, goal):
        p = z.softmax(1)
        label = p.gather(1, goal.labels[:, None]).squeeze(1)
        other = p.scatter(1, goal.labels[:, None], -1.0).amax(1)
        other = other if goal.versus is None else p.gather(1, goal.versus[:, None]).squeeze(1)
        return 1 + (label - other if goal.targeted else other - label)

    found, expected = probability_margin(logits.to(dtype), goal), from_function(plain)(logits, goal)
    rtol, atol = (1e-4, 1e-6) if dtype == torch.float32 else (1e-6, 1e-12)
    torch.testing.assert_close(found.value.double(), expected.value, rtol=rtol, atol=atol)
    torch.testing.assert_close(found.slope.double(), expected.slope, rtol=rtol, atol=atol)
    assert torch.equal(found.reached, expected.reached)
    assert found.value.dtype == found.slope.dtype == dtype


def test_a_saturated_softmax_leaves_the_probability_margin_its_digits():
    logits = torch.tensor([[40.0, 0.0, -1.0], [60.0, 0.0, -1.0], [0.0, 60.0, -1.0], [0.0, 0.0, 0.0]])
    climb = probability_margin(logits, Goal(torch.zeros(4, dtype=torch.int64)))
    exact = torch.exp(-torch.tensor([40.0, 60.0], dtype=torch.float64))
    torch.testing.assert_close(climb.value[:2].double(), 2 * exact + exact * torch.e**-1, rtol=1e-5, atol=0)
    torch.testing.assert_close(climb.slope[:2, 1].double(), 2 * exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(climb.slope.sum(1), torch.zeros(4), rtol=0, atol=1e-7)
    assert climb.value[2] == 2
    assert climb.slope[2, 1] > 0
    assert climb.value[3] == 1
    assert climb.slope[3].tolist() == pytest.approx([-1 / 3, 1 / 3, 0], abs=1e-7)


# -- Transferred --


DECIDES = Access.DECISION


@pytest.mark.parametrize("threat", ["linf:0.05", "l2:0.4"])
@pytest.mark.parametrize("name", ["pgd", "mi_fgsm", "apgd", "di_fgsm", "square", "fmn"])
def test_from_a_model_to_itself_asked_at_every_step_it_is_the_attack_itself(name, threat):
    model, x = net(), images()
    labels = model(x).argmax(1)
    short = {"queries": 60} if name == "square" else {} if "fgsm" in name else {"steps": 12}
    attack = CATALOG[name](**short)
    white = attacks.run(attack, model, x, labels, threat, seed=3)
    assert white.fooled.any()
    transferred = attacks.run(Transferred(attack, model, 1), Victim(model, DECIDES), x, labels, threat, seed=3)
    for field in ("fooled", "queries", "step", "size", "x_adv"):
        assert torch.equal(getattr(white, field), getattr(transferred, field)), field
    assert (transferred.backwards == 0).all()


@pytest.mark.parametrize("every", [0, 1, 3, 4, 100])
def test_the_victim_is_asked_as_often_as_it_is_said(every):
    model, surrogate, x = net(seed=0), net(seed=1), images()
    labels = model(x).argmax(1)
    asked = []
    model.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    attack = Transferred(CATALOG["pgd"](steps=11), surrogate, every)  # twelve points
    result = attacks.run(attack, Victim(model, DECIDES), x, labels, "linf:1e-7")
    assert (result.queries == 1 + {0: 1, 1: 12, 3: 4, 4: 3, 100: 1}[every]).all()
    assert asked == [12] * int(result.queries[0])


def test_the_surrogate_being_fooled_stops_nothing_and_its_passes_are_not_counted():
    surrogate, x = net(seed=1), images()
    passes = []
    surrogate.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))

    class Firm(nn.Module):
        def forward(self, x):
            return torch.eye(5, dtype=x.dtype)[labels] * 5

    labels = surrogate(x).argmax(1)
    passes.clear()
    result = attacks.run(Transferred(CATALOG["pgd"](steps=9), surrogate), Firm(), x, labels, "linf:0.5")
    assert not result.fooled.any()
    assert passes == [12] * (1 + 10)  # one to see that it fits
    assert (result.queries == 2).all()


def test_rows_that_fall_leave_the_search_on_the_surrogate_too():
    model, x = net(), images(40)
    labels = model(x).argmax(1)
    attack = Transferred(CATALOG["bim"](steps=20, share=0.05), resembling(model), every=2)
    results = [
        attacks.run(attack, Victim(model, DECIDES), x, labels, "linf:0.06", compact_below=share)
        for share in (0.0, 0.75, 1.0)
    ]
    assert int(results[0].fooled.sum()) > 0
    assert len(results[0].step.unique()) > 3
    for other in results[1:]:
        assert_same(results[0], other)


def resembling(model):
    """The model with a little noise on its weights."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in other.parameters():
            spread = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.1 * parameter.std() * spread
    return other


@pytest.mark.parametrize("inner", ["mi_fgsm", "vmi_fgsm", "apgd", "square", "apgd_t"])
def test_what_is_found_on_a_similar_model_carries_over(inner):
    model, x = net(), images(40)
    surrogate, labels = resembling(model), model(x).argmax(1)
    short = {"square": {"queries": 200}, "apgd": {"steps": 20}, "apgd_t": {"steps": 10, "targets": 2}}
    attack = CATALOG[inner](**short.get(inner, {}))
    threat = "linf:0.1"
    white = attacks.run(attack, model, x, labels, threat).fooled.double().mean()
    over = attacks.run(Transferred(attack, surrogate), Victim(model, DECIDES), x, labels, threat).fooled.double().mean()
    assert white > 0.6
    assert over > 0.8 * white


def test_an_ensemble_is_a_surrogate():
    model, x = net(seed=0), images()
    labels = model(x).argmax(1)
    attack = Transferred(mi_fgsm(), Averaged(net(seed=1), net(seed=0), net(seed=2)))
    assert attacks.run(attack, Victim(model, DECIDES), x, labels, "linf:0.2").fooled.any()


def test_a_targeted_goal_is_reached_on_the_victim():
    model, x = net(seed=0), images()
    target = (model(x).argmax(1) + 1) % 5
    result = attacks.run(
        Transferred(mi_fgsm(), model), Victim(model, DECIDES), x, Goal(target, targeted=True), "linf:0.3"
    )
    assert result.fooled.any()
    assert torch.equal(model(result.x_adv).argmax(1)[result.fooled], target[result.fooled])


def test_it_stands_in_restarts_cascades_and_round_each_target():
    model, surrogate, x = net(seed=0), net(seed=1), images()
    labels = model(x).argmax(1)
    inner = CATALOG["pgd"](steps=5)
    twice = attacks.run(Restarts(Transferred(inner, surrogate), 2), Victim(model, DECIDES), x, labels, "linf:1e-7")
    inside = attacks.run(Transferred(Restarts(inner, 2), surrogate), Victim(model, DECIDES), x, labels, "linf:1e-7")
    assert (twice.queries == 3).all()
    assert (inside.queries == 2).all()
    row = Cascade((Transferred(inner, surrogate), CATALOG["gaussian_noise"](tries=3)))
    assert (attacks.run(row, Victim(model, DECIDES), x, labels, "linf:1e-7").queries == 5).all()
    each = Transferred(EachTarget(inner, 3), surrogate, every=6)
    assert attacks.run(each, Victim(model, DECIDES), x, labels, "linf:0.3").fooled.any()


def test_the_victim_need_only_decide_and_the_card_says_so():
    model, x = net(), images()
    labels = model(x).argmax(1)
    with pytest.raises(AccessError):
        attacks.run(mi_fgsm(), Victim(model, DECIDES), x, labels, "linf:0.1")
    attack = Transferred(CATALOG["fmn"](steps=5), model)
    assert attack.card.access is DECIDES
    assert attack.until == "smallest"
    with pytest.raises(InputError, match="l0"):
        attacks.run(Transferred(CATALOG["apgd"](), model), Victim(model, DECIDES), x, labels, "l0:3")


def test_a_candidate_outside_the_set_is_brought_back_to_it():
    """FMN's points lie outside a ball smaller than the distance; the victim is shown what is nearest inside."""
    model, x = net(), images()
    labels = model(x).argmax(1)
    shown = []
    model.register_forward_pre_hook(lambda _, given: shown.append(given[0].detach().clone()))
    surrogate = net()
    attacks.run(Transferred(CATALOG["fmn"](steps=10), surrogate), Victim(model, DECIDES), x, labels, "l2:0.01")
    assert ((shown[-1] - x).flatten(1).norm(dim=1) <= 0.01).all()


def test_the_surrogate_is_in_eval_mode_and_left_as_it_was():
    surrogate, model, x = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.3), net(seed=1)).double(), net(), images()
    labels = model(x).argmax(1)
    surrogate.train()
    surrogate[2].eval()
    modes = set()
    surrogate.register_forward_pre_hook(lambda module, _: modes.add((module.training, surrogate[1].training)))
    before = {name: tensor.clone() for name, tensor in surrogate.state_dict().items()}
    luck = torch.get_rng_state()
    for every in (0, 2):
        attacks.run(Transferred(mi_fgsm(), surrogate, every), Victim(model, DECIDES), x, labels, "linf:0.01")
    assert modes == {(False, False)}
    assert [module.training for module in surrogate] == [True, True, False]
    assert all(torch.equal(before[name], tensor) for name, tensor in surrogate.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in surrogate.parameters())
    assert torch.equal(torch.get_rng_state(), luck)


def test_between_two_questions_to_the_victim_the_surrogate_is_as_its_owner_left_it():
    surrogate, x = net(seed=1).train(), images()

    class Looking(nn.Module):
        def forward(self, z):
            assert surrogate.training
            assert all(parameter.requires_grad for parameter in surrogate.parameters())
            return torch.eye(5, dtype=z.dtype)[labels] * 5

    labels = surrogate(x).argmax(1)
    attacks.run(Transferred(CATALOG["pgd"](steps=6), surrogate, 2), Looking(), x, labels, "linf:0.1")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_surrogate_of_another_type_of_numbers_will_do(dtype):
    model, surrogate, x = net(), net().to(dtype), images()
    labels = model(x).argmax(1)
    result = attacks.run(Transferred(CATALOG["apgd"](steps=10), surrogate), Victim(model, DECIDES), x, labels, "l2:1")
    assert result.x_adv.dtype == torch.float64
    assert result.fooled.double().mean() > 0.5
    assert next(surrogate.parameters()).dtype == dtype


def test_a_surrogate_that_does_not_fit_is_told_so():
    model, x = net(classes=5), images()
    labels = torch.full((12,), 4)
    victim = Victim(model, DECIDES)

    def refused(surrogate, match, **options):
        with pytest.raises(InputError, match=match):
            attacks.run(Transferred(mi_fgsm(), surrogate, **options), victim, x, labels, "linf:0.1")

    refused(net(classes=4), r"surrogate has 4 classes.*class 4.*same order")
    refused(nn.Sequential(net(), nn.Softmax(1)), r"surrogate cannot be used.*probabilities.*LogProbabilities")
    refused(net().to("meta"), r"surrogate is on meta.*inputs are on cpu.*surrogate\.to\('cpu'\)")
    refused(nn.Sequential(net(classes=1), nn.Flatten(0)), r"one logit per row")
    with pytest.raises(InputError, match="every=-1"):
        Transferred(mi_fgsm(), model, every=-1)
    with pytest.raises(InputError, match="already"):
        Transferred(Transferred(mi_fgsm(), model), model)
    with pytest.raises(InputError, match=r"str.*nn\.Module"):
        Transferred(mi_fgsm(), "resnet18")  # type: ignore[arg-type]


def test_in_the_catalogue_it_takes_a_module_and_the_name_of_an_attack():
    model, x = net(), images()
    labels = model(x).argmax(1)
    attack = CATALOG["transferred"](surrogate=model, attack="di_fgsm", every=2)
    assert attack == Transferred(CATALOG["di_fgsm"](), model, 2)
    assert attacks.run(attack, Victim(model, DECIDES), x, labels, "linf:0.2").fooled.any()
    with pytest.raises(InputError, match=r"'digits'.*nn\.Module"):
        CATALOG["transferred"](surrogate="digits")
    with pytest.raises(InputError, match="mi_fgsn"):
        CATALOG["transferred"](surrogate=model, attack="mi_fgsn")
