"""What does a run leave behind? The model, the caller's tensors and the caller's state are exactly as they were."""

import random
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

import attacks
from attacks import CATALOG, Goal, InputError, ThreatModel, Victim
from attacks.gradient.pgd import GradientAscent
from attacks.losses import from_function
from attacks.norms import NORMS
from attacks.rows import Rows
from attacks.victim import borrowed

LOOKED_AT = ("pgd", "apgd", "square", "gaussian_noise", "fmn")
SHORT = {"pgd": {"steps": 4}, "apgd": {"steps": 4}, "square": {"queries": 6}, "fmn": {"steps": 4}}

several = pytest.mark.parametrize("name", LOOKED_AT)


def short(name):
    return CATALOG[name](**SHORT.get(name, {}))


class Net(nn.Module):
    """BatchNorm, dropout, a buffer that is counted up in place and one that is replaced at every pass."""

    kept: torch.Tensor
    replaced: torch.Tensor

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.norm, self.drop = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.frozen, self.last = nn.BatchNorm1d(36), nn.Linear(36, 5)
        self.register_buffer("kept", torch.zeros(3))
        self.register_buffer("replaced", torch.zeros(2))
        self.passes = 0
        self.modes = set()
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))

    def forward(self, x):
        self.passes += 1
        self.modes.add((self.training, self.norm.training, self.drop.training, self.frozen.training))
        self.kept += 1
        self.replaced = self.replaced + 1
        hidden = self.drop(torch.tanh(self.norm(self.first(x))))
        return self.last(self.frozen(hidden.flatten(1)))


class BreaksAt(nn.Module):
    """Raises in its n-th pass, after all that a pass does."""

    def __init__(self, model, error, n=3):
        super().__init__()
        self.model, self.error, self.n, self.calls = model, error, n, 0

    def forward(self, x):
        logits = self.model(x)
        self.calls += 1
        if self.calls == self.n:
            raise self.error
        return logits


class Wavering(nn.Module):
    """Its logits are drawn anew at each pass."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x) + 0.3 * torch.randn(len(x), 5)


def training_net():
    """A model in the middle of training: one BatchNorm frozen, half the parameters too, gradients gathered."""
    net = Net().train()
    torch.manual_seed(1)
    net(torch.rand(8, 3, 8, 8)).sum().backward()
    net.frozen.eval()
    for parameter in net.first.parameters():
        parameter.requires_grad_(False)
    net.modes.clear()
    return net


def task(model, rows=6, dtype=torch.float32):
    """Images and the model's labels in eval mode, taken from a copy of the model's state."""
    x = torch.rand(rows, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
    with borrowed(model):
        return x, model(x).argmax(1)


def state(model):
    """All that a run must not change, as plain values and copies."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {
        "training": {name: module.training for name, module in model.named_modules()},
        "places": {name: (id(tensor), tensor.data_ptr(), tensor.device) for name, tensor in tensors},
        "requires_grad": {name: tensor.requires_grad for name, tensor in tensors},
        "contents": {name: tensor.detach().clone() for name, tensor in tensors},
        "gradients": {
            name: None if parameter.grad is None else (id(parameter.grad), parameter.grad.clone())
            for name, parameter in model.named_parameters()
        },
        "hooks": {name: len(module._forward_hooks) for name, module in model.named_modules()},
    }


def assert_same(before, after):
    for what in ("training", "places", "requires_grad", "hooks"):
        assert before[what] == after[what], what
    for name, tensor in before["contents"].items():
        assert torch.equal(tensor, after["contents"][name]), name
    for name, gradient in before["gradients"].items():
        now = after["gradients"][name]
        assert (gradient is None) == (now is None), name
        assert gradient is None or (gradient[0] == now[0] and torch.equal(gradient[1], now[1])), name


def assert_equal(one, other):
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        assert mine is theirs is None or torch.equal(mine, theirs), field.name


@several
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_put_back_exactly_as_it_was(name, training):
    net = training_net()
    if not training:
        net.eval()
    x, labels = task(net)
    before, passes = state(net), net.passes
    attacks.run(short(name), net, x, labels, "linf:0.05", batch_size=4)
    assert_same(before, state(net))
    assert net.passes > passes + 2  # it was at work
    assert net.modes == {(False, False, False, False)}  # and in eval mode throughout


@several
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_in_the_middle_leaves_the_model_and_the_caller_as_they_were(name, error):
    net = training_net()
    x, labels = task(net)
    model = BreaksAt(net, error).train()
    before, luck = state(model), torch.get_rng_state()
    with pytest.raises(type(error)) as caught:
        attacks.run(short(name), model, x, labels, "linf:1e-6")
    assert caught.value is error
    assert model.calls == 3
    assert_same(before, state(model))
    assert torch.equal(torch.get_rng_state(), luck)
    assert torch.is_grad_enabled()


