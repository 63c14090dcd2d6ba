"""Do the norms' step, project and reach stay inside ball and box, and is what they find the best there?"""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.norms import NORMS, project_l1

WIDTHS = [1, 63, 1025]
DTYPES = [torch.float32, torch.float64]
EXACT = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}  # as numpy orders them


def size(name, delta):
    """[b] float64, measured by numpy."""
    return torch.from_numpy(np.linalg.norm(delta.double().numpy(), ord=EXACT[name], axis=1))


def radii(name, width):
    """Five, from 0 to inf."""
    middle = {"linf": 0.1, "l2": 0.1 * width**0.5, "l1": 0.1 * width, "l0": 0.3 * width + 1.7}[name]
    return torch.tensor([middle, 0.0, torch.inf, middle / 10, middle * 3], dtype=torch.float64)


def problem(name, width, dtype):
    """x, x_adv inside ball and box, direction, length, radius, low, high: a row of zeros, a mask, x on the faces."""
    g = torch.Generator().manual_seed(width)
    x = (torch.rand(5, width, generator=g, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1).to(dtype)
    direction = (torch.randn(5, width, generator=g, dtype=torch.float64) ** 3).to(dtype)
    direction[4] = 0
    low, high = torch.zeros_like(x), torch.ones_like(x)
    low[:, 1::3] = high[:, 1::3] = x[:, 1::3]
    radius = radii(name, width)
    if name == "linf":  # as the threat set does: the ball's faces, rounded inwards
        ball = radius[:, None]
        low = torch.maximum(low, torch.nextafter((x.double() - ball).to(dtype), x))
        high = torch.minimum(high, torch.nextafter((x.double() + ball).to(dtype), x))
    radius = radius.to(dtype)
    noise = torch.randn(5, width, generator=g, dtype=torch.float64).to(dtype)
    x_adv = NORMS[name].project(x, x + 0.05 * noise, radius, low, high)
    length = torch.tensor([0.3, 1.0, 2.0, torch.inf, 1.0], dtype=dtype) * radii(name, width).to(dtype)[0]
    return x, x_adv, direction, length, radius, low, high


def moved(name, width, dtype):
    """The results of step, project and reach."""
    x, x_adv, direction, length, radius, low, high = problem(name, width, dtype)
    norm = NORMS[name]
    yield norm.step(x, x_adv, direction, length, radius, low, high)
    yield norm.project(x, x + direction, radius, low, high)
    yield norm.reach(x, direction, radius, low, high)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NORMS)
def test_every_move_ends_inside_ball_and_box(name, width, dtype):
    x, _, _, _, radius, low, high = problem(name, width, dtype)
    hair = NORMS[name].hair(x, radius.double())
    for result in moved(name, width, dtype):
        assert result.dtype == dtype
        assert ((low <= result) & (result <= high)).all()
        assert (size(name, result.double() - x.double()) <= radius.double() + hair).all()


@pytest.mark.parametrize("name", NORMS)
def test_a_hair_is_finite_and_small_for_any_radius(name):
    x = torch.rand(3, 63, generator=torch.Generator().manual_seed(0))
    hair = NORMS[name].hair(x, torch.tensor([0.0, 1.0, torch.inf], dtype=torch.float64))
    assert hair.dtype == torch.float64
    assert ((hair >= 0) & (hair < 1e-4)).all()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NORMS)
def test_a_row_moves_the_same_in_any_company(name, width):
    rows = problem(name, width, torch.float32)
    x, x_adv, direction, length, radius, low, high = rows
    norm = NORMS[name]
    together = list(moved(name, width, torch.float32))
    for at in range(5):
        x, x_adv, direction, length, radius, low, high = (tensor[at : at + 1] for tensor in rows)
        alone = (
            norm.step(x, x_adv, direction, length, radius, low, high),
            norm.project(x, x + direction, radius, low, high),
            norm.reach(x, direction, radius, low, high),
        )
        for one, all_ in zip(alone, together, strict=True):
            assert torch.equal(one, all_[at : at + 1])


@pytest.mark.parametrize("name", NORMS)
def test_a_direction_of_zeros_moves_nothing(name):
    x, x_adv, direction, length, radius, low, high = problem(name, 63, torch.float64)
    nowhere = torch.zeros_like(direction)
    near = NORMS[name].step(x, x_adv, nowhere, length, radius, low, high)
    torch.testing.assert_close(near, x_adv, rtol=0, atol=1e-14)
    assert torch.equal(NORMS[name].reach(x, nowhere, radius, low, high), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["l2", "l1", "l0"])
def test_reach_goes_as_far_as_the_radius_or_the_box_allows(name, width, dtype):
    x, _, direction, _, radius, low, high = problem(name, width, dtype)
    reached = size(name, NORMS[name].reach(x, direction, radius, low, high).double() - x.double())
    # Entries too small beside the largest are lost in x + direction, and with them the way to their corner.
    corner = torch.where(direction > 0, high, low).where(direction.abs() > 1e-5 * direction.abs().amax(1, True), x)
    allowed = torch.minimum(size(name, corner.double() - x.double()), radius.double())
    assert (reached >= (allowed.floor() if name == "l0" else 0.99 * allowed)).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
