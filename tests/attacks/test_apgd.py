"""Is APGD the published schedule: its checkpoints, its halvings, its way back to the best point?"""

from fractions import Fraction
from itertools import pairwise
from math import ceil
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import attacks
from attacks import APGD, Goal, ThreatModel, Victim
from attacks.rows import Rows


def published(steps):
    """arXiv 2003.01690: p0 = 0, p1 = 0.22, p[j+1] = p[j] + max(p[j] - p[j-1] - 0.03, 0.06); checks at ceil(p steps)."""
    p = [Fraction(0), Fraction(22, 100)]
    while (after := p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100))) <= 1:
        p.append(after)
    return [ceil(each * steps) for each in p[1:]]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 5)).eval()

    def forward(self, x):
        return self.net(x)


def made(threat="linf:0.1", rows=3, seed=0):
    x = 0.4 + 0.2 * torch.rand(rows, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    goal = Goal(Net()(x).argmax(1))
    return Rows(x, torch.arange(rows), goal, ThreatModel.parse(threat).around(x), seed)


def told(loss, grad) -> Any:
    """An answer as the test wants it: losses [b] and a gradient."""
    return SimpleNamespace(loss=loss, grad=lambda: grad)


def walk(attack, rows, losses, grad=None):
    """The points shown, and after each answer the rows' step lengths; losses(step) gives [b]."""
    search, shown, lengths = attack.search(rows), [], []
    with torch.no_grad():
        query = next(search)
        for step in range(attack.steps + 1):
            shown.append(query.x.clone())
            try:
                query = search.send(told(losses(step), torch.ones_like(rows.x) if grad is None else grad(step)))
            except StopIteration:
                break
            lengths.append(rows.length.clone())
    return shown, lengths


def test_the_checkpoints_of_100_steps_are_the_published_ones():
    assert published(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(APGD(steps=100).checkpoints()) == published(100)


@pytest.mark.parametrize("steps", [200, 300, 500, 700, 1000])
def test_the_checkpoints_of_more_steps_follow_the_recurrence(steps):
    assert list(APGD(steps=steps).checkpoints()) == published(steps)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 15, 40, 50, 100, 333])
def test_stretches_shrink_and_end_where_the_next_begins(steps):
    checks = APGD(steps=steps).checkpoints()
    assert [at - before for before, at in pairwise([0, *checks])] == list(checks.values())
    assert all(later <= earlier for earlier, later in pairwise(checks.values()))
    assert all(1 <= at <= steps for at in checks)