def test_an_attack_that_raises_leaves_the_model_as_it_was():
    class Broken:
        def search(self, rows):
            yield attacks.victim.gradient(rows.x, attacks.losses.margin)
            raise ZeroDivisionError

    net = training_net()
    x, labels = task(net)
    before = state(net)
    with pytest.raises(ZeroDivisionError):
        attacks.run(Broken(), net, x, labels, "linf:1e-6")
    assert_same(before, state(net))


def test_refused_input_leaves_the_model_as_it_was():
    net = training_net()
    x, labels = task(net)
    before = state(net)
    each_target, target = attacks.EachTarget(short("pgd"), count=1), Goal((labels + 1) % 5, targeted=True)
    for attack, given, goal in (("pgd", x + 1, labels), ("pgd", x, labels + 9), (each_target, x, target)):
        with pytest.raises(InputError):
            attacks.run(attack, net, given, goal, "linf:0.05")
        assert_same(before, state(net))


def test_a_module_that_trains_itself_in_forward_is_put_back_too():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net().eval()

        def forward(self, x):
            self.net.norm.train()
            self.net.drop.train()  # as Monte Carlo dropout does
            return self.net(x)

    model = Stubborn().eval()
    x, labels = task(model)
    before = state(model)
    attacks.run(short("square"), model, x, labels, "linf:0.05")
    assert_same(before, state(model))


def test_a_nan_in_a_buffer_stays_where_it_was():
    net = Net().eval()
    x, labels = task(net)
    net.kept[1] = torch.nan
    attacks.run(short("pgd"), net, x, labels, "linf:0.05")
    assert net.kept.isnan().tolist() == [False, True, False]
    assert net.kept[0] == 0


@several
def test_the_callers_random_state_is_left_alone(name):
    net = Wavering(Net().eval())
    x, labels = task(net)
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    attacks.run(short(name), net, x, labels, "linf:0.05")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state()) == before[2]


@several
def test_a_model_that_draws_gives_the_same_result_for_the_same_seed_whatever_was_drawn_before(name):
    net = Wavering(Net().eval())
    x, labels = task(net)
    results = []
    for luck, seed in ((0, 3), (123, 3), (0, 4)):
        torch.manual_seed(luck)
        torch.rand(luck)
        results.append(attacks.run(short(name), net, x, labels, "linf:0.05", seed=seed))
    assert_equal(results[0], results[1])
    if name == "gaussian_noise":
        assert not torch.equal(results[0].x_adv, results[2].x_adv)


@several
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_grad_mode_changes_nothing(name, mode):
    net = training_net()
    x, labels = task(net)
    expected = attacks.run(short(name), net, x, labels, "l2:0.4", batch_size=4)
    before = state(net)
    with mode():
        flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        result = attacks.run(short(name), net, x, labels, "l2:0.4", batch_size=4)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == flags
    assert_equal(expected, result)
    assert_same(before, state(net))
    assert not result.x_adv.requires_grad
    assert not result.x_adv.is_inference()  # ordinary tensors: to train on, say


@several
def test_inputs_made_under_inference_mode_will_do(name):
    net = Net().eval()
    x, labels = task(net)
    expected = attacks.run(short(name), net, x, labels, attacks.linf(torch.full((6,), 0.05, dtype=torch.float64)))
    with torch.inference_mode():
        theirs = x.clone(), labels.clone(), torch.full((6,), 0.05, dtype=torch.float64), torch.ones(3, 8, 8)
    for mode in (torch.inference_mode, torch.enable_grad):
        with mode():
            x_made, labels_made, eps, mask = theirs
            threat = attacks.linf(eps, mask=mask, bounds=(torch.zeros_like(x_made), 1.0))
            assert_equal(expected, attacks.run(short(name), net, x_made, labels_made, threat))


def test_a_loss_of_ones_own_may_use_labels_made_under_inference_mode():
    net = Net().eval()
    x, labels = task(net)

    def own(logits, goal):
        return nn.functional.cross_entropy(logits, goal.labels, reduction="none")

    attack = GradientAscent(loss=from_function(own), steps=3)
    expected = attacks.run(attack, net, x, labels, "linf:0.05")
    with torch.inference_mode():
        assert_equal(expected, attacks.run(attack, net, x.clone(), labels.clone(), "linf:0.05"))


