"""Patches: do they stay in their square, do they fool, and does one that was trained fool images it has not seen?"""

import math

import pytest
import torch
from torch import nn

import attacks
from attacks import CATALOG, Access, Goal, InputError, Victim
from attacks.gradient.patch import STATED, PatchAttack
from attacks.gradient.placing import Placing
from attacks.gradient.trained_patch import Patch, train_patch
from attacks.images import turned

EVEN = Placing(rotate=0.0, smallest=1.0)


class Corners(nn.Module):
    """How bright is the brightest small window? Class 1 if more than `enough`; each row by itself."""

    def __init__(self, enough=0.9, size=3):
        super().__init__()
        self.enough, self.pool = enough, nn.AvgPool2d(size, stride=1)

    def forward(self, x):
        return torch.stack((torch.full_like(x[:, 0, 0, 0], self.enough), self.pool(x).amax((1, 2, 3))), 1) * 10


def net(classes=4, seed=0):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layers = nn.Conv2d(3, 12, 5, 2, 2), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(48, classes)
        model = nn.Sequential(*layers).eval()
    x = images(64)
    with torch.no_grad():
        model[-1].bias -= model(x).mean(0)
    return model


def images(rows=8, channels=3, height=16, width=16, seed=1):
    return torch.rand(rows, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 0.5 + 0.25


def pattern(rows=1, channels=3, side=5, seed=2):
    return torch.rand(rows, channels, side, side, generator=torch.Generator().manual_seed(seed))


class Recording(nn.Module):
    """Is never fooled, keeps what it is shown, and has a gradient."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, x):
        self.shown.append(x.detach().clone())
        weight = torch.linspace(-1, 1, x[0].numel(), dtype=x.dtype)
        down = -(x.flatten(1) * weight).sum(1).square() * 1e-3 - 5
        return torch.stack((torch.zeros_like(down), down), 1)


# -- laying it on --


@pytest.mark.parametrize("side", [1, 4, 5, 16])
@pytest.mark.parametrize("shape", [(16, 16), (16, 23)])
def test_an_upright_patch_is_its_pattern_in_a_square_and_touches_nothing_outside(side, shape):
    x, on = images(40, 3, *shape), pattern(40, 3, side)
    luck = torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
    luck[:5] = torch.tensor([(0.5, 0.0, *place) for place in STATED])
    laid = EVEN.lay(on, x, luck)
    seen = set()
    for row, one, image, place in zip(x, on, laid, luck.double(), strict=True):
        top = min(int(place[2] * (shape[0] - side + 1)), shape[0] - side)
        left = min(int(place[3] * (shape[1] - side + 1)), shape[1] - side)
        expected = row.clone()
        expected[:, top : top + side, left : left + side] = one
        assert torch.equal(image, expected)
        seen.add((top, left))
    assert {(0, 0), (shape[0] - side, shape[1] - side)} <= seen


def test_a_turned_patch_is_the_turned_pattern_and_lies_within_the_image():
    x, on = torch.zeros(60, 1, 31, 31), torch.ones(60, 1, 9, 9)
    placing = Placing(rotate=180.0, smallest=0.5)
    luck = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    covered = placing.lay(on, x, luck).flatten(1).sum(1)
    expected = (9 * (1 - 0.5 * luck[:, 1])).square()
    assert ((covered - expected).abs() < 0.25 * expected + 3).all()  # all of it, up to its rim
    assert float((covered.sum() / expected.sum() - 1).abs()) < 0.02
    quarter = torch.tensor([[0.75, 0.0, 0.5, 0.5]])  # 90 degrees counterclockwise
    laid = placing.lay(pattern(1, 1, 9), x[:1], quarter)
    assert torch.equal(laid[:, :, 11:20, 11:20], torch.rot90(pattern(1, 1, 9), 1, (2, 3)))
    askew = torch.tensor([[0.5 + 30 / 360, 0.0, 0.5, 0.5]])
    laid = placing.lay(pattern(1, 1, 9), x[:1], askew)
    whole = EVEN.lay(pattern(1, 1, 9), x[:1], torch.tensor([[0.5, 0.0, 0.5, 0.5]]))
    half = 4.5 * (math.cos(math.pi / 6) + math.sin(math.pi / 6))
    moved = torch.tensor([9 + half - 0.5 - 15], dtype=torch.float64)  # the corners of the upright square round it
    spun = turned(whole, torch.tensor([30.0], dtype=torch.float64), moved, moved)
    torch.testing.assert_close(laid[:, :, 13:18, 13:18], spun[:, :, 13:18, 13:18], rtol=0, atol=1e-5)


def test_only_the_first_rows_and_columns_are_used_where_a_side_is_given():
    x, on = images(3), pattern(3, 3, 5)
    luck = torch.tensor([[0.5, 0.0, 0.0, 0.0]]).expand(3, -1)
    laid = EVEN.lay(on, x, luck, torch.tensor([0, 2, 5]))
    assert torch.equal(laid[0], x[0])
    assert torch.equal(laid[1, :, :2, :2], on[1, :, :2, :2])
    assert torch.equal(laid[1, :, 2:], x[1, :, 2:])
    assert torch.equal(laid[2, :, :5, :5], on[2])


def test_laying_is_linear_in_the_pattern_and_its_gradient_exact():
    x, on = images(2, 1, 9, 9).double(), pattern(2, 1, 4).double().requires_grad_()
    luck = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda p: Placing(90.0, 0.6).lay(p, x, luck), (on,))


# -- per image --


def test_what_it_shows_differs_from_the_image_in_one_square():
    x, model = images(4), Recording()
    attack = PatchAttack(side=0.25, steps=5, tries=3, rotate=0.0, smallest=1.0)
    result = attacks.run(attack, model, x, torch.zeros(4, dtype=torch.int64), "linf:inf")
    assert (result.queries == 1 + 5 * 3 + 5).all()
    assert (result.backwards == 5 * 3).all()
    tried = torch.cat([each.unflatten(0, (-1, 4)) for each in model.shown[1:]])
    changed = (tried != x).any(2)  # [tries, b, H, W]
    for one in changed.flatten(0, 1):
        down, right = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
        assert len(down) == len(right) == 4
        assert int(down[-1] - down[0]) == int(right[-1] - right[0]) == 3
        assert one.sum() == 16
    places = {(int(one.any(1).nonzero()[0]), int(one.any(0).nonzero()[0])) for one in changed[:-5].flatten(0, 1)}
    assert len(places) > 20
    assert ((tried >= 0) & (tried <= 1)).all()


def test_when_the_steps_are_over_it_is_judged_in_the_middle_and_the_corners():
    x, model = images(2), Recording()
    attacks.run(PatchAttack(side=0.25, steps=2), model, x, torch.zeros(2, dtype=torch.int64), "linf:inf")
    last = model.shown[-1].unflatten(0, (5, 2))
    for (top, left), one in zip([(6, 6), (0, 0), (0, 12), (12, 0), (12, 12)], last, strict=True):
        outside = (one != x).any(1)
        outside[:, top : top + 4, left : left + 4] = False
        assert not outside.any()
        assert torch.equal(one[:, :, top : top + 4, left : left + 4], last[0][:, :, 6:10, 6:10])


def test_a_bright_patch_is_found_where_brightness_decides():
    x, model = images(8, 1), Corners()
    labels = model(x).argmax(1)
    assert (labels == 0).all()
    result = attacks.run(PatchAttack(side=0.3, steps=40), model, x, labels, "linf:inf")
    assert result.fooled.all()
    small = attacks.run(PatchAttack(side=0.1, steps=40), model, x, labels, "linf:inf")  # 2 x 2 of a window of 3 x 3
    assert not small.fooled.any()


def test_it_reaches_targets_that_random_patches_miss():
    model, x = net(), images(24)
    target = Goal((model(x).argmax(1) + 1) % 4, targeted=True)
    result = attacks.run(PatchAttack(side=0.3, steps=40), model, x, target, "linf:inf")
    random = attacks.run(Patch(pattern(1, 3, 5)[0], tries=165), model, x, target, "linf:inf")
    assert result.fooled.double().mean() > 0.95
    assert random.fooled.double().mean() < 0.8
    assert torch.equal(model(result.x_adv).argmax(1)[result.fooled], target.labels[result.fooled])


@pytest.mark.parametrize("coordinates", [3, 12, 27, 40])
def test_under_l0_the_square_has_no_more_coordinates_than_allowed(coordinates):
    model, x = net(), images(8)
    labels = model(x).argmax(1)
    result = attacks.run(PatchAttack(side=0.5, steps=30), model, x, labels, f"l0:{coordinates}")
    assert ((result.x_adv != x).flatten(1).sum(1) <= coordinates).all()
    recording = Recording()
    attack = PatchAttack(side=0.5, steps=2, rotate=0.0, smallest=1.0)
    attacks.run(attack, recording, x, torch.zeros(8, dtype=torch.int64), f"l0:{coordinates}")
    side = int((coordinates / 3) ** 0.5)
    for shown in recording.shown[1:]:
        changed = (shown.unflatten(0, (-1, 8)) != x).any(2).flatten(2).sum(2)
        assert (changed == side * side).all()


def test_under_a_mask_of_its_own_shape_the_patch_is_the_mask():
    model, x = net(), images(12)
    labels = model(x).argmax(1)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 3:9, 4:12] = 1
    mask[..., 5, 5] = 0
    threat = attacks.linf(math.inf, mask=mask)
    result = attacks.run(PatchAttack(shape="mask", steps=40), model, x, labels, threat)
    assert result.fooled.any()
    assert (((result.x_adv != x) & (mask == 0)).sum()) == 0
    with pytest.raises(InputError, match=r"shape='mask'.*there is none"):
        attacks.run(PatchAttack(shape="mask"), model, x, labels, "linf:inf")


@pytest.mark.parametrize("threat", ["linf:0.2", "l2:1.0", "l1:6", "linf:inf", "l2:inf", "l1:inf"])
def test_in_any_ball_it_stays_within_it_and_in_its_square(threat):
    x, model = images(4), Recording()
    attack = PatchAttack(side=0.25, steps=3, tries=2, rotate=0.0, smallest=1.0)
    attacks.run(attack, model, x, torch.zeros(4, dtype=torch.int64), threat)
    within = attacks.ThreatModel.parse(threat).around(x)
    for shown in model.shown[1:]:
        for one in shown.unflatten(0, (-1, 4)):
            assert within.size(one).isfinite().all()
            assert ((one != x).any(1).flatten(1).sum(1) <= 16).all()


@pytest.mark.parametrize("budget", [3, 8, 14])
def test_a_budget_that_cuts_the_tries_short_ends_the_search(budget):
    model, x = Recording(), images(4)
    labels = torch.zeros(4, dtype=torch.int64)
    result = attacks.run(PatchAttack(steps=5), model, x, labels, "linf:inf", max_queries=budget)
    assert (result.queries == budget).all()
    result = attacks.run(PatchAttack(steps=5), model, x, labels, "linf:inf", max_backwards=budget)
    assert (result.backwards <= budget).all()


# -- one for all --


@pytest.fixture(scope="module")
def towards_two():
    model, x = net(), images(96, seed=5)
    goal = Goal(torch.full((96,), 2), targeted=True)
    return model, train_patch(model, x, goal, side=0.5, steps=60, batch_size=32, rotate=10.0, tries=1)


def test_a_trained_patch_fools_images_it_has_not_seen_and_a_random_one_does_not(towards_two):
    model, patch = towards_two
    x = images(80, seed=77)
    goal = Goal(torch.full((80,), 2), targeted=True)
    assert patch.pattern.shape == (3, 8, 8)
    assert ((patch.pattern >= 0) & (patch.pattern <= 1)).all()
    clean = (model(x).argmax(1) == 2).double().mean()
    trained = attacks.run(patch, Victim(model, Access.DECISION), x, goal, "linf:inf").fooled.double().mean()
    random = Patch(pattern(1, 3, 8)[0], tries=1, rotate=10.0)
    chance = attacks.run(random, Victim(model, Access.DECISION), x, goal, "linf:inf").fooled.double().mean()
    assert clean < 0.5
    assert trained > 0.8
    assert trained > chance + 0.3


def test_the_same_seed_gives_the_same_patch_and_batches_will_do(towards_two):
    model, _ = towards_two
    x = images(20)
    labels = model(x).argmax(1)
    one, same, other = (train_patch(model, x, labels, steps=3, batch_size=8, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.pattern, same.pattern)
    assert not torch.equal(one.pattern, other.pattern)
    pairs = [(x[i : i + 8], labels[i : i + 8]) for i in (0, 8, 16)]
    assert torch.equal(train_patch(model, pairs, steps=3, seed=3).pattern, one.pattern)
    away = train_patch(model, images(64, seed=5), model(images(64, seed=5)).argmax(1), side=0.4, steps=40)
    unseen = images(60, seed=8)
    result = attacks.run(away, model, unseen, model(unseen).argmax(1), "linf:inf")
    assert result.fooled.double().mean() > 0.5


def test_as_an_attack_it_treats_each_row_by_itself(towards_two):
    model, patch = towards_two
    model = model.double()
    x = images(9).double()
    labels = model(x).argmax(1)
    whole = attacks.run(Patch(patch.pattern, tries=4), model, x, labels, "linf:inf", seed=3)
    parts = attacks.run(Patch(patch.pattern, tries=4), model, x, labels, "linf:inf", seed=3, batch_size=2)
    for field in ("fooled", "queries", "step", "x_adv"):
        assert torch.equal(getattr(whole, field), getattr(parts, field)), field
    assert whole.x_adv.dtype == torch.float64
    assert (whole.backwards == 0).all()
    model.float()


def test_training_leaves_the_model_and_the_caller_as_they_were():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), net()).train()
    x = images(16)
    labels = torch.zeros(16, dtype=torch.int64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    luck, given = torch.get_rng_state(), x.clone()
    with torch.inference_mode():
        patch = train_patch(model, x, labels, steps=2)
    assert not patch.pattern.is_inference()
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), luck)
    assert torch.equal(x, given)
    assert not patch.pattern.requires_grad


def test_bounds_of_the_data_are_those_of_the_pattern():
    x = images(8) * 4 - 3
    patch = train_patch(net(), x, torch.zeros(8, dtype=torch.int64), steps=3, bounds=(-3.0, 1.0))
    assert float(patch.pattern.min()) < 0
    assert ((patch.pattern >= -3) & (patch.pattern <= 1)).all()


@pytest.mark.parametrize(
    ("make_it", "says"),
    [
        (lambda: PatchAttack(side=0.0), "side=0"),
        (lambda: PatchAttack(tries=0), "tries=0"),
        (lambda: PatchAttack(rotate=200.0), "rotate=200"),
        (lambda: PatchAttack(smallest=0.0), "smallest"),
        (lambda: PatchAttack(shape="circle"), "circle"),  # type: ignore[arg-type]
        (lambda: PatchAttack(loss="hinge"), "hinge"),
        (lambda: Patch(torch.zeros(3, 4, 5)), r"\[C, S, S\]"),
        (lambda: Patch(torch.zeros(3, 4, 4), tries=0), "tries=0"),
        (lambda: train_patch(net(), images()), "without labels"),
        (lambda: train_patch(net(), images(), torch.zeros(3, dtype=torch.int64)), r"int64 \[8\]"),
        (lambda: train_patch(net(), images() + 1, torch.zeros(8, dtype=torch.int64)), "bounds are 0 to 1"),
        (lambda: train_patch(net(), iter([(images(), torch.zeros(8, dtype=torch.int64))])), "ended after 1 of 200"),
        (lambda: train_patch(net(), [], torch.zeros(8, dtype=torch.int64)), "each batch brings its own"),
        (lambda: train_patch(net(), images(), torch.zeros(8, dtype=torch.int64), rate=0.0), "rate=0"),
        (lambda: train_patch(net(), images(), torch.zeros(8, dtype=torch.int64), bounds=(0.0, math.inf)), "finite"),
        (lambda: train_patch(net(), images().flatten(1), torch.zeros(8, dtype=torch.int64)), r"images \[B, C, H, W\]"),
        (
            lambda: train_patch(Victim(net(), Access.DECISION), images(), torch.zeros(8, dtype=torch.int64)),
            "needs GRADIENT",
        ),
    ],
)
def test_bad_options_are_refused(make_it, says):
    with pytest.raises(InputError, match=says):
        make_it()


def test_what_does_not_fit_is_told():
    model, x = net(), images(4)
    labels = model(x).argmax(1)
    with pytest.raises(InputError, match="does not fit"):
        attacks.run(Patch(torch.zeros(1, 4, 4)), model, x, labels, "linf:inf")
    with pytest.raises(InputError, match="does not fit"):
        attacks.run(Patch(torch.zeros(3, 17, 17)), model, x, labels, "linf:inf")
    with pytest.raises(InputError, match=r"bounds do not say.*finite"):
        attacks.run("patch", model, x, labels, attacks.linf(math.inf, bounds=(0.0, math.inf)))
    assert CATALOG["patch"]() == PatchAttack()
