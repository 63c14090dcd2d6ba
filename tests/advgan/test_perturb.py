"""Does a perturber learn to fool, count honestly, resume bit for bit, run as an attack, and refuse what cannot be?"""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import players
import pytest
import torch
from torch import Tensor, nn

import attacks
from advgan.fit import Recipe, Run, Samples, fit
from advgan.networks.perturber import Constant, Flat, Hourglass
from advgan.perturb import Generated, Perturber, Perturbing, build, load_perturber, success, train_perturber
from attacks import Access, Goal, InputError, Victim, linf
from attacks.decision.noise import uniform_noise

SHAPE, CLASSES = (1, 6, 6), 3
RECIPE = Perturbing(
    threat="linf:0.1",
    steps=40,
    batch=16,
    lr=0.01,
    width=8,
    depth=1,
    latent=3,
    gan_weight=0.0,
    hinge_weight=0.0,
    confidence=5.0,
)
QUICK = replace(RECIPE, steps=6)


class Touchy(nn.Module):
    """A linear classifier that dropout and batch norm would unsettle were it not in eval mode."""

    def __init__(self, shape=SHAPE, classes=CLASSES):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.norm, self.drop = nn.BatchNorm1d(torch.Size(shape).numel()), nn.Dropout(0.5)
            self.top = nn.Linear(torch.Size(shape).numel(), classes)

    def forward(self, x):
        return self.top(self.drop(self.norm(x.flatten(1) - 0.5)))


def samples(n=64, seed=0, shape=SHAPE) -> Samples:
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        labels = Touchy(shape).eval()(x).argmax(1)
    return Samples(x, labels, CLASSES, "noise")


class Held(NamedTuple):
    x: Tensor
    labels: Tensor


def held_out() -> Held:
    held = samples(90, 1)
    assert held.labels is not None
    return Held(held.x, held.labels)


def trained(out: Path, recipe: Perturbing = RECIPE, victim=None, **options: Any) -> Run:
    options = {"held_out": samples(90, 1), "every": 3} | options
    return train_perturber(victim or Touchy(), samples(), recipe, out, **options)


def share(run: Run) -> float:
    found = run.measures["success"]
    assert found is not None
    return found


def says(message: str, call) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("perturber") / "run"
    trained(out, every=20, others={"flipped": Flipped()})
    return out


class Flipped(Touchy):
    def forward(self, x):
        return super().forward(x.flip(-1))


def test_a_perturber_fools_what_noise_of_the_same_norm_does_not(folder):
    about = json.loads((folder / "run.json").read_text())
    held = held_out()
    noise = attacks.run(uniform_noise(), Touchy(), held.x, held.labels, "linf:0.1")
    assert about["measures"]["success"] > 0.9
    assert float(noise.fooled.double().mean()) < 0.5
    assert about["config"]["what"] == "perturber"
    assert {"success_8bit", "transfer", "transfer_flipped", "examples_per_second"} <= set(about["measures"])
    assert about["history"][0]["success"] < about["history"][-1]["success"]


def test_what_was_saved_is_what_is_loaded_and_what_the_loop_measures(folder):
    perturber, held = load_perturber(folder), held_out()
    found = attacks.run(Generated(perturber), Touchy(), held.x, held.labels, "linf:0.1", batch_size=7)
    measured = json.loads((folder / "run.json").read_text())["measures"]["success"]
    assert float(found.fooled.double().mean()) == pytest.approx(measured, abs=1e-12)
    assert (found.queries <= 2).all()
    assert (found.backwards == 0).all()


def test_only_rows_that_are_right_when_clean_and_not_of_the_target_count(folder):
    held = held_out()
    wrong = held.labels.clone()
    wrong[:30] = (wrong[:30] + 1) % CLASSES
    attack = Generated(load_perturber(folder))
    counted = success(attack, Touchy(), held.x, wrong)
    assert counted.count == 60
    assert torch.equal(counted.labels, held.labels[30:])
    aimed = replace_target(attack.perturber, 1)
    assert success(Generated(aimed), Touchy(), held.x, held.labels).count == int((held.labels != 1).sum())
    assert success(attack, Touchy(), held.x[:3], (held.labels[:3] + 1) % CLASSES).count == 0