def test_a_model_made_under_inference_mode_is_attacked_by_its_scores_and_refused_for_its_gradients():
    with torch.inference_mode():
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    x, labels = task(net)
    before = state(net)
    attacks.run(short("square"), net, x, labels, "linf:0.05")
    with pytest.raises(InputError, match=r"inference_mode.*outside"):
        attacks.run(short("pgd"), net, x, labels, "linf:0.05")
    assert_same(before, state(net))


@several
def test_inputs_that_want_gradients_get_none(name):
    net = Net().eval()
    x, labels = task(net)
    expected = attacks.run(short(name), net, x, labels, "linf:0.05")
    leaf = x.clone().requires_grad_()
    made = leaf * 1  # inside a graph
    for wanting in (leaf, made):
        result = attacks.run(short(name), net, wanting, labels, "linf:0.05")
        assert_equal(expected, result)
        assert not result.x_adv.requires_grad
    assert leaf.grad is None
    made.sum().backward()  # the graph has survived


@several
def test_the_strides_of_the_input_change_nothing(name):
    net = Net().double().eval()
    x, labels = task(net, dtype=torch.float64)
    expected = attacks.run(short(name), net, x, labels, "linf:0.05")
    channels_last = x.to(memory_format=torch.channels_last)
    turned = x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    every_second = torch.stack((x, x + 9), 1).flatten(0, 1)[::2]
    shared = x[:1].expand(6, -1, -1, -1)  # six rows in one place
    for given in (channels_last, turned, every_second):
        result = attacks.run(short(name), net, given, labels, "linf:0.05")
        assert torch.equal(expected.fooled, result.fooled)
        torch.testing.assert_close(expected.x_adv, result.x_adv, rtol=0, atol=1e-12)
    result = attacks.run(short(name), net, shared, labels[:1].expand(6), "linf:0.05")
    assert torch.equal(shared, x[:1].repeat(6, 1, 1, 1))
    assert result.fooled[0] == expected.fooled[0]


@several
@pytest.mark.parametrize("threat", ["linf", "l2"])
def test_nothing_that_the_caller_gave_is_changed(name, threat):
    net = Net().eval()
    x, labels = task(net)
    given = {
        "x": x,
        "labels": labels,
        "eps": torch.full((6,), 0.3, dtype=torch.float64),
        "mask": torch.ones(6, 3, 8, 8),
        "low": torch.zeros(3, 1, 1),
        "high": torch.ones(6, 3, 8, 8),
        "ids": torch.arange(6),
    }
    copies = {what: tensor.clone() for what, tensor in given.items()}
    versions = {what: tensor._version for what, tensor in given.items()}
    limits = ThreatModel(NORMS[threat], given["eps"], (given["low"], given["high"]), given["mask"])
    result = attacks.run(short(name), net, x, labels, limits, ids=given["ids"])
    result.x_adv.zero_()
    result.size.zero_()
    for what, tensor in given.items():
        assert torch.equal(tensor, copies[what]), what
        assert tensor._version == versions[what], what


def test_a_result_shares_no_memory_with_the_input():
    net = Net().eval()
    x, labels = task(net)
    result = attacks.run(short("pgd"), net, x, labels, "linf:0")
    assert torch.equal(result.x_adv, x)
    assert result.x_adv.data_ptr() != x.data_ptr()


def test_a_model_that_changes_its_input_in_place_is_told_so():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net().eval()

        def forward(self, x):
            return self.net(x.sub_(0.5))

    x, labels = task(Net().eval())
    before = x.clone()
    for name in LOOKED_AT:
        with pytest.raises(InputError, match=r"changes its input in place.*copy"):
            attacks.run(short(name), InPlace(), x, labels, "linf:0.05")
    assert torch.equal(x, before)


def sent(search, answer):
    """The next query, or None where the search is over."""
    try:
        return search.send(answer)
    except StopIteration:
        return None


def by_hand(attack, model, x, labels, threat, seed):
    """A run without the loop: the queries shown, one at each `next`; nothing is dropped."""
    victim, goal = Victim(model), Goal(labels)
    rows = Rows(x, torch.arange(len(x)), goal, attacks.ThreatModel.parse(threat).around(x), seed)
    search, answer = attack.search(rows), None
    while True:
        with torch.no_grad():
            query = sent(search, answer)
        if query is None:
            return
        yield query.x.clone()
        answer = victim.answer(query, rows.goal, rows.aim)


