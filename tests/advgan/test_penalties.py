"""Do penalties price each row's slope as they say, in all games, with and without a second derivative?"""

import math

import pytest
import torch
from torch import Tensor, nn

from advgan.penalties import PENALTIES, GradientPenalty, R1R2Difference, named, squared_difference
from attacks.errors import InputError

SHAPES = [(3,), (1, 4, 4), (2, 3, 3)]
EXACT = ["r1", "r2", "r1r2", "gradient"]
TWINS = {"r1_difference": "r1", "r2_difference": "r2", "r1r2_difference": "r1r2"}


class Smooth(nn.Module):
    """A small critic with curvature, in float64."""

    def __init__(self, size: int, classes: int | None = None):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, 1)).double()
            self.of_class = nn.Embedding(classes, size).double() if classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        score = self.body(x)[:, 0]
        return score if self.of_class is None else score + (self.of_class(labels) * x.flatten(1)).sum(1)


def draw_from(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.rand(shape, generator=generator)


def priced(name: str, critic, real: Tensor, fake: Tensor, labels=None, weight: float = 1.0, draw=None) -> Tensor:
    real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
    penalty = named(name, weight)
    return penalty(critic, real, fake, labels, critic(real, labels), critic(fake, labels), draw or draw_from(0))


def points(shape: tuple[int, ...], count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    real, fake = (torch.randn(count, *shape, generator=draw, dtype=torch.float64) for _ in range(2))
    return real, fake


def row_slope(critic, x: Tensor, labels=None) -> Tensor:
    """[b, d], one row at a time, by central differences."""
    step, rows = 1e-5, []
    for k in range(len(x)):
        given = None if labels is None else labels[k : k + 1].expand(2 * x[k].numel())
        moves = step * torch.eye(x[k].numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
        up, down = critic(torch.cat([x[k] + moves, x[k] - moves]), given).chunk(2)
        rows.append((up - down) / (2 * step))
    return torch.stack(rows).detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_centred_penalties_are_half_the_weight_times_the_squared_slope_of_each_row(shape):
    critic, (real, fake) = Smooth(math.prod(shape)), points(shape)
    at_real, at_fake = (row_slope(critic, x).square().sum(1) for x in (real, fake))
    for name, wanted in (("r1", at_real), ("r2", at_fake), ("r1r2", at_real + at_fake)):
        found = priced(name, critic, real, fake, weight=3.0)
        assert found.shape == (6,)
        torch.testing.assert_close(found.detach(), 1.5 * wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_penalty_takes_a_norm_and_a_point_of_its_own_for_each_row(shape):
    critic, (real, fake) = Smooth(math.prod(shape)), points(shape)
    share = draw_from(0)((6, *[1] * len(shape))).double()
    assert len(set(share.flatten().tolist())) == 6
    norm = row_slope(critic, real + share * (fake - real)).square().sum(1).sqrt()
    torch.testing.assert_close(
        priced("gradient", critic, real, fake, weight=10.0).detach(), 10 * (norm - 1).square(), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("name", PENALTIES)
def test_a_row_is_priced_alone_whatever_else_is_in_the_batch(name):
    """Neither one norm over the batch nor a mean before the derivative, which would divide by the batch."""
    critic, (real, fake) = Smooth(16), points((1, 4, 4))
    numbers = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(3))

    def of(rows: slice) -> Tensor:
        def draw(shape):  # numbers that belong to the row
            return numbers[rows][tuple(slice(0, n) for n in (len(real[rows]), *shape[1:]))]

        return priced(name, critic, real[rows], fake[rows], draw=draw)

    together = of(slice(0, 6)).detach()
    assert together.shape == (6,)
    for k in range(6):
        torch.testing.assert_close(of(slice(k, k + 1)).detach(), together[k : k + 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EXACT)
def test_the_second_derivative_reaches_the_critics_weights(name):
    """Autograd through the penalty against finite differences of the weights: it needs create_graph."""
    critic, (real, fake) = Smooth(3), points((3,))
    weight = next(critic.body.parameters())
    (found,) = torch.autograd.grad(priced(name, critic, real, fake).sum(), weight)
    wanted, step = torch.zeros_like(found), 1e-5
    for place in range(weight.numel()):
        ends = []
        for move in (step, -step):
            with torch.no_grad():
                weight.view(-1)[place] += move
            ends.append(priced(name, critic, real, fake).sum().item())
            with torch.no_grad():
                weight.view(-1)[place] -= move
        wanted.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
    assert found.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_leaves_no_gradient_on_the_samples_and_does_not_touch_the_generator(name):
    critic, (real, _) = Smooth(3), points((3,))
    generator = nn.Linear(3, 3).double()
    given, fake = real.clone(), generator(real)
    (priced(name, critic, given, fake).sum() + 0 * critic(given).sum()).backward()
    assert given.grad is None
    assert all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize("name", PENALTIES)
def test_labels_reach_the_critic(name):
    critic, (real, fake) = Smooth(3, classes=2), points((3,))
    zeros, ones = torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.int64)
    as_zero, as_one = (priced(name, critic, real, fake, labels).detach() for labels in (zeros, ones))
    assert bool((as_zero == as_one).all()) is (name == "none")
    if name == "r1":
        wanted = row_slope(critic, real, ones).square().sum(1) / 2
        torch.testing.assert_close(as_one, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [*EXACT, *TWINS])
def test_a_critic_that_says_the_same_of_everything_has_finite_gradients(name):
    """The norm has no derivative at a slope of zero: a bare square root gives NaN there."""
    critic, (real, fake) = nn.Linear(3, 1).double(), points((3,))
    nn.init.zeros_(critic.weight)
    price = priced(name, lambda x, labels: critic(x)[:, 0], real, fake)
    assert price.tolist() == [float(name == "gradient")] * 6
    (gradient,) = torch.autograd.grad(price.sum(), critic.weight)
    assert gradient.isfinite().all()


def test_a_linear_critic_is_priced_by_its_weights():
    slope = torch.tensor([3.0, -4.0], dtype=torch.float64)
    real, fake = points((2,))
    wanted = {"none": 0.0, "r1": 12.5, "r2": 12.5, "r1r2": 25.0, "gradient": 16.0}
    for name, price in wanted.items():
        found = priced(name, lambda x, labels: x @ slope, real, fake)
        assert found.tolist() == pytest.approx([price] * 6)


def test_the_default_weight_of_the_gradient_penalty_is_the_papers():
    assert GradientPenalty().weight == 10


def test_the_difference_of_a_linear_critic_is_the_square_of_its_slope_on_average():
    """(slope . e)^2 is (3 + 4)^2 or (3 - 4)^2, each half of the time: 25 on average, at any sigma."""
    slope = torch.tensor([3.0, -4.0], dtype=torch.float64)
    x = torch.randn(40_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for sigma in (1e-3, 1.0):
        found = squared_difference(lambda x, labels: x @ slope, x, None, x @ slope, draw_from(1), sigma)
        assert sorted({round(value, 6) for value in found.tolist()}) == [1.0, 49.0]
        assert found.mean().item() == pytest.approx(25.0, abs=4 * 24 / 200)  # four standard errors


def test_on_the_line_the_difference_of_a_linear_critic_is_exact():
    x = torch.randn(50, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = squared_difference(lambda x, labels: 3 * x[:, 0], x, None, 3 * x[:, 0], draw_from(1), 0.01)
    torch.testing.assert_close(found, torch.full_like(found, 9.0))


@pytest.mark.parametrize("twin", TWINS)
def test_a_twins_mean_is_the_exact_penalty_of_a_smooth_critic(twin):
    critic, (real, fake) = Smooth(16), points((1, 4, 4), count=4)
    exact = priced(TWINS[twin], critic, real, fake).detach()
    many = 20_000
    again = [x.repeat_interleave(many, 0) for x in (real, fake)]
    draws = priced(twin, critic, again[0], again[1]).detach().reshape(4, many)
    error = draws.std(1) / math.sqrt(many)
    assert (draws.mean(1) - exact).abs().lt(4 * error).all()
    assert error.lt(0.03 * exact).all()  # so that the line above can fail


def test_a_twins_bias_falls_with_the_square_of_sigma():
    """Over all 2^3 signs at once, so that there is no noise."""
    critic, (x, _) = Smooth(3), points((3,), count=1)
    exact = row_slope(critic, x).square().sum()
    signs = torch.cartesian_prod(*[torch.tensor([0.25, 0.75])] * 3)

    def bias(sigma: float) -> float:
        many = x.expand(8, 3)
        found = squared_difference(critic, many, None, critic(many), lambda shape: signs, sigma)
        return abs(found.mean() - exact).item()

    assert bias(0.1) / bias(0.05) == pytest.approx(4, rel=0.05)


def test_a_twin_compiles_in_one_graph_and_its_gradients_are_the_eager_ones():
    """Backend aot_eager: both graphs, forward and backward, are captured whole; no C++ compiler is needed."""
    critic, (real, fake) = Smooth(3), points((3,))
    numbers = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))

    def price(real, fake):
        return R1R2Difference(2.0)(critic, real, fake, None, critic(real), critic(fake), lambda shape: numbers).mean()

    try:
        both = []
        for function in (price, torch.compile(price, backend="aot_eager", fullgraph=True)):
            value = function(real, fake)
            both.append((value.detach(), *torch.autograd.grad(value, list(critic.body.parameters())[:3])))
    finally:
        torch._dynamo.reset()
    for eager, compiled in zip(*both, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-9, atol=1e-9)


def test_an_unknown_name_is_answered_with_the_nearest():
    assert named("r1", 0.5) == PENALTIES["r1"](0.5)
    with pytest.raises(InputError, match="Did you mean 'gradient'"):
        named("gradients", 1.0)