def replace_target(perturber: Perturber, target) -> Perturber:
    return Perturber(perturber.net, perturber.threat, SHAPE, CLASSES, perturber.latent, "image", target)


def test_success_counts_each_class_for_itself(folder):
    held = held_out()
    found = success(Generated(load_perturber(folder)), Touchy(), held.x, held.labels)
    counts = held.labels.bincount().double()
    shares = torch.tensor([found.by_class()[k] for k in range(CLASSES)], dtype=torch.float64)
    assert float((shares * counts).sum() / counts.sum()) == pytest.approx(found.share)


@pytest.mark.parametrize("kind", ["image", "universal", "per_class"])
@pytest.mark.parametrize("target", [None, 2, "any"])
def test_each_kind_learns_to_leave_its_class_or_reach_its_target(kind, target, tmp_path):
    if (kind, target) in (("universal", "any"), ("per_class", 2)):
        says("kind=", lambda: replace(RECIPE, kind=kind, target=target))
        return
    recipe = replace(RECIPE, kind=kind, target=target, threat="linf:0.2")
    before = share(trained(tmp_path / "0", replace(recipe, steps=1, lr=1e-6), every=1))
    after = share(trained(tmp_path / "1", recipe, every=40))
    assert after > max(0.6, before)
    perturber, x = load_perturber(tmp_path / "1"), samples(8, 2).x
    z, labels = torch.zeros(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    delta = (perturber(x * 0.4 + 0.3, labels, z) - (x * 0.4 + 0.3)).flatten(1)  # far from the walls
    alike = torch.cdist(delta, delta) < 1e-5
    same = {"image": torch.eye(8).bool(), "universal": torch.ones(8, 8).bool()}
    assert torch.equal(alike, same.get(kind, labels[:, None] == labels))


@pytest.mark.parametrize("threat", ["l2:1", "l1:6", "linf:inf"])
def test_other_norms_are_learnt_too(threat, tmp_path):
    assert share(trained(tmp_path / "run", replace(RECIPE, threat=threat), every=40)) > 0.8


def test_vectors_are_perturbed_by_a_fully_connected_network(tmp_path):
    x = samples(shape=(12,))
    recipe = replace(RECIPE, network="mlp", width=16, low=-1.0, high=2.0)
    run = train_perturber(Touchy((12,)), x, recipe, tmp_path / "run", held_out=samples(50, 1, (12,)), every=40)
    assert share(run) > 0.5
    assert isinstance(load_perturber(tmp_path / "run").net, Flat)
    says("take mlp", lambda: train_perturber(Touchy((12,)), x, RECIPE, tmp_path / "other"))


def test_the_victim_is_in_eval_mode_has_no_gradients_and_is_as_before_afterwards(tmp_path):
    victim = Touchy()
    victim.train()
    victim.drop.eval()
    victim.top.bias.requires_grad_(False)
    modes, before = [], {name: value.clone() for name, value in victim.state_dict().items()}
    victim.register_forward_pre_hook(lambda *_: modes.append((victim.norm.training, victim.top.weight.requires_grad)))
    trained(tmp_path / "run", QUICK, victim)
    assert set(modes) == {(False, False)}
    assert all(torch.equal(value, before[name]) for name, value in victim.state_dict().items())
    assert (victim.training, victim.norm.training, victim.drop.training) == (True, True, False)
    assert (victim.top.weight.requires_grad, victim.top.bias.requires_grad) == (True, False)
    assert victim.top.weight.grad is None


def test_with_gan_weight_the_critic_moves_the_perturber_and_without_there_is_none(tmp_path):
    for weight in (0.0, 0.5):
        run = trained(tmp_path / str(weight), replace(QUICK, gan_weight=weight, hinge_weight=0.1))
        assert ("critic" in run.history[-1]) == (weight > 0)
    assert build(QUICK, SHAPE, CLASSES)[1] is None
    alone, beside = (load_perturber(tmp_path / weight).state_dict() for weight in ("0.0", "0.5"))
    assert any(not torch.equal(alone[name], beside[name]) for name in alone)


@pytest.mark.parametrize("net", [Hourglass(SHAPE, CLASSES, 2, 8, 1), Flat(SHAPE, CLASSES, 2, 16, 2)])
def test_a_perturbation_depends_neither_on_its_batch_nor_on_the_mode(net):
    perturber = Perturber(net, linf(0.1), SHAPE, CLASSES, 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # the blocks begin as identities
    x, labels, z = samples(8).x, torch.arange(8) % CLASSES, torch.randn(8, 2)
    whole = perturber.train()(x, labels, z)
    alone = torch.cat([perturber.eval()(x[[k]], labels[[k]], z[[k]]) for k in range(8)])
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 7), (4, 1, 2), (2, 8, 8)])
def test_images_of_any_sides_and_channels_are_perturbed(shape):
    perturber = Perturber(Hourglass(shape, 4, 2, 8, 1), linf(0.1), shape, 4, 2)
    x = torch.rand(2, *shape)
    assert perturber(x, torch.tensor([0, 3]), torch.randn(2, 2)).shape == x.shape


