"""Is Square the published random search: its schedule, its squares, its budget?"""

from fractions import Fraction

import pytest
import torch
from torch import nn

import attacks
from attacks import Goal, InputError, Square, ThreatModel, Victim
from attacks.rows import Rows

# arXiv 1912.00049 for 10,000 queries: (last query of the stretch, share of the pixels in a square over the first share)
PUBLISHED = [
    (10, 1),
    (50, 1 / 2),
    (200, 1 / 4),
    (500, 1 / 8),
    (1000, 1 / 16),
    (2000, 1 / 32),
    (4000, 1 / 64),
    (6000, 1 / 128),
    (8000, 1 / 256),
    (10000, 1 / 512),
]


def published_side(query, first_share, height, width):
    share = first_share * next(share for last, share in PUBLISHED if query <= last)
    return min(max(1, round((share * height * width) ** 0.5)), height, width)


class Net(nn.Module):
    def __init__(self, channels=3, side=12, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, 16), nn.Tanh(), nn.Linear(16, 5))
        self.net.to(dtype).eval()

    def forward(self, x):
        return self.net(x)


def images(rows=4, channels=3, side=12, low=0.0, high=1.0):
    return low + (high - low) * torch.rand(rows, channels, side, side, generator=torch.Generator().manual_seed(1))


def steps(attack, x, threat, seed=0, model=None):
    """(candidate shown, best so far, rows) at every query of a run in which no row is let go."""
    model = Net(x.shape[1], x.shape[2]) if model is None else model
    goal = Goal(model(x).argmax(1))
    rows = Rows(x, torch.arange(len(x)), goal, threat.around(x), seed)
    search, answer = attack.search(rows), None
    while True:
        try:
            with torch.no_grad():
                query = search.send(answer)  # type: ignore[arg-type]  # a generator is started by sending None
        except StopIteration:
            return
        yield query.x, rows.x_adv, rows
        answer = Victim(model).answer(query, goal, goal)


def test_the_side_follows_the_published_milestones_for_10000_queries():
    attack = Square(queries=10_000)
    for height, width in ((28, 28), (32, 32), (224, 224)):
        for query in range(1, 10_000):
            assert attack.side(query, height, width) == published_side(query, 0.8, height, width), query


@pytest.mark.parametrize("queries", [100, 500, 1000, 2500, 5000, 7000, 20_000])
def test_with_other_numbers_of_queries_the_milestones_are_stretched(queries):
    attack = Square(queries=queries)
    for query in range(1, queries):
        assert attack.side(query, 32, 32) == published_side(Fraction(query * 10_000, queries), 0.8, 32, 32), query


def test_a_square_is_at_least_one_pixel_and_fits_into_the_image():
    assert Square(queries=10_000).side(9_999, 8, 8) == 1
    assert Square(queries=10_000, first_share=1.0).side(1, 4, 100) == 4
    assert Square(queries=10_000, first_share=0.05).side(1, 28, 28) == published_side(1, 0.05, 28, 28) == 6


def changed(candidate, best, tolerance=0.0):
    """[b, H, W] bool: the pixels that differ in any channel."""
    return ((candidate - best).abs() > tolerance).any(1)


def box(pixels):
    """(height, width) of the smallest rectangle round the pixels [H, W]."""
    at = pixels.nonzero()
    return (at.amax(0) - at.amin(0) + 1).tolist() if len(at) else [0, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_linf_candidate_differs_from_the_best_in_one_square_painted_at_the_faces(channels):
    x = images(channels=channels)
    attack, eps, painted = Square(queries=150), 0.1, 0
    for query, (candidate, best, rows) in enumerate(steps(attack, x, attacks.linf(eps))):
        flat, low, high = candidate.flatten(1), rows.threat.low, rows.threat.high
        assert (torch.minimum(flat - low, high - flat) < 1e-7).all()  # every pixel is at a face, to the last digit
        if query == 0:
            assert torch.equal(candidate.sub(x).sign()[:, :, :1].expand_as(x), candidate.sub(x).sign())  # stripes
            continue
        side = attack.side(query, 12, 12)
        for pixels in changed(candidate, best):
            height, width = box(pixels)
            assert height <= side
            assert width <= side
            painted += bool(pixels.any())
    assert painted > 200


@pytest.mark.parametrize("channels", [1, 3])
def test_an_linf_query_is_never_spent_on_the_point_that_is_the_best_already(channels):
    x = images(channels=channels)
    for query, (candidate, best, _) in enumerate(steps(Square(queries=150), x, attacks.linf(0.1))):
        assert query == 0 or changed(candidate, best).flatten(1).any(1).all()


def test_it_wanders_over_a_plateau():
    """No one square turns the stripes of the start into four quarters, two bright, two dark; the way is level."""

    class Chequered(nn.Module):
        def forward(self, x):
            mean = nn.functional.avg_pool2d(x, 2).flatten(1)
            found = ((mean - 0.5) * torch.tensor([1, -1, -1, 1]) > 0.03).all(1).to(x.dtype)
            return torch.stack((2 - found, 3 * found), 1)

    x, labels = torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.int64)
    assert attacks.run(Square(queries=2000), Chequered(), x, labels, "linf:0.1").fooled.all()


