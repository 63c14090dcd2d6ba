"""Is a threat set what it says: does a point belong to it exactly if it measures no more than eps in float64?"""

import math

import pytest
import torch

import attacks
from attacks import Goal, InputError, ThreatModel
from attacks.norms import NORMS

DTYPES = [torch.float32, torch.float64]
FACES = [8 / 255, 16 / 255, 0.1, 0.3, 1e-3, 2 / 255]

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*shape, low=0.0, high=1.0, dtype=torch.float32, seed=0):
    return (low + (high - low) * torch.rand(shape, generator=generator(seed), dtype=torch.float64)).to(dtype)


def measured(norm, x_adv, x):
    """[b] float64, by torch's own norm."""
    return torch.linalg.vector_norm(
        (x_adv.double() - x.double()).flatten(1), {"linf": math.inf, "l2": 2, "l1": 1}[norm], 1
    )


# -- text --


@pytest.mark.parametrize(
    ("text", "norm", "eps"),
    [
        ("linf:8/255", "linf", 8 / 255),
        ("linf:0.3", "linf", 0.3),
        ("l2:0.5", "l2", 0.5),
        ("l1:12", "l1", 12.0),
        ("l0:20", "l0", 20.0),
        ("linf:inf", "linf", math.inf),
        ("l2:0", "l2", 0.0),
        (" LInf:8/255 ", "linf", 8 / 255),
        ("l2:1e-3", "l2", 1e-3),
        ("linf: 16/255", "linf", 16 / 255),
        ("linf:5.3/255", "linf", 5.3 / 255),
        ("l2:1/3", "l2", 1 / 3),
    ],
)
def test_text_becomes_a_threat_model(text, norm, eps):
    threat = ThreatModel.parse(text)
    assert threat.norm.name == norm
    assert threat.eps == eps
    assert threat.bounds == (0.0, 1.0)
    assert threat == ThreatModel(NORMS[norm], eps)


def test_a_fraction_is_the_nearest_float64_to_it():
    for k in range(1, 256):
        assert ThreatModel.parse(f"linf:{k}/255").eps == k / 255


def test_the_four_functions_are_the_four_norms():
    for name in NORMS:
        assert getattr(attacks, name)(0.5) == ThreatModel.parse(f"{name}:0.5")
    assert attacks.l2(0.5, bounds=(-1.0, 1.0)) == ThreatModel.parse("l2:0.5", bounds=(-1.0, 1.0))


# -- the faces of the L-inf ball --


def assert_last_numbers_inside(x, set_, eps, low, high):
    """The faces are inside, by float64; the next number beyond is outside, unless a bound stopped the face."""
    for face, sign, bound in ((set_.low, -1, low), (set_.high, 1, high)):
        flat = x.flatten(1)
        distance = (face.double() - flat.double()) * sign
        assert (distance >= 0).all()
        assert (distance <= eps).all()
        beyond = torch.nextafter(face, torch.full_like(face, sign * math.inf))
        outside = (beyond.double() - flat.double()) * sign > eps
        if x.dtype == torch.float64:  # there the difference itself is rounded, once for the face and once for us
            outside |= eps - distance <= 2 * torch.finfo(x.dtype).eps * (flat.abs() + eps)
        assert (outside | (face == bound)).all()


@each_dtype
@pytest.mark.parametrize("eps", FACES)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-2.5, 3.0)])
def test_a_face_is_the_last_number_inside(eps, low, high, dtype):
    x = uniform(4, 500, low=low, high=high, dtype=dtype)
    x[0, :4] = torch.tensor([low, high, low + 1e-7, high - 1e-7], dtype=torch.float64).to(dtype).clamp(low, high)
    x[0, 4:7] = torch.tensor([0.5, 0.25, 1e-7])
    threat = attacks.linf(eps, bounds=(low, high)).around(x)
    assert_last_numbers_inside(x, threat, eps, low, high)