@pytest.mark.parametrize("name", NORMS)
def test_reach_and_step_do_not_depend_on_the_size_of_the_direction(name, scale):
    x, x_adv, direction, length, radius, low, high = problem(name, 63, torch.float32)
    norm = NORMS[name]
    for before, after in (
        (norm.reach(x, d, radius, low, high) for d in (direction, scale * direction)),
        (norm.step(x, x_adv, d, length, radius, low, high) for d in (direction, scale * direction)),
    ):
        torch.testing.assert_close(before, after, rtol=0, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["linf", "l2", "l1"]), st.integers(0, 2**31), st.integers(1, 30), st.floats(0, 1), st.floats(-1, 2)
)
def test_no_point_of_ball_and_box_is_nearer_than_the_projection(name, seed, width, share, exponent):
    rng = np.random.default_rng(seed)
    x, low, high = rng.random((1, width)), np.zeros((1, width)), np.ones((1, width))
    radius = share * {"linf": 0.5, "l2": 0.5 * width**0.5, "l1": 0.3 * width}[name]
    z = x + 10**exponent * rng.standard_normal((1, width))
    z[:, ::4] = x[:, ::4] + 0.25  # ties
    near = NORMS[name].project(*(torch.from_numpy(a) for a in (x, z, np.array([radius]), low, high))).numpy()
    others = (rng.random((300, width)) - x) * (rng.random((300, width)) < rng.random((300, 1)))
    lengths = np.linalg.norm(others, ord=EXACT[name], axis=1, keepdims=True)
    others *= np.minimum(1, radius / np.maximum(lengths, 1e-300))
    # A convex set's nearest point p to z is known by (z - p) . (y - p) <= 0 for every y of the set.
    assert ((z - near) * (x + others - near)).sum(1).max() <= 1e-9 * (1 + np.abs(z).max())


def test_no_point_of_the_l0_ball_and_box_is_nearer_than_the_projection():
    g = torch.Generator().manual_seed(0)
    x, z = torch.rand(20, 6, generator=g), torch.rand(20, 6, generator=g) * 3 - 1
    low, high = torch.zeros_like(x), torch.ones_like(x)
    for count in range(7):
        near = NORMS["l0"].project(x, z, torch.full((20,), count + 0.7), low, high)
        best = torch.full((20,), torch.inf)
        for chosen in combinations(range(6), count):
            point = x.clone()
            point[:, chosen] = z[:, chosen].clamp(0, 1)
            best = torch.minimum(best, (point - z).norm(dim=1))
        torch.testing.assert_close((near - z).norm(dim=1), best)


def l1_by_bisection(x, z, radius, low, high):
    """The same projection, one row of numpy float64 at a time: a cut on the lengths, halved to rounding."""
    length, room = np.abs(z - x), np.where(z > x, high - x, x - low)

    def moves(cut):
        return np.clip(length - cut, 0, room)

    below, above = 0.0, length.max()
    if moves(0.0).sum() > radius:
        for _ in range(200):
            middle = (below + above) / 2
            below, above = (middle, above) if moves(middle).sum() > radius else (below, middle)
    else:
        above = 0.0
    return x + moves(above) * np.sign(z - x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("boxed", [True, False], ids=["box", "no_box"])
def test_the_l1_projection_is_that_found_by_bisection(width, dtype, boxed):
    x, _, direction, _, radius, low, high = problem("l1", width, dtype)
    direction[:, ::7] = direction[:, :1].clone()  # ties
    if not boxed:
        low, high = torch.full_like(x, -torch.inf), torch.full_like(x, torch.inf)
    z = x + direction
    near = project_l1(x, z, radius, low, high)
    for at in range(5):
        row = (tensor[at].double().numpy() for tensor in (x, z, radius, low, high))
        wanted = torch.from_numpy(l1_by_bisection(*row))
        rounding = 16 * torch.finfo(dtype).eps * z.abs().max().item()
        torch.testing.assert_close(near[at].double(), wanted, rtol=0, atol=rounding)


def test_an_l1_step_spends_its_length_on_the_steepest_coordinates_that_have_room():
    x = torch.full((1, 300), 0.5, dtype=torch.float64)
    low, high = torch.zeros_like(x), torch.ones_like(x)
    direction = torch.arange(300, 0, -1, dtype=torch.float64)[None]
    direction[:, 1] *= -1
    high[:, 0] = 0.5  # the steepest has no room
    length, radius = torch.tensor([0.6, 5.0], dtype=torch.float64).split(1)
    change = NORMS["l1"].step(x, x, direction, length, radius, low, high, progress=0.0) - x
    wanted = torch.zeros_like(x)
    wanted[0, 1:4] = torch.tensor([-0.2, 0.2, 0.2], dtype=torch.float64)
    torch.testing.assert_close(change, wanted, rtol=0, atol=1e-12)


def test_an_l0_step_moves_the_coordinates_that_gain_most_to_their_bounds():
    x = torch.tensor([[0.5, 0.9, 0.5, 0.2]])
    direction = torch.tensor([[1.0, 3.0, -2.0, 0.0]])
    low, high = torch.zeros_like(x), torch.ones_like(x)
    step = NORMS["l0"].step(x, x, direction, torch.tensor([2.0]), torch.tensor([9.0]), low, high)
    assert step.tolist() == [[1.0, torch.tensor(0.9).item(), 0.0, torch.tensor(0.2).item()]]
