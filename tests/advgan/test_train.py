"""Does one step of the game move who should move, by the right gradient, and leave all else as it was?"""

import copy

import pytest
import torch
from players import Critic, Generator
from torch import nn

from advgan import train
from advgan.networks import build
from advgan.objectives import OBJECTIVES, NonSaturating, Relativistic
from advgan.penalties import PENALTIES, R1R2
from advgan.schedules import Schedule, at
from advgan.train import Game, Players, critic_phase, decay_for, frozen, generator_phase, train_step
from attacks import InputError

SHAPE, LATENT, CLASSES, B = (1, 4, 4), 3, 5, 6
GAME = Game(Relativistic(), R1R2(1.0))


class Pair(Players):
    critic: nn.Module


def players(conditioning: str = "concat", dtype: torch.dtype = torch.float64, extras: tuple[nn.Module, ...] = ()):
    torch.manual_seed(0)
    pair = Generator(SHAPE, LATENT, CLASSES, extras), Critic(SHAPE, CLASSES, conditioning)
    return Pair.new(pair[0].to(dtype), pair[1].to(dtype))


def batch(b: int = B, dtype: torch.dtype = torch.float64):
    seeded = torch.Generator().manual_seed(1)
    x = torch.rand(b, *SHAPE, generator=seeded, dtype=dtype) * 2 - 1
    return x, torch.arange(b) % CLASSES, torch.randn(b, LATENT, generator=seeded, dtype=dtype)


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def moved(net: nn.Module, before: list[torch.Tensor]) -> bool:
    return any(not torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def gradients_seen(monkeypatch) -> list[list[torch.Tensor]]:
    """What each move's optimiser was given, in turn."""
    seen: list[list[torch.Tensor]] = []
    real = train.descend

    def descend(*given):
        seen.append([gradient.clone() for gradient in real(*given)])
        return seen[-1]

    monkeypatch.setattr(train, "descend", descend)
    return seen


def test_a_step_is_the_textbooks_arithmetic():
    ours, theirs = players(), players()
    x, labels, z = batch()
    train_step(ours, x, labels, z, game=GAME)

    g, critic = theirs.generator, theirs.critic
    real, fake = x.clone().requires_grad_(), g(x, labels, z).detach().requires_grad_()
    scores = critic(real, labels), critic(fake, labels)
    slopes = [
        torch.autograd.grad(s.sum(), images, create_graph=True)[0]
        for s, images in zip(scores, (real, fake), strict=True)
    ]
    penalty = sum(slope.square().sum() for slope in slopes) / (2 * B)
    critic_opt, generator_opt = (torch.optim.Adam(net.parameters(), 2e-4, (0.0, 0.99)) for net in (critic, g))
    (nn.functional.softplus(scores[1] - scores[0]).mean() + penalty).backward()
    critic_opt.step()
    generator_opt.zero_grad()
    nn.functional.softplus(critic(x, labels) - critic(g(x, labels, z), labels)).mean().backward()
    generator_opt.step()

    for mine, other in ((ours.critic, critic), (ours.generator, g)):
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_critics_verdict_reaches_the_generator(name):
    side = players()
    x, labels, z = batch()
    fake = side.generator(x, labels, z)
    about = generator_phase(side, x, labels, fake, game=Game(OBJECTIVES[name]))
    assert about["slope"] > 0


def test_the_critics_phase_leaves_the_generator_without_gradients_and_where_it_was():
    side = players()
    x, labels, z = batch()
    before, critic_before = weights(side.generator), weights(side.critic)
    critic_phase(side, x, labels, side.generator(x, labels, z), game=GAME)
    assert not moved(side.generator, before)
    assert all(p.grad is None for p in side.generator.parameters())
    assert moved(side.critic, critic_before)


def test_the_generators_phase_leaves_the_critic_without_gradients_and_where_it_was():
    side = players()
    x, labels, z = batch()
    before, generator_before = weights(side.critic), weights(side.generator)
    generator_phase(side, x, labels, side.generator(x, labels, z), game=GAME)
    assert not moved(side.critic, before)
    assert all(p.grad is None and p.requires_grad for p in side.critic.parameters())
    assert moved(side.generator, generator_before)


def test_a_frozen_part_stays_frozen_and_flags_return_after_an_error():
    critic = Critic(SHAPE, CLASSES)
    first = next(critic.parameters()).requires_grad_(False)
    within = frozen(critic)
    within.__enter__()
    assert not any(p.requires_grad for p in critic.parameters())
    assert not within.__exit__(RuntimeError, RuntimeError(), None)
    assert [p.requires_grad for p in critic.parameters()] == [p is not first for p in critic.parameters()]


@pytest.mark.parametrize("name", [name for name in PENALTIES if "difference" not in name and name != "gradient"])
def test_the_gradient_does_not_depend_on_how_often_the_batch_is_repeated(name, monkeypatch):
    seen = gradients_seen(monkeypatch)
    x, labels, z = batch()
    for times in (1, 3):
        rows = x.repeat(times, 1, 1, 1), labels.repeat(times), z.repeat(times, 1)
        train_step(players(), *rows, game=Game(Relativistic(), PENALTIES[name](1.0)))
    for once, thrice in zip(seen[0] + seen[1], seen[2] + seen[3], strict=True):
        torch.testing.assert_close(once, thrice, rtol=0, atol=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_critic_moves_alike_whether_it_sees_both_in_one_pass_or_in_two(penalty, monkeypatch):
    seen = gradients_seen(monkeypatch)
    for small in (0, 10**6):
        monkeypatch.setattr(train, "SMALL", small)
        game = Game(Relativistic(), PENALTIES[penalty](1.0))
        train_step(players(), *batch(), game=game, draw=lambda shape: torch.full(shape, 0.3, dtype=torch.float64))
    for one, other in zip(seen[0] + seen[1], seen[2] + seen[3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_callers_tensors_and_modes_are_left_alone():
    side = players(extras=(nn.Dropout(0.5),))
    side.critic.eval()
    x, labels, z = batch()
    copies = x.clone(), labels.clone(), z.clone()
    train_step(side, x, labels, z, game=GAME)
    assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip((x, labels, z), copies, strict=True))
    assert side.generator.training
    assert not side.critic.training
    assert not side.average.training


def test_parameters_are_averaged_and_buffers_are_copied():
    side = players(extras=(nn.BatchNorm1d(16),))
    old = weights(side.average)
    x, labels, z = batch()
    train_step(side, x, labels, z, game=GAME, decay=0.75)
    for slow, before, fast in zip(side.average.parameters(), old, side.generator.parameters(), strict=True):
        torch.testing.assert_close(slow.detach(), 0.75 * before + 0.25 * fast.detach(), rtol=0, atol=1e-12)
    buffers = dict(side.generator.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in side.average.named_buffers())
    assert buffers["net.2.num_batches_tracked"] == 1  # one pass of the generator serves both phases


def test_after_a_half_life_of_samples_an_old_value_weighs_half():
    assert decay_for(1000, seen=10**6, batch=100) ** 10 == pytest.approx(0.5)
    assert decay_for(1000, seen=10**6, batch=50) ** 20 == pytest.approx(0.5)
    assert decay_for(1000, seen=100, batch=100) < 1e-5  # the start is forgotten
    assert decay_for(0, seen=10**6, batch=100) == 0


def test_nothing_in_a_step_waits_for_the_device(monkeypatch):
    side, rows = players(), batch()
    monkeypatch.setattr(
        Generator, "forward", lambda self, x, labels, z: self.net[-1](z @ z.new_ones(LATENT, 16)).reshape(x.shape)
    )
    monkeypatch.setattr(Critic, "forward", lambda self, x, labels: self.net[0].weight.sum() * x.flatten(1).sum(1))
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, lambda *args, name=name: pytest.fail(f"{name} in a step"))
    about = train_step(side, *rows, game=GAME)
    monkeypatch.undo()
    assert all(value.shape == () and not value.requires_grad for value in about.values())


def test_the_critics_judgement_has_its_weight_beside_what_a_perturber_must_fool(monkeypatch):
    seen = gradients_seen(monkeypatch)
    rows = batch()
    for weight in (0.0, 1.0, 3.0):
        game = Game(NonSaturating(), adversary=lambda x, fake, labels: fake.flatten(1).mean(1), gan_weight=weight)
        assert train_step(players(), *rows, game=game)["fooling"].shape == ()
    fooling, once, thrice = (torch.cat([g.flatten() for g in seen[move]]) for move in (1, 3, 5))
    assert fooling.norm() > 0
    assert (once - fooling).norm() > 0
    torch.testing.assert_close(thrice - fooling, 3 * (once - fooling), rtol=1e-9, atol=1e-12)


def test_without_a_critic_the_generator_moves_as_beside_one_that_weighs_nothing():
    rows = batch()
    game = Game(NonSaturating(), adversary=lambda x, fake, labels: fake.flatten(1).mean(1), gan_weight=0.0)
    beside, alone = players(), Players.new(players().generator, None)
    assert {"fooling", "slope"} == set(train_step(alone, *rows, game=game))
    train_step(beside, *rows, game=game)
    for one, other in zip(alone.generator.parameters(), beside.generator.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_auxiliary_critic_learns_the_classes_from_real_samples_and_teaches_the_generator():
    x, labels, z = batch()
    told, untold = players("auxiliary"), players("concat")
    critic = told.critic
    assert isinstance(critic, Critic)
    before = critic.by_class.weight.detach().clone()
    fakes = told.generator(x, labels, z)
    critic_phase(told, x, labels, fakes, game=Game(NonSaturating()))
    assert not torch.equal(critic.by_class.weight, before)
    after = critic.by_class.weight.detach().clone()
    about = generator_phase(told, x, labels, fakes, game=Game(NonSaturating()))
    expected = nn.functional.cross_entropy(critic.classify(fakes), labels)
    torch.testing.assert_close(about["class"], expected.detach())
    assert torch.equal(critic.by_class.weight, after)
    assert train_step(untold, x, labels, z, game=Game(NonSaturating()))["class"] == 0


def test_an_auxiliary_critic_of_ours_plays_too():
    pair = build("mlp", (1, 4, 4), LATENT, CLASSES, width=8, depth=1, conditioning="auxiliary")
    x, labels, z = batch(dtype=torch.float32)
    assert train_step(Players.new(*pair), x, labels, z, game=GAME)["class"] > 0


def test_in_bfloat16_parameters_losses_and_gradients_stay_float32(monkeypatch):
    seen = gradients_seen(monkeypatch)
    x, labels, z = batch(dtype=torch.float32)
    halves, whole = players(dtype=torch.float32), players(dtype=torch.float32)
    about = train_step(halves, x, labels, z, game=Game(Relativistic(), R1R2(1.0), autocast=torch.bfloat16))
    exact = train_step(whole, x, labels, z, game=GAME)
    assert {value.dtype for value in about.values()} == {torch.float32}
    assert {g.dtype for grads in seen for g in grads} == {torch.float32}
    assert about["critic"] != exact["critic"]
    assert about["critic"] == pytest.approx(exact["critic"].item(), rel=2e-2)


def test_the_fakes_that_both_phases_see_are_the_generators_own():
    """It has not moved since it made them, so the same noise gives the same fakes."""
    side = players()
    x, labels, z = batch()
    fake = side.generator(x, labels, z)
    critic_phase(side, x, labels, fake, game=GAME)
    assert torch.equal(fake, side.generator(x, labels, z))


def test_two_players_made_alike_stay_alike():
    one, other = players(), copy.deepcopy(players())
    for _ in range(3):
        train_step(one, *batch(), game=GAME)
        train_step(other, *batch(), game=GAME)
    assert all(torch.equal(a, b) for a, b in zip(one.average.parameters(), other.average.parameters(), strict=True))


def test_a_schedule_goes_from_start_to_end_and_stays_there():
    cosine, line = Schedule(2.0, 1.0, over=10), Schedule(2.0, 1.0, shape="linear")
    assert [at(cosine, step, 100) for step in (0, 5, 10, 99)] == pytest.approx([2.0, 1.5, 1.0, 1.0])
    assert at(cosine, 2, 100) == pytest.approx(1.5 + 0.5 * 0.8090169943749475)  # cos(pi / 5)
    assert [at(line, step, 4) for step in range(5)] == [2.0, 1.75, 1.5, 1.25, 1.0]
    assert [at(Schedule(8.0, 0.5, shape="geometric"), step, 40) for step in (0, 10, 20, 40)] == [8.0, 4.0, 2.0, 0.5]
    late = Schedule(2.0, 1.0, shape="linear", held=0.6)
    assert [at(late, step, 10) for step in (0, 6, 7, 8, 10)] == [2.0, 2.0, 1.75, 1.5, 1.0]
    assert at(Schedule(2.0, 1.0, 2, "linear", held=0.6), 7, 10) == 1.5
    assert at(Schedule(3.0), 7, 10) == at(3.0, 7, 10) == 3.0
    assert at(Schedule(3.0, 1.0, shape="constant"), 7, 10) == 3.0


@pytest.mark.parametrize(
    "bad", [{"shape": "square"}, {"over": 0}, {"held": 1.0}, {"end": float("nan")}, {"end": 0.0, "shape": "geometric"}]
)
def test_a_schedule_that_makes_no_sense_is_refused(bad):
    with pytest.raises(InputError):
        Schedule(1.0, **bad)