@pytest.mark.parametrize("eps", FACES)
def test_a_face_is_right_on_the_8_bit_grid_and_at_the_ends_of_the_range(eps):
    grid = (torch.arange(256) / 255)[None]
    tiny = torch.tensor([[0.0, 1.0, 1e-7, 1e-30, 1e-45, 1 - 2**-24]])
    for x in (grid, tiny):
        assert_last_numbers_inside(x, attacks.linf(eps).around(x), eps, 0.0, 1.0)


@each_dtype
@pytest.mark.parametrize("eps", FACES)
def test_projected_points_lie_on_the_faces_at_most(eps, dtype):
    x = uniform(4, 3, 8, 8, dtype=dtype)
    x[0], x[1] = 0.0, 1.0
    threat = attacks.linf(eps).around(x)
    far = threat.project(x + 100 * torch.randn(x.shape, generator=generator()).to(dtype).sign())
    assert (measured("linf", far, x) <= eps).all()
    assert (threat.size(far) == measured("linf", far, x)).all()
    assert ((far == threat.low.view_as(x)) | (far == threat.high.view_as(x))).all()
    assert torch.equal(threat.project(far), far)
    assert torch.equal(threat.project(x), x)


@each_dtype
def test_one_unit_in_the_last_place_beyond_a_face_is_outside(dtype):
    x = uniform(50, 7, low=0.4, high=0.6, dtype=dtype)
    threat = attacks.linf(0.1).around(x)
    for face, way in ((threat.low, -math.inf), (threat.high, math.inf)):
        assert (threat.size(face) <= 0.1).all()
        one_beyond = face.clone()
        one_beyond[:, 3] = torch.nextafter(face[:, 3], torch.tensor(way, dtype=dtype))
        assert threat.size(one_beyond).isinf().all()


def test_eps_per_row_gives_each_row_its_ball():
    eps = torch.tensor([0.0, 1e-3, 0.1, 8 / 255, 5.0, math.inf], dtype=torch.float64)
    x = uniform(6, 40)
    threat = attacks.linf(eps).around(x)
    far = threat.project(x + torch.randn(x.shape, generator=generator()) * 100)
    assert (measured("linf", far, x) <= eps).all()
    assert torch.equal(far[0], x[0])
    assert set(far[4:].flatten().tolist()) == {0.0, 1.0}
    for i in range(6):
        alone = attacks.linf(float(eps[i])).around(x[i : i + 1])
        assert torch.equal(alone.low[0], threat.low[i])
        assert torch.equal(alone.high[0], threat.high[i])


# -- bounds --


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_bounds_per_feature_and_per_row_hold(norm):
    x = uniform(5, 3, 4, 4, low=0.4, high=0.6)
    per_channel = (torch.tensor([0.3, 0.0, 0.39])[:, None, None], torch.tensor([0.61, 1.0, 0.7])[:, None, None])
    per_row = (torch.linspace(0.0, 0.4, 5)[:, None, None, None], torch.linspace(0.6, 0.9, 5)[:, None, None, None])
    everywhere = ((x - 0.01).clamp_min(0), (x + 0.02).clamp_max(1))
    for low, high in (per_channel, per_row, everywhere, (0.0, per_row[1])):
        model = ThreatModel(NORMS[norm], 5.0, (low, high))
        threat = model.around(x)
        direction = torch.randn(x.shape, generator=generator())
        length = torch.full((5,), 5.0)
        for point in (
            threat.project(x + 10 * direction),
            threat.reach(direction),
            threat.step(x, direction, length),
        ):
            assert (point >= low).all()
            assert (point <= high).all()
            assert threat.size(point).isfinite().all()
        beyond = x.clone()
        beyond[2, 1, 2, 3] = torch.nextafter(torch.as_tensor(high).expand_as(x)[2, 1, 2, 3], torch.tensor(9.0))
        assert threat.size(beyond).isinf().tolist() == [i == 2 for i in range(5)]