@several
def test_two_runs_of_one_attack_interleaved_do_not_disturb_each_other(name):
    net = Net().eval()
    x, labels = task(net)
    attack = short(name)
    one = list(by_hand(attack, net, x, labels, "linf:0.01", seed=0))
    other = list(by_hand(attack, net, x[:3], labels[:3], "l2:0.1", seed=1))
    assert len(one) > 4
    together = ([], [])
    searches = (by_hand(attack, net, x, labels, "linf:0.01", 0), by_hand(attack, net, x[:3], labels[:3], "l2:0.1", 1))
    for first, second in zip(*searches, strict=True):
        together[0].append(first)
        together[1].append(second)
    for alone, beside in zip((one, other), together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))


@several
def test_a_run_inside_a_run_disturbs_neither(name):
    """The model's third pass runs the same attack object on the same network."""
    net, attack = Net().train(), short(name)
    x, labels = task(net)
    expected = attacks.run(attack, net, x, labels, "linf:0.05")
    inner = []

    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.calls = net, 0

        def forward(self, z):
            self.calls += 1
            if self.calls == 3:
                inner.append(attacks.run(attack, self.net, x, labels, "linf:0.05"))
            return self.net(z)

    outer = attacks.run(attack, Nested(), x, labels, "linf:0.05")
    assert_equal(expected, outer)
    assert_equal(expected, inner[0])
    assert net.training


@several
def test_a_float64_model_is_attacked_in_float64(name):
    net = Net().double().eval()
    x, labels = task(net, dtype=torch.float64)
    result = attacks.run(short(name), net, x, labels, "linf:0.1")
    assert result.x_adv.dtype == torch.float64
    assert result.size.dtype == torch.float64
    assert (result.x_adv - x).abs().max() <= 0.1
    assert name in ("gaussian_noise", "square") or result.fooled.any()


@several
def test_a_float64_model_takes_inputs_in_float32(name):
    net = Net().double().eval()
    x, labels = task(net, dtype=torch.float64)
    result = attacks.run(short(name), net, x.float(), labels, "linf:0.1")
    assert result.x_adv.dtype == torch.float32
    assert (net(result.x_adv.double()).argmax(1) != labels)[result.fooled].all()
    assert name in ("gaussian_noise", "square") or result.fooled.any()


@several
def test_inputs_are_not_rounded_for_a_model_of_fewer_digits(name):
    net = Net().eval()
    x, labels = task(net)
    with pytest.raises(attacks.InputError, match=r"float64 and the model computes in float32 .*inputs\.float\(\)"):
        attacks.run(short(name), net, x.double(), labels, "linf:0.1")


@several
def test_a_bfloat16_model_behind_a_cast_is_attacked_in_float32(name):
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net().bfloat16()

        def forward(self, x):
            return self.net(x.bfloat16())

    model = Cast().eval()
    x, labels = task(model)
    result = attacks.run(short(name), model, x, labels, "linf:0.1")
    assert result.x_adv.dtype == torch.float32
    assert result.x_adv.isfinite().all()
    assert (model(result.x_adv).argmax(1) != labels)[result.fooled].all()
    assert name in ("gaussian_noise", "square") or result.fooled.any()


@several
@pytest.mark.parametrize("on", [True, False])
def test_autocast_stays_as_the_caller_set_it(name, on):
    net = Net().eval()
    x, labels = task(net)
    seen = set()
    net.last.register_forward_hook(lambda _, __, out: seen.add((torch.is_autocast_enabled("cpu"), out.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
        result = attacks.run(short(name), net, x, labels, "linf:0.1")
        assert torch.is_autocast_enabled("cpu") == on
    assert seen == {(on, torch.bfloat16 if on else torch.float32)}
    assert result.x_adv.dtype == torch.float32
    assert result.x_adv.isfinite().all()


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="torch.compile does not know this Python yet")
def test_a_compiled_model_is_attacked_and_put_back_like_any_other():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 5)).train()
    x, labels = task(net)
    expected = attacks.run(short("pgd"), net, x, labels, "linf:0.05")
    compiled = torch.compile(net, backend="eager")
    assert isinstance(compiled, nn.Module)
    before = state(compiled)
    assert_equal(expected, attacks.run(short("pgd"), compiled, x, labels, "linf:0.05"))
    assert_same(before, state(compiled))
    assert net.training


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@several
def test_model_input_and_result_stay_on_their_devices(name):
    net = training_net().cuda()
    for parameter in net.parameters():
        parameter.grad = None
    x, labels = task(Net())
    before, luck = state(net), torch.cuda.get_rng_state()
    result = attacks.run(short(name), net, x, labels, "linf:0.05")
    assert result.x_adv.device == x.device == torch.device("cpu")
    assert_same(before, state(net))
    assert torch.equal(torch.cuda.get_rng_state(), luck)
    assert attacks.run(short(name), net, x.cuda(), labels, "linf:0.05").x_adv.is_cuda