def test_a_run_that_was_interrupted_and_resumed_is_the_uninterrupted_one(tmp_path):
    recipe = replace(QUICK, gan_weight=0.5, target="any")

    def stop(step, row):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    trained(tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", recipe, progress=stop)
    trained(tmp_path / "parts", recipe, resume=True)
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    assert (whole / "generator.safetensors").read_bytes() == (parts / "generator.safetensors").read_bytes()
    one, other = (json.loads((each / "run.json").read_text()) for each in (whole, parts))
    for about in (one, other):
        del about["seconds"], about["measures"]["examples_per_second"], about["history"][-1]["examples_per_second"]
    assert one == other
    says("another configuration", lambda: trained(parts, recipe, Flipped(), resume=True))


def test_pictures_of_clean_and_perturbed_images_are_saved_as_they_are(tmp_path):
    trained(tmp_path / "run", QUICK)
    with np.load(tmp_path / "run" / "samples" / "step-6.npz") as file:
        assert 0.01 < abs(file["x"] - file["clean"]).max() <= 0.1 + 1e-6
        assert 0 <= file["clean"].min() <= file["clean"].max() <= 1


class Dead(Touchy):
    def forward(self, x):
        return super().forward(x.detach())


class Rounding(Touchy):
    def forward(self, x):
        return super().forward((x * 255).round() / 255)


class Fading(Touchy):
    """Right answers, whose gradient is too small to learn from."""

    def forward(self, x):
        return super().forward(x.detach() + 1e-12 * (x - x.detach()))


def test_a_victim_that_passes_next_to_no_gradient_is_warned_of_and_the_remedy_is_a_copy(tmp_path):
    run = trained(tmp_path / "run", replace(RECIPE, steps=120), Fading(), every=20)
    (warning,) = (each for each in run.warnings if each["kind"] == "no_gradient")
    assert "advgan.distill" in warning["remedy"]


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("istil", {"victim": Victim(Touchy(), Access.SCORES)}),
        ("istil", {"victim": Dead()}),
        ("gives 0 for each of the first 64 inputs. Distil", {"victim": Rounding()}),
        ("Module is needed", {"victim": "resnet"}),
        ("target is class 7", {"recipe": replace(QUICK, target=7)}),
        ("within \\[0, 1\\]", {"data": replace(samples(), x=samples().x * 2)}),
        ("within \\[0, 1\\]", {"data": replace(samples(), x=samples().x * 2 - 1)}),
        ("labels='true'", {"data": replace(samples(), labels=None), "recipe": replace(QUICK, labels="true")}),
        ("batch", {"data": samples(5)}),
        ("must know the same", {"victim": [Touchy(), Touchy(classes=4)]}),
        ("no layer", {"recipe": replace(QUICK, loss="feature_distance", layer="none")}),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_left(message, options, tmp_path):
    asked: dict[str, Any] = {"victim": Touchy(), "data": samples(), "recipe": QUICK} | options
    says(message, lambda: train_perturber(asked["victim"], asked["data"], asked["recipe"], tmp_path / "run"))
    assert not (tmp_path / "run" / "generator.safetensors").exists() or message == "no layer"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("eps is 0", {"threat": "linf:0"}),
        ("linf, l2, l1", {"threat": "l0:3"}),
        ("kind of perturber", {"kind": "global"}),
        ("no loss", {"loss": "margins"}),
        ("towards no class", {"loss": "feature_cosine", "target": 1}),
        ("hinge_weight", {"hinge_weight": -1.0}),
        ("labels=", {"labels": "some"}),
    ],
)
def test_recipes_that_mean_nothing_are_refused(message, fields):
    says(message, lambda: replace(QUICK, **fields))