def test_a_row_that_stalls_halves_its_step_and_a_row_that_rises_does_not():
    rows = made()
    # row 0 rises all the time, row 1 never, row 2 in half of the steps (fewer than the share rho = 0.75)
    shown, lengths = walk(APGD(start="input"), rows, lambda step: torch.tensor([step, 0.0, step // 2]) * 1.0)
    factor = torch.stack(lengths) / 0.2  # the first step is 2 eps long
    halvings = {at: n + 1 for n, at in enumerate(published(100))}
    expected, n = [], 0
    for step in range(100):
        n = halvings.get(step, n)
        expected.append(n)
    torch.testing.assert_close(factor[:, 0], torch.ones(100))
    torch.testing.assert_close(factor[:, 2], 0.5 ** torch.tensor(expected, dtype=torch.float32))
    assert factor[22, 1] == pytest.approx(0.5)
    assert factor[21, 1] == pytest.approx(1)
    assert len(shown) == 101


def test_exactly_the_share_rho_of_rises_is_a_stall():
    """16 of 22 steps are fewer than 75 %, 17 are more."""
    rows = made(rows=2)
    rises = torch.tensor([16, 17])
    _, lengths = walk(APGD(start="input"), rows, lambda step: torch.minimum(torch.tensor(step), rises) * 1.0)
    assert torch.allclose(lengths[22] / lengths[21], torch.tensor([0.5, 1.0]))


def test_a_stretch_without_a_new_best_halves_the_step_though_the_loss_rose():
    """The second condition: neither the step nor the best loss has changed since the last checkpoint."""

    def losses(step):
        up_to_22 = float(step)
        later = 22.0 if step == 23 else step / 100  # it falls once, then rises at every step and stays below the best
        return torch.tensor([up_to_22 if step <= 22 else later])

    _, lengths = walk(APGD(start="input"), made(rows=1), losses)
    assert torch.equal(lengths[40], lengths[0])
    assert torch.allclose(lengths[41], lengths[0] / 2)
    assert torch.equal(lengths[57], lengths[41])  # just halved: the second condition rests for a stretch
    assert torch.allclose(lengths[70], lengths[41] / 2)


@pytest.mark.parametrize("threat", ["linf:0.1", "l2:0.5"])
def test_a_stalled_row_goes_back_to_its_best_point_and_the_gradient_there(threat):
    rows = made(threat, rows=2)
    best_at = 7

    def losses(step):
        return torch.tensor([float(step), 5.0 if step == best_at else 0.0])

    directions = torch.randn(101, *rows.x.shape, generator=torch.Generator().manual_seed(2))
    search, shown = APGD(start="input").search(rows), []
    with torch.no_grad():
        query = next(search)
        for step in range(23):
            shown.append(query.x.clone())
            query = search.send(told(losses(step), directions[step]))
    back = torch.stack((shown[22][0], shown[best_at][1]))  # row 0 goes on from where it was, row 1 from its best point
    grad = torch.stack((directions[22][0], directions[best_at][1]))
    assert torch.equal(rows.before, back)
    assert torch.equal(rows.grad, grad)
    # x + 0.75 (ahead - x) + 0.25 (x - x before), brought back into the set, with the halved step for row 1
    full = 2 * rows.threat.eps
    ahead = rows.threat.step(back, grad, (full * torch.tensor([1.0, 0.5])).float())
    expected = rows.threat.project(back + 0.75 * (ahead - back) + 0.25 * (back - shown[21]))
    torch.testing.assert_close(query.x, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threat", ["linf:0.03", "l2:0.3"])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
def test_the_best_loss_never_falls_and_is_that_of_the_best_point(threat, loss):
    rows, model = made(threat, rows=8), Net()
    victim, attack = Victim(model), APGD(steps=60, loss=loss)
    search, highest = attack.search(rows), torch.full((8,), -torch.inf)
    answer: Any = None
    with torch.no_grad():
        for _ in range(attack.steps + 1):
            query = search.send(answer)
            assert rows.threat.size(query.x).isfinite().all()
            if answer is not None:
                assert (rows.best_loss >= highest).all()
                assert torch.equal(rows.best_loss, torch.maximum(highest, answer.loss))
                highest = rows.best_loss
                at_best = attacks.losses.named(loss)(model(rows.best), rows.goal).value
                torch.testing.assert_close(at_best, highest, rtol=1e-4, atol=1e-5)
            answer = victim.answer(query, rows.goal, rows.aim)


def test_a_step_that_cannot_rise_any_more_becomes_short():
    """On a linear model the corner is reached early; from then on nothing rises and every checkpoint halves."""
    rows = made(rows=2)
    _, lengths = walk(APGD(steps=100, start="input"), rows, lambda step: torch.zeros(2))
    assert (lengths[-1] <= lengths[0] / 2**6).all()


def test_the_first_l1_steps_may_leave_the_ball_and_the_last_do_not():
    """The ball is 3, 2 and 1 eps wide for 30, 30 and 40 % of the steps (arXiv 2103.01208)."""
    rows, model = made("l1:1.5", rows=6), Net()
    victim, attack = Victim(model), APGD(steps=50)
    search, sizes = attack.search(rows), []
    answer: Any = None
    with torch.no_grad():
        while True:
            try:
                query = search.send(answer)
            except StopIteration:
                break
            sizes.append((query.x.double() - rows.x.double()).flatten(1).abs().sum(1) / 1.5)
            answer = victim.answer(query, rows.goal, rows.aim)
    widths = torch.stack(sizes).amax(1)
    phases = [15 + 1, 15 + 1, 20 + 1]  # the last point of each is looked at too
    assert len(widths) == sum(phases)
    for factor, part in zip((3, 2, 1), widths.split(phases), strict=True):
        assert (part <= factor).all()
        assert part.max() > factor * 0.99


def test_before_the_last_l1_phase_two_thirds_of_the_best_points_free_coordinates_move():
    rows, draw = made("l1:2", rows=4), torch.Generator().manual_seed(2)
    search = APGD(steps=100).search(rows)
    settled = 0
    with torch.no_grad():
        next(search)
        for step in range(60):  # 31 answers to each of the two phases in wider balls
            before = rows.best
            search.send(told(torch.rand(4, generator=draw), torch.randn(rows.x.shape, generator=draw)))
            if step % 31 in (0, 30):
                continue
            free = ((rows.best != rows.x) & (rows.best > 0) & (rows.best < 1)).flatten(1).sum(1)
            assert torch.equal(rows.count, (free / 1.5).floor().clamp_min(1))
            settled += int((before == rows.best).flatten(1).all(1).sum())
    assert settled > 20  # so that a count that went on from the last one would have come to 1