def test_a_square_gets_one_colour_per_channel():
    x = images(rows=6)
    for query, (candidate, best, _) in enumerate(steps(Square(queries=60), x, attacks.linf(0.1))):
        for row in range(6 if query else 0):
            pixels = changed(candidate, best)[row]
            signs = (candidate - x)[row].sign()[:, pixels]
            for channel, best_signs in zip(signs, (best - x)[row].sign()[:, pixels], strict=True):
                flipped = channel[channel != best_signs]
                assert len(flipped) == 0 or (flipped == flipped[0]).all()


def in_two_squares(pixels, side):
    """Do two squares of that side cover the pixels [H, W]?"""
    height, width = pixels.shape
    for top in range(height - side + 1):
        for left in range(width - side + 1):
            rest = pixels.clone()
            rest[top : top + side, left : left + side] = False
            if max(box(rest)) <= side:
                return True
    return False


def test_an_l2_candidate_differs_from_the_best_in_two_squares():
    x = images(rows=2)
    attack = Square(queries=80)
    for query, (candidate, best, _) in enumerate(steps(attack, x, attacks.l2(1.0))):
        if query == 0:
            continue
        side = min(max(attack.side(query, 12, 12), 3) | 1, 12)  # the published square is odd and at least 3 wide
        for pixels in changed(candidate, best, tolerance=1e-5):
            assert in_two_squares(pixels, side)


@pytest.mark.parametrize("eps", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_l2_candidate_uses_the_whole_budget_where_the_bounds_allow(eps, channels):
    x = images(channels=channels)
    for candidate, _, _ in steps(Square(queries=120), x, attacks.l2(eps, bounds=(-50.0, 50.0))):
        size = (candidate.double() - x.double()).flatten(1).square().sum(1).sqrt()
        assert (size <= eps).all()
        assert (size > eps * (1 - 1e-4)).all()


def test_candidates_stay_inside_where_the_bounds_bind():
    x = (images() > 0.5).float()  # black and white
    for threat in (attacks.linf(0.1), attacks.l2(2.0)):
        for candidate, _, rows in steps(Square(queries=80), x, threat):
            assert rows.threat.size(candidate).isfinite().all()


@pytest.mark.parametrize("threat", ["linf:0.02", "l2:0.3"])
def test_the_best_loss_never_falls_and_the_best_is_what_was_shown(threat):
    x, model = images(), Net()
    best_loss, shown = torch.full((4,), -torch.inf), []
    for candidate, best, rows in steps(Square(queries=120), x, ThreatModel.parse(threat), model=model):
        if shown:
            assert (rows.best >= best_loss).all()
            assert all(any(torch.equal(best[row], earlier[row]) for earlier in shown) for row in range(4))
            best_loss = rows.best
        shown.append(candidate.clone())
    assert len(shown) == 120


@pytest.mark.parametrize("threat", ["linf:0.05", "l2:0.5"])
def test_the_same_seed_finds_the_same_and_another_seed_another(threat):
    x, model = images(), Net()
    labels = model(x).argmax(1)
    same = [attacks.run(Square(queries=100), model, x, labels, threat, seed=3) for _ in range(2)]
    assert torch.equal(same[0].x_adv, same[1].x_adv)
    assert torch.equal(same[0].queries, same[1].queries)
    one, other = (next(steps(Square(queries=2), x, ThreatModel.parse(threat), seed=seed))[0] for seed in (3, 4))
    assert not torch.equal(one, other)


def test_more_queries_draw_on_where_fewer_stopped():
    """The drawn numbers do not depend on the budget: with sides that agree, the first candidates are the same."""
    x = images()
    threat = attacks.linf(0.05)
    few, many = (list(steps(Square(queries=queries), x, threat)) for queries in (100, 130))
    assert torch.equal(few[0][0], many[0][0])
    assert len(few) == 100
    assert len(many) == 130


@pytest.mark.parametrize("shape", [(4, 36), (4, 3, 12), (4, 3, 12, 12, 1)])
def test_what_is_no_image_is_refused(shape):
    x = torch.rand(shape)
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 5))
    with pytest.raises(InputError, match=r"images \[B, C, H, W\]"):
        attacks.run("square", net, x, net(x).argmax(1), "linf:0.1")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (3, 4), (5, 2)])
@pytest.mark.parametrize("threat", ["linf:0.05", "l2:0.5"])
def test_small_and_oblong_images_will_do(height, width, threat):
    x = torch.rand(3, 2, height, width, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * height * width, 5))
    result = attacks.run(Square(queries=40), net, x, net(x).argmax(1), threat)
    assert result.x_adv.isfinite().all()


def test_square_breaks_what_gradients_cannot_see():
    class Staircase(nn.Module):
        """Its logits are constant almost everywhere."""

        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, x):
            return self.net((x * 16).round() / 16)

    model, x = Staircase(), images(rows=12)
    labels = model(x).argmax(1)
    assert not attacks.run("pgd", model, x, labels, "linf:0.1").fooled.all()
    square = attacks.run(Square(queries=500), model, x, labels, "linf:0.1")
    assert square.fooled.sum() > attacks.run("pgd", model, x, labels, "linf:0.1").fooled.sum()


def test_a_hill_on_the_same_hill_of_the_other_sign_loses_no_norm():
    """On a 3 x 3 image every square is the whole image, so that half of the hills meet their opposite."""
    x = images(rows=8, channels=1, side=3)
    for candidate, _, _ in steps(Square(queries=60), x, attacks.l2(0.5, bounds=(-9.0, 9.0))):
        size = (candidate.double() - x.double()).flatten(1).square().sum(1).sqrt()
        assert (size > 0.5 * (1 - 1e-4)).all()
