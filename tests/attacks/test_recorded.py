"""Are recorded passes the model's own, and is a model that cannot be recorded asked directly?"""

import warnings
from typing import ClassVar

import pytest
import torch
from torch import nn

import attacks
from attacks import kernels
from attacks.costs import Costs
from attacks.judging import judge
from attacks.loop import LOOK_EVERY, fixed_size
from attacks.norms import NORMS
from attacks.passes.recorded import Recorder
from attacks.passes.tape import Plain, Tape, forward_of
from attacks.result import Result
from attacks.rows import Rows
from attacks.threat import Goal, ThreatModel
from attacks.victim import Answer, decision

FIRST = 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(autouse=True)
def recorded_soon(monkeypatch):
    monkeypatch.setattr("attacks.passes.recorded.FIRST", FIRST)


def test_sizes_are_few_and_never_too_small():
    sizes = {fixed_size(rows) for rows in range(1, 513)}
    assert sizes == {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512}
    assert all(rows <= fixed_size(rows) <= 1.5 * rows for rows in range(1, 513))


def network(classes: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(convolution, nn.Flatten(), nn.Linear(8 * 36, 32), nn.Tanh(), nn.Linear(32, classes)).eval()


def examples(rows: int, device: str = "cuda"):
    x = torch.rand(rows, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x.to(device), network()(x).argmax(1).to(device)


# What the loop keeps


@pytest.mark.parametrize("until", ["first", "smallest"])
@pytest.mark.parametrize("levels", [None, 255])
@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("width", [1, 63, 1025])
def test_what_is_kept_is_the_same_in_triton(width, norm, levels, until, monkeypatch):
    rows = 24
    g = torch.Generator().manual_seed(width)
    x = (torch.rand(rows, width, generator=g) * 255).round() / 255
    eps = torch.rand(rows, generator=g, dtype=torch.float64) * {"linf": 0.2, "l2": 0.1, "l1": 0.05, "l0": 1.0}[norm]
    eps = eps * (1 if norm == "linf" else width**0.5 if norm == "l2" else width) + (norm == "l0")
    x = x.to(DEVICE)
    threat = ThreatModel(NORMS[norm], eps.to(DEVICE), levels=levels).around(x)
    results = []
    for fused in (True, False):
        monkeypatch.setattr(kernels, "keeps", lambda *_, fused=fused: fused)
        found = Result.nothing_yet(x)
        rows = Rows(x, torch.arange(len(x), device=DEVICE), Goal(torch.zeros(len(x), dtype=torch.int64)), threat)
        rows.confirmed = rows.ids % 3
        working = torch.ones(len(x), dtype=torch.bool, device=DEVICE)
        costs = Costs(None, None)
        for step in range(4):
            tries = [candidate(x, threat, 7 * step + number) for number in range(1 + step % 2)]
            costs.asked += len(tries)
            costs.taken = 2 * step
            shown, reached = (torch.stack(each) for each in zip(*tries, strict=True))
            query, answer = (decision(shown, many=True), Answer(reached))
            if len(tries) == 1:
                query, answer = decision(shown[0]), Answer(reached[0])
            judge(found, rows, working, query, answer, step, costs, until)
        results.append((found, working))
    (one, at_work), (other, wanted) = results
    assert torch.equal(at_work, wanted)
    assert int(other.fooled.sum()) > 0
    assert until == "smallest" or not wanted.all()
    for field in ("fooled", "step", "passes", "queries", "backwards", "x_adv"):
        assert torch.equal(getattr(one, field), getattr(other, field)), field
    torch.testing.assert_close(one.size, other.size, rtol=1e-14, atol=0)


def candidate(x, threat, number):
    """A point for each row, some outside and one broken, and whether it reached the goal."""
    g = torch.Generator().manual_seed(number)
    steps = torch.randint(-20, 21, x.shape, generator=g).to(DEVICE)
    share = torch.rand(len(x), 1, generator=g).to(DEVICE)
    z = x + steps * share.square() * (share < 0.9) / 255
    z[number % len(x), 0] = torch.nan
    return threat.shown(z), (torch.rand(len(x), generator=g) < 0.5).to(DEVICE)


# Recordings


class OnPaper:
    """In a recording's place where there is no GPU: it answers as the model did when it was made."""

    made: ClassVar[list["OnPaper"]] = []

    def __init__(self, forward, x, gradient, pool, turns):
        self.forward, self.turns, self.good, self.replays = forward, turns, False, 0
        self.gradient = gradient
        self.made.append(self)

    def replay(self, x):
        self.replays += 1
        return (Tape if self.gradient else Plain)(self.forward, x)


@pytest.fixture
def on_paper(monkeypatch):
    monkeypatch.setattr("attacks.passes.recorded.Recording", OnPaper)
    monkeypatch.setattr("torch.cuda.graph_pool_handle", lambda: (0, 0))
    OnPaper.made = []
    return OnPaper.made


def recorder_of(net):
    notes = []
    return Recorder(net, forward_of(net), notes), notes


def test_a_shape_is_recorded_once_it_has_been_seen_and_held_against_the_model(on_paper):
    recorder, notes = recorder_of(network())
    x, _ = examples(4, "cpu")
    for passes in range(1, 8):
        recorder.passed(x, gradient=True)
        assert len(on_paper) == (passes > FIRST)
    assert on_paper[0].good
    assert on_paper[0].replays == 7 - FIRST - 1
    recorder.passed(x[:2], gradient=True)
    recorder.passed(x, gradient=False)
    assert len(on_paper) == 1
    assert notes == []


def test_no_more_shapes_are_recorded_than_fit(on_paper, monkeypatch):
    monkeypatch.setattr("attacks.passes.recorded.MOST", 2)
    recorder, _ = recorder_of(network())
    x, _ = examples(5, "cpu")
    for rows in range(1, 6):
        for _ in range(FIRST + 3):
            recorder.passed(x[:rows], gradient=False)
    assert len(on_paper) == 2


def test_a_recording_is_checked_in_every_run_and_given_up_where_it_differs(on_paper):
    net = Wandering()
    recorder, notes = recorder_of(net)
    x, _ = examples(4, "cpu")
    for _ in range(FIRST + 2):
        recorder.passed(x, gradient=False)
    frozen = net.scale
    on_paper[0].forward = lambda x: net.net(x) * frozen
    recorder.look_again()
    recorder.passed(x, gradient=False)
    assert notes == []
    net.scale = 3.0
    recorder.look_again()
    assert torch.equal(recorder.passed(x, gradient=False).logits, net(x))
    assert "answers otherwise" in notes[0]
    recorder.passed(x, gradient=False)
    assert len(on_paper) == 1


def test_recordings_of_weights_that_have_moved_are_dropped(on_paper):
    net = network()
    recorder, notes = recorder_of(net)
    x, _ = examples(4, "cpu")
    for _ in range(FIRST + 2):
        recorder.passed(x, gradient=False)
    weight = next(iter(net.parameters()))
    weight.data = weight.data.clone()
    recorder.look_again()
    assert recorder.recordings == {}
    assert notes == []


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("compact_below", [0.0, 0.75])
@pytest.mark.parametrize("name", ["pgd", "apgd", "fmn", "deepfool", "square", "fab", "verdict"])
def test_a_recorded_victim_is_fooled_as_the_plain_one_is(name, compact_below):
    net = network().cuda()
    x, labels = examples(96)
    threat = "l2:inf" if name in ("fmn", "deepfool") else "linf:0.05"
    plain, recorded = attacks.Victim(net, graph=False), attacks.Victim(net)
    wanted = attacks.run(name, plain, x, labels, threat, compact_below=compact_below)
    for _ in range(2):
        got = attacks.run(name, recorded, x, labels, threat, compact_below=compact_below)
        assert (got.fooled == wanted.fooled).double().mean() >= 0.98
        assert ((got.queries == wanted.queries) & (got.backwards == wanted.backwards)).double().mean() >= 0.9
        with torch.no_grad():
            assert ((net(got.x_adv).argmax(1) != labels) == got.fooled).all()
    assert recorded.searched.notes == []
    assert recorded.searched.recorder is not None
    assert any(each.good for each in recorded.searched.recorder.recordings.values())


class Peeking(nn.Module):
    """Waits for the device, which no recording can."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        return self.net(x) * (1.0 if x.mean().item() > -1 else 2.0)


class Wandering(nn.Module):
    """A number of Python's own decides, which a recording would hold fast."""

    def __init__(self):
        super().__init__()
        self.net, self.scale = network(), 1.0

    def forward(self, x):
        return self.net(x) * self.scale


@pytest.mark.gpu
@on_gpu
def test_a_model_that_cannot_be_recorded_is_asked_directly(caplog):
    x, labels = examples(32)
    net = Peeking().cuda()
    victim = attacks.Victim(net)
    got = attacks.run("pgd", victim, x, labels, "linf:0.05")
    wanted = attacks.run("pgd", attacks.Victim(net, graph=False), x, labels, "linf:0.05")
    assert torch.equal(got.x_adv, wanted.x_adv)
    assert torch.equal(got.queries, wanted.queries)
    (note,) = victim.searched.notes
    assert "Peeking are not recorded" in note
    assert note in caplog.text
    torch.rand(3, device="cuda")  # the generator is no longer tied to a recording
    again = attacks.run("pgd", attacks.Victim(network().cuda()), x, labels, "linf:0.05")
    assert torch.equal(again.fooled, attacks.run("pgd", net.net, x, labels, "linf:0.05").fooled)


@pytest.mark.gpu
@on_gpu
def test_a_model_that_has_changed_is_noticed():
    x, labels = examples(32)
    net = Wandering().cuda()
    victim = attacks.Victim(net)
    attacks.run("pgd", victim, x, labels, "linf:0.01")
    assert victim.searched.notes == []
    net.scale = 3.0
    got = attacks.run("pgd", victim, x, labels, "linf:0.01")
    wanted = attacks.run("pgd", attacks.Victim(net, graph=False), x, labels, "linf:0.01")
    assert torch.equal(got.fooled, wanted.fooled)
    assert "answers otherwise" in victim.searched.notes[0]


@pytest.mark.gpu
@on_gpu
def test_weights_may_change_and_move_between_runs():
    x, labels = examples(32)
    net = network().cuda()
    victim = attacks.Victim(net)
    attacks.run("pgd", victim, x, labels, "linf:0.02")
    with torch.no_grad():
        next(iter(net.parameters())).mul_(-1)
    net.cpu()
    torch.cuda.empty_cache()
    net.cuda()
    got = attacks.run("pgd", victim, x, labels, "linf:0.02")
    wanted = attacks.run("pgd", attacks.Victim(net, graph=False), x, labels, "linf:0.02")
    assert torch.equal(got.fooled, wanted.fooled)
    assert victim.searched.notes == []


@pytest.mark.gpu
@on_gpu
def test_hooks_are_called_every_time():
    x, labels = examples(8)
    net, calls = network().cuda(), []
    net[2].register_forward_hook(lambda *_: calls.append(1))
    victim = attacks.Victim(net)
    result = attacks.run("pgd", victim, x, labels, "linf:0.0001")
    assert len(calls) == int(result.queries.max())
    assert "hooks" in victim.searched.notes[0]


@pytest.mark.gpu
@on_gpu
def test_a_row_is_the_same_in_any_company_on_a_gpu():
    x, labels = examples(64)
    net = network().cuda().double()
    x = x.double()
    whole = attacks.run("pgd", net, x, labels, "linf:0.05", seed=3)
    parts = attacks.run("pgd", net, x, labels, "linf:0.05", seed=3, batch_size=7)
    assert torch.equal(whole.fooled, parts.fooled)
    assert torch.equal(whole.queries, parts.queries)
    torch.testing.assert_close(whole.x_adv, parts.x_adv, rtol=0, atol=1e-9)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("norm", ["linf:0.001", "l2:0.001"])
@pytest.mark.parametrize("name", ["pgd", "apgd", "mi_fgsm"])
def test_the_loop_seldom_waits_for_the_device(name, norm):
    x, labels = examples(32)
    attack = attacks.CATALOG[name](steps=80)
    victim = attacks.Victim(network().cuda())
    goal, threat = attacks.Goal(labels), ThreatModel.parse(norm)
    attacks.run(attack, victim, x, goal, threat)

    def waits(steps: int) -> int:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                attacks.run(attacks.CATALOG[name](steps=steps), victim, x, goal, threat)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(each.message) for each in caught)

    assert waits(80) - waits(40) <= 40 // LOOK_EVERY + 1