def test_bounds_in_float64_are_not_rounded_to_float32():
    x = torch.full((1, 2), 0.1, dtype=torch.float64)
    threat = attacks.linf(math.inf, bounds=(-0.3, 0.1)).around(x)
    assert threat.high.tolist() == [[0.1, 0.1]]
    assert threat.low.tolist() == [[-0.3, -0.3]]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_an_infinite_eps_leaves_only_the_bounds(norm):
    x = uniform(3, 20)
    threat = ThreatModel(NORMS[norm], math.inf).around(x)
    corner = (uniform(3, 20, seed=1) > 0.5).float()
    assert torch.equal(threat.project(x + (corner - x) * 1e6), corner)
    assert threat.size(corner).isfinite().all()


# -- L2 and L1 --


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("features", [1, 64, 3072])
@pytest.mark.parametrize("eps", [1e-3, 0.1, 0.5, 1.0, 10.0])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-math.inf, math.inf)])
def test_projected_points_never_measure_more_than_eps(norm, features, eps, low, high):
    finite = (max(low, -3.0), min(high, 255.0))
    x = uniform(24, features, low=finite[0], high=finite[1])
    x[0], x[1] = finite[0], finite[1]
    threat = ThreatModel(NORMS[norm], eps, (low, high)).around(x)
    direction = torch.randn(x.shape, generator=generator())
    points = [threat.project(x + direction * scale) for scale in (1e-6, eps / features, 0.1, 1.0, 300.0)]
    points += [threat.reach(direction), threat.step(points[2], direction, torch.full((24,), 2 * eps))]
    for point in points:
        size = measured(norm, point, x)
        assert (size <= eps).all(), float((size - eps).max())
        assert ((point >= low) & (point <= high)).all()
        torch.testing.assert_close(threat.size(point), size, rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@each_dtype
def test_a_projected_point_spends_nearly_all_of_eps(norm, dtype):
    x = uniform(8, 64, low=0.3, high=0.7, dtype=dtype)
    threat = ThreatModel(NORMS[norm], 0.25).around(x)
    size = measured(norm, threat.project(x + torch.randn(x.shape, generator=generator()).to(dtype)), x)
    assert (size > 0.25 * (1 - max(2e-12, 200 * torch.finfo(dtype).eps))).all()


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
def test_a_point_is_inside_to_the_last_bit_of_eps(norm):
    """One coordinate is moved by a power of two, so that the distance is exact; eps is it and its two neighbours."""
    x = torch.full((3, 4), 0.5)
    point = x.clone()
    point[:, 1] += 0.25
    eps = torch.tensor([math.nextafter(0.25, 0), 0.25, math.nextafter(0.25, 1)], dtype=torch.float64)
    assert ThreatModel(NORMS[norm], eps).around(x).size(point).tolist() == [math.inf, 0.25, 0.25]
    point[:, 1] = torch.nextafter(point[:, 1], torch.tensor(1.0))
    assert ThreatModel(NORMS[norm], eps).around(x).size(point).isinf().all()


def test_l0_counts_coordinates():
    x = uniform(2, 10)
    point = x.clone()
    point[0, :3] = 0.0
    point[1, :4] = 0.0
    assert attacks.l0(3).around(x).size(point).tolist() == [3, math.inf]
    assert attacks.l0(3.7).around(x).size(point).tolist() == [3, math.inf]


@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_point_that_is_not_finite_is_outside(norm, bad):
    x = uniform(3, 10)
    point = x.clone()
    point[1, 4] = bad
    for eps in (0.5, math.inf):
        assert ThreatModel(NORMS[norm], eps).around(x).size(point).tolist() == [0, math.inf, 0]


@pytest.mark.parametrize("norm", list(NORMS))
def test_with_eps_zero_the_set_is_the_input(norm):
    x = uniform(4, 30)
    threat = ThreatModel(NORMS[norm], 0.0).around(x)
    direction = torch.randn(x.shape, generator=generator())
    assert torch.equal(threat.project(x + direction), x)
    assert torch.equal(threat.reach(direction), x)
    assert threat.size(x).tolist() == [0] * 4


# -- levels --


def grid(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=generator(seed)) / 255


@each_dtype
@pytest.mark.parametrize("steps", [0, 1, 4, 8, 16])
def test_on_the_grid_linf_allows_whole_levels_and_all_of_them(steps, dtype):
    x = torch.arange(256, dtype=dtype)[None] / 255
    threat = attacks.linf(steps / 255, levels=255).around(x)
    up, down = (threat.shown(threat.project(x + way)) for way in (1.0, -1.0))
    k = torch.arange(256)
    assert torch.equal((up[0].double() * 255).round().long(), (k + steps).clamp_max(255))
    assert torch.equal((down[0].double() * 255).round().long(), (k - steps).clamp_min(0))
    for shown in (up, down):
        assert torch.equal(shown, ((shown * 255).round() / 255))
        assert threat.size(shown).tolist() == [steps / 255]
    one_more = x.clone()
    one_more[0, 100] += (steps + 1) / 255
    assert threat.size(one_more).isinf().all()


def test_on_the_grid_an_eps_between_two_levels_allows_the_lower():
    x = grid(3, 50)
    for eps, steps in ((0.03, 7), (7.999 / 255, 7), (0.5 / 255, 0), (0.1, 25)):
        threat = attacks.linf(eps, levels=255).around(x)
        shown = threat.shown(threat.project(x + torch.randn(x.shape, generator=generator())))
        moved = ((shown.double() - x.double()) * 255).round().abs().amax(1)
        assert moved.tolist() == [steps] * 3
        assert threat.size(shown).isfinite().all()


@pytest.mark.parametrize("eps", [0.05, 0.5, 1.0, 3.0])
def test_on_the_grid_l2_candidates_are_grid_points_inside(eps):
    x = grid(16, 3, 8, 8)
    threat = attacks.l2(eps, levels=255).around(x)
    for seed in range(5):
        direction = torch.randn(x.shape, generator=generator(seed))
        shown = threat.shown(threat.project(x + direction))
        levels = (shown.double() * 255).round()
        assert torch.equal((levels / 255).float(), shown)
        steps = (levels - (x.double() * 255).round()).flatten(1)
        assert (steps.square().sum(1) <= (255 * eps) ** 2 + 1e-9).all()
        torch.testing.assert_close(threat.size(shown), steps.square().sum(1).sqrt() / 255, rtol=1e-12, atol=0)


def test_on_the_grid_what_is_shown_is_never_further_from_the_input():
    x = grid(8, 100)
    for name in ("linf", "l2", "l1"):
        threat = ThreatModel(NORMS[name], 0.4, levels=255).around(x)
        point = threat.project(x + 0.1 * torch.randn(x.shape, generator=generator()))
        shown = threat.shown(point)
        assert ((shown.double() - x.double()).abs() <= (point.double() - x.double()).abs() + 1e-5).all()
        assert threat.size(shown).isfinite().all()


def test_without_levels_a_candidate_is_shown_as_it_is():
    x = uniform(3, 10)
    assert attacks.linf(0.1).around(x).shown(x) is x


# -- keep --


@pytest.mark.parametrize("norm", list(NORMS))
def test_a_set_of_kept_rows_is_the_set_of_those_rows(norm):
    x = uniform(6, 3, 4, 4)
    eps = torch.linspace(0.01, 4.0, 6, dtype=torch.float64)
    mask = (uniform(6, 3, 4, 4, seed=3) > 0.3).float()
    threat = ThreatModel(NORMS[norm], eps, mask=mask).around(x)
    rows = torch.tensor([4, 1, 5])
    kept = threat.keep(rows)
    direction = torch.randn(x.shape, generator=generator())
    point = threat.project(x + direction)
    assert torch.equal(kept.x, x[rows])
    assert torch.equal(kept.project(x[rows] + direction[rows]), point[rows])
    assert torch.equal(kept.reach(direction[rows]), threat.reach(direction)[rows])
    assert torch.equal(kept.size(point[rows]), threat.size(point)[rows])
    assert torch.equal(threat.size(point[rows], rows), threat.size(point)[rows])
    assert len(kept.keep(torch.tensor([], dtype=torch.int64)).x) == 0


def test_a_threat_model_of_some_rows_is_cut_where_it_is_per_example():
    x = uniform(4, 3, 2, 2)
    eps = torch.linspace(0.1, 0.4, 4)
    shared, own = torch.ones(3, 2, 2), torch.ones(4, 1, 1, 1)
    part = attacks.linf(eps, bounds=(0.0, own), mask=shared).keep(slice(1, 3), x)
    assert torch.equal(torch.as_tensor(part.eps), eps[1:3].double())
    assert torch.as_tensor(part.bounds[1]).shape == (2, 1, 1, 1)
    assert part.bounds[0] == 0.0
    assert part.mask is shared
    whole = attacks.linf(0.1)
    assert whole.keep(slice(1, 3), x) == whole


# -- masks --


@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("kind", [torch.float32, torch.bool, torch.int64])
def test_where_the_mask_is_zero_nothing_moves(norm, kind):
    x = uniform(4, 3, 5, 5)
    mask = torch.zeros(3, 5, 5, dtype=kind)
    mask[:, 1:4, 1:4] = 1
    threat = ThreatModel(NORMS[norm], 3.0, mask=mask).around(x)
    direction = torch.randn(x.shape, generator=generator())
    still = (mask == 0).expand_as(x)
    for point in (
        threat.project(x + direction),
        threat.reach(direction),
        threat.step(x, direction, torch.full((4,), 3.0), progress=0.5),
    ):
        assert torch.equal(point[still], x[still])
        assert (point[~still] != x[~still]).any()
        assert threat.size(point).isfinite().all()
    one = x.clone()
    one[1, 0, 0, 0] = torch.nextafter(one[1, 0, 0, 0], torch.tensor(2.0))
    assert threat.size(one).isinf().tolist() == [False, True, False, False]


def test_a_mask_may_be_per_row():
    x = uniform(3, 8)
    mask = torch.eye(3, 8)
    threat = attacks.linf(1.0, mask=mask).around(x)
    assert torch.equal((threat.project(1 - x) != x).float(), mask)


def test_a_mask_of_zeros_leaves_the_input_alone():
    x = uniform(2, 8)
    for norm in NORMS.values():
        threat = ThreatModel(norm, 1.0, mask=torch.zeros(8)).around(x)
        assert torch.equal(threat.reach(torch.ones_like(x)), x)
        assert torch.equal(threat.step(x, torch.ones_like(x), torch.ones(2)), x)


# -- goals --


def test_a_goal_is_reached_away_from_the_labels_or_at_the_targets():
    predicted, labels = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2])
    assert Goal(labels).reached(predicted).tolist() == [False, True, False]
    assert Goal(labels, targeted=True).reached(predicted).tolist() == [True, False, True]


def test_a_goal_keeps_labels_and_rivals_together():
    goal = Goal(torch.arange(5), targeted=True, versus=torch.arange(5) + 10).keep(torch.tensor([3, 0]))
    assert goal.labels.tolist() == [3, 0]
    assert goal.versus is not None
    assert goal.versus.tolist() == [13, 10]
    assert goal.targeted


def test_a_goal_for_no_rows_fits_no_rows():
    Goal(torch.zeros(0, dtype=torch.int64)).check(0, classes=3)
    with pytest.raises(InputError):
        Goal(torch.zeros(0, dtype=torch.int64)).check(1)