def test_folders_that_hold_no_perturber_are_refused(folder, tmp_path):
    says("not a run", lambda: load_perturber(tmp_path))
    says("another kind", lambda: Run.load(folder))
    sample = Samples(samples().x * 2 - 1, None, None)
    fit(Recipe(latent=3, steps=1, batch=8), sample, tmp_path / "gan", build=players.build)
    says("another kind", lambda: load_perturber(tmp_path / "gan"))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "run.json").write_bytes((folder / "run.json").read_bytes())
    (damaged / "generator.safetensors").write_bytes((folder / "generator.safetensors").read_bytes()[:500])
    says("safetensors", lambda: load_perturber(damaged))


def test_an_attack_refuses_inputs_labels_and_goals_that_it_was_not_trained_for(folder):
    perturber, x = load_perturber(folder), samples(4).x
    labels = Touchy().eval()(x).argmax(1)
    attack = Generated(perturber)
    says(
        "trained for inputs", lambda: attacks.run(attack, Touchy((1, 4, 4)), torch.rand(4, 1, 4, 4), labels, "linf:0.1")
    )
    many, more = Touchy(classes=5), samples(40).x
    answers = many.eval()(more).argmax(1)
    assert answers.max() > 2
    says("3 classes", lambda: attacks.run(attack, many, more, answers, "linf:0.1"))
    says("made for linf", lambda: attacks.run(attack, Touchy(), x, labels, "l2:0.5"))
    says("cannot aim", lambda: attacks.run(attack, Touchy(), x, Goal(labels, targeted=True), "linf:0.1"))
    aimed = Generated(replace_target(perturber, 1))
    others = Goal((labels + 1) % CLASSES, targeted=True)
    says("class 1 alone", lambda: attacks.run(aimed, Touchy(), x, others, "linf:0.1"))
    says("tries=0", lambda: Generated(perturber, 0))
    says("load_perturber", lambda: Generated(folder))  # type: ignore[arg-type]
    says("3 classes, and here there are 4", lambda: perturber.check(SHAPE, 4))
    constant = Perturber(Constant(SHAPE), linf(0.1), SHAPE, CLASSES, 3, "universal")
    says("same at each try", lambda: Generated(constant, 2))


def test_more_tries_fool_no_fewer_and_go_round_the_targets(folder):
    held, perturber = held_out(), load_perturber(folder)
    few, many = (attacks.run(Generated(perturber, k), Touchy(), held.x, held.labels, "linf:0.05") for k in (1, 4))
    assert (many.fooled | ~few.fooled).all()
    asked = []
    told = replace_target(perturber, "any")
    told.net.register_forward_pre_hook(lambda _, given: asked.append(given[1].argmax(1)))
    attacks.run(Generated(told, 2), Touchy(), held.x[:1], held.labels[:1], "linf:1e-9")
    assert [int(each) for each in asked] == [(int(held.labels[0]) + k) % CLASSES for k in (1, 2)]


def test_it_runs_in_a_cascade_and_against_a_victim_that_only_decides(folder):
    held = held_out()
    attack = Generated(load_perturber(folder))
    alone = attacks.run(attack, Victim(Touchy(), Access.DECISION), held.x, held.labels, "linf:0.1")
    both = attacks.run(attacks.Cascade((attack, attacks.APGD(5))), Touchy(), held.x, held.labels, "linf:0.1")
    assert alone.fooled.any()
    assert (both.fooled | ~alone.fooled).all()
    assert torch.equal(both.step[alone.fooled], alone.step[alone.fooled])
