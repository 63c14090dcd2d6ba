"""Does a copy come to answer as its victim does, from no more than that reveals, and is every question counted?"""

import copy as copies
import json
import os
import shutil
import signal
from typing import Any

import pytest
import torch
from torch import nn

from advgan.distill import Distilling, agreement, distill, distill_dynamically
from advgan.fit import Samples
from advgan.networks.classifier import classifier
from advgan.perturb import Generated, Perturbing, load_perturber, success, train_perturber
from attacks import Access, InputError, Victim
from attacks.models import FromCallable

LABELS, SCORES = Access.DECISION, Access.SCORES
CLASSES = 4


class Counting(nn.Module):
    """A linear victim that counts the rows that it is shown; `scale` is how sure it is."""

    def __init__(self, features=6, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(CLASSES, features, generator=generator) * 4 * scale)
        self.bias = nn.Parameter(-self.weight.sum(1).detach() / 2)
        self.rows = 0

    def forward(self, x):
        self.rows += len(x)
        return x.flatten(1) @ self.weight.T + self.bias


def data(rows=600, shape=(6,), seed=1):
    return torch.rand(rows, *shape, generator=torch.Generator().manual_seed(seed))


def linear_copy():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Linear(6, CLASSES)


def centred(layer):
    """Weights [K, d], of which adding the same to each class changes nothing."""
    return (layer.weight - layer.weight.mean(0)).detach()


def test_the_scores_of_a_linear_victim_give_its_weights_away():
    victim = Counting()
    found = distill(Victim(victim, SCORES), data(), Distilling(epochs=120, lr=0.1), copy=linear_copy())
    assert agreement(found.copy, victim, data(seed=2)) > 0.99
    assert (centred(found.copy) - centred(victim)).abs().max() < 0.02 * centred(victim).abs().max()


@pytest.mark.parametrize(("copy", "lr"), [(linear_copy(), 0.5), (None, 5e-3)], ids=["linear", "ours"])
def test_labels_alone_are_enough_to_agree_with_a_linear_victim(copy, lr):
    victim = Counting()
    found = distill(Victim(victim, LABELS), data(1500), Distilling(epochs=40, lr=lr), copy=copy)
    assert agreement(found.copy, victim, data(seed=2)) > 0.95
    assert found.agreement > 0.97


def test_from_labels_alone_the_copy_cannot_tell_how_sure_the_victim_is():
    sure, unsure = (
        distill(Victim(Counting(scale=scale), LABELS), data(100), Distilling(epochs=2)) for scale in (10.0, 0.1)
    )
    x = data(seed=2)
    assert torch.equal(sure.copy(x), unsure.copy(x))
    by_scores = distill(Victim(Counting(scale=0.1), SCORES), data(100), Distilling(epochs=2))
    assert not torch.equal(by_scores.copy(x), unsure.copy(x))


def test_a_victim_outside_pytorch_that_only_names_classes_will_do():
    inner = Counting()
    victim = FromCallable(lambda x: inner(torch.as_tensor(x)).argmax(1).numpy(), decisions=True, classes=CLASSES)
    found = distill(Victim(victim, LABELS), data(), Distilling(epochs=30, lr=5e-3))
    assert agreement(found.copy, inner, data(seed=2)) > 0.9


def test_the_victim_is_asked_once_for_each_row_and_left_as_it_was():
    victim = Counting().train()
    found = distill(Victim(victim, LABELS), data(300), Distilling(epochs=1), budget=300)
    assert victim.rows == found.asked == 300
    assert (found.queries == 1).all()
    assert victim.training
    assert all(each.requires_grad and each.grad is None for each in victim.parameters())


def test_images_of_uneven_sides_are_learnt_from():
    shape = (3, 7, 5)
    victim = Counting(features=105)
    found = distill(Victim(victim, SCORES), data(300, shape), Distilling(epochs=50, lr=3e-3))
    assert found.copy(data(2, shape)).shape == (2, CLASSES)
    assert found.agreement > 0.9


def test_the_same_seed_gives_the_same_copy_and_leaves_the_callers_luck_alone():
    x, luck = data(200), torch.get_rng_state()
    one, same, other = (
        distill(Victim(Counting(), SCORES), x, Distilling(epochs=2, seed=seed)).copy(x) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), luck)


def test_the_callers_network_is_not_changed():
    given = linear_copy()
    before = copies.deepcopy(given.state_dict())
    found = distill(Victim(Counting(), SCORES), data(50), Distilling(epochs=1), copy=given)
    assert all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    assert not torch.equal(found.copy.state_dict()["weight"], given.weight)


def test_a_copy_is_an_ordinary_victim_with_gradients():
    found = distill(Victim(Counting(), LABELS), data(100), Distilling(epochs=1))
    assert not found.copy.training
    x = data(5).requires_grad_()
    found.copy(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_what_cannot_be_distilled_is_told_why():
    victim, x = Victim(Counting(), LABELS), data(20)

    def refused(match, victim: Any = victim, x=x, **options):
        with pytest.raises(InputError, match=match):
            distill(victim, x, Distilling(epochs=1), **options)

    refused(r"Counting; say what it reveals.*Access\.DECISION", victim=Counting())
    refused("20 rows.*answers 19 times", budget=19)
    refused("at least one example", x=data(0))
    refused("NaN", x=data(5).log().fill_(torch.nan))
    refused("probabilities", victim=Victim(nn.Sequential(Counting(), nn.Softmax(1)), SCORES))
    refused(r"\[20, 2, 3\].*give a `copy`", x=data(20, (2, 3)))
    refused(r"4 classes; the copy gives \[1, 3\]", copy=nn.Linear(6, 3))
    one_class = Counting()
    one_class.bias.data[2] = 1e4
    refused("names class 2 for all 20 rows", victim=Victim(one_class, LABELS))


def test_a_copy_that_does_not_fit_costs_no_more_than_the_first_pass():
    victim = Counting()
    with pytest.raises(InputError, match="4 classes"):
        distill(Victim(victim, LABELS), data(900), copy=nn.Linear(6, 3))
    assert victim.rows < 900


def test_options_that_make_no_sense_are_refused():
    for name in ("epochs", "again", "batch", "width", "lr"):
        with pytest.raises(InputError, match="at least one epoch"):
            Distilling(**{name: 0})
    with pytest.raises(InputError, match="two classes"):
        classifier((4,), 1)


# -- dynamic --

EPS = 0.2
LITTLE = Perturbing(
    threat=f"linf:{EPS}",
    network="mlp",
    width=32,
    depth=1,
    latent=2,
    steps=24,
    batch=32,
    gan_weight=0.0,
    hinge_weight=0.0,
)
SOON = Distilling(epochs=2, width=4)


def dynamically(out, victim=None, x=None, recipe=LITTLE, distilling=SOON, **options):
    victim = Victim(victim or Counting(), LABELS)
    return distill_dynamically(victim, data(60) if x is None else x, recipe, out, distilling, **options)


def test_each_round_shows_each_row_once_more_and_the_victim_saw_no_more_than_is_counted(tmp_path):
    victim = Counting()
    run, found = dynamically(tmp_path / "run", victim, rounds=4)
    assert victim.rows == found.asked == 60 * 5
    assert (found.queries == 5).all()
    told = [row["queries"] for row in run.history if "queries" in row]
    assert sorted(set(told)) == [60, 120, 180, 240, 300]


def test_a_budget_is_spent_evenly_and_never_exceeded(tmp_path):
    victim = Counting()
    _, found = dynamically(tmp_path / "run", victim, rounds=4, budget=60 + 4 * 17 + 3)
    assert victim.rows == found.asked == 60 + 4 * 17
    assert found.queries.max() - found.queries.min() <= 1
    with pytest.raises(InputError, match="64 and more"):
        dynamically(tmp_path / "none", victim, rounds=4, budget=63)
    with pytest.raises(InputError, match="at least one"):
        dynamically(tmp_path / "none", victim, rounds=0)
    assert victim.rows == 60 + 4 * 17


def test_what_could_not_be_trained_on_costs_no_query(tmp_path):
    victim = Counting()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        dynamically(tmp_path / "full", victim)
    with pytest.raises(InputError, match=r"batch of 32.*20 samples"):
        dynamically(tmp_path / "few", victim, x=data(20))
    with pytest.raises(InputError, match=r"within \[0, 1\]"):
        dynamically(tmp_path / "large", victim, x=data(60, (6, 1, 1)) + 1)
    with pytest.raises(InputError, match="fewer than steps"):
        dynamically(tmp_path / "often", victim, rounds=24)
    assert victim.rows == 0


def test_what_the_victim_is_shown_are_the_perturbers_outputs_for_the_data(tmp_path):
    shown, x, victim = [], data(60), Counting()
    victim.register_forward_pre_hook(lambda _, given: shown.append(given[0].clone()))
    dynamically(tmp_path / "run", victim, x=x, rounds=2)
    first, second = shown[1:]
    assert torch.equal(shown[0], x)
    for perturbed in (first, second):
        assert 0 < float((perturbed - x).abs().max()) <= EPS
    assert not torch.equal(first, second)


def test_the_victim_gives_no_gradient(tmp_path):
    victim, asked = Counting(), []
    victim.register_forward_hook(lambda _, given, logits: asked.append(given[0].requires_grad or logits.requires_grad))
    dynamically(tmp_path / "run", victim, rounds=2)
    assert asked
    assert not any(asked)


@pytest.mark.parametrize("target", [None, "any"])
def test_from_labels_alone_it_fools_a_linear_victim_as_often_as_with_gradients(tmp_path, target):
    victim, x = Counting(), data(600)
    unseen = data(300, seed=2)
    held_out = Samples(unseen, victim(unseen).argmax(1), CLASSES)
    recipe = Perturbing.of(LITTLE.as_config() | {"steps": 300, "target": target})
    run, _ = dynamically(
        tmp_path / "blind", victim, x, recipe, Distilling(epochs=15, lr=5e-3, again=2), rounds=5, held_out=held_out
    )
    seeing = train_perturber(victim, Samples(x), recipe, tmp_path / "seeing", held_out=held_out)
    measured, reference = run.measures["success"], seeing.measures["success"]
    assert measured is not None
    assert reference is not None
    assert measured > reference - 0.1 > 0.2
    attack = Generated(load_perturber(tmp_path / "blind"))
    assert held_out.labels is not None
    assert measured == success(attack, victim, unseen, held_out.labels).share


def test_the_same_seed_gives_the_same_perturber_and_copy(tmp_path):
    one, other = (dynamically(tmp_path / name, rounds=3) for name in ("one", "other"))
    x = data(20)
    assert torch.equal(one[1].copy(x), other[1].copy(x))
    z, labels = torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64)
    assert torch.equal(one[0].generator(x, labels, z), other[0].generator(x, labels, z))


def everything(folder):
    """The generator's bytes, what run.json says beside times, and the lessons' bytes."""
    about = json.loads((folder / "run.json").read_text())
    for row in (about["measures"], *about["history"]):
        row.pop("examples_per_second", None)
    del about["seconds"]
    lessons = {file.name: file.read_bytes() for file in (folder / "lessons").iterdir()}
    return (folder / "generator.safetensors").read_bytes(), about, lessons


def same(one, other):
    assert torch.equal(one.queries, other.queries)
    assert one.agreement == other.agreement
    for name, value in one.copy.state_dict().items():
        assert torch.equal(value, other.copy.state_dict()[name]), name


@pytest.mark.parametrize("at", [1, 6, 8, 23])
def test_what_was_stopped_and_resumed_is_the_uninterrupted_one_and_asks_no_more(at, tmp_path):
    """Marks are at 6, 12, 18 and 24; a round is asked at the first three of them."""

    def stop(step, row):
        if step == at:
            os.kill(os.getpid(), signal.SIGINT)

    copy = nn.Sequential(nn.BatchNorm1d(6), linear_copy())
    options: dict[str, Any] = {"rounds": 3, "copy": copy, "budget": 60 + 3 * 40}
    _, whole = dynamically(tmp_path / "whole", **options)
    victim = Counting()
    with pytest.raises(KeyboardInterrupt):
        dynamically(tmp_path / "parts", victim, progress=stop, **options)
    _, parts = dynamically(tmp_path / "parts", victim, resume=True, **options)
    assert victim.rows == parts.asked == 180
    same(whole, parts)
    assert everything(tmp_path / "whole") == everything(tmp_path / "parts")
    _, again = dynamically(tmp_path / "parts", victim, resume=True, **options)
    assert victim.rows == 180
    same(whole, again)


def test_a_round_that_was_answered_before_the_process_was_killed_is_not_asked_again(tmp_path):
    """The lessons are of step 12, the checkpoint still of step 6."""
    victim, kept = Counting(), tmp_path / "kept"

    def killed(step, row):
        if step == 7:
            shutil.copytree(tmp_path / "run" / "checkpoint", kept)
        if step == 13:
            raise SystemError

    with pytest.raises(SystemError):
        dynamically(tmp_path / "run", victim, rounds=3, progress=killed)
    assert victim.rows == 180
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    shutil.move(kept, tmp_path / "run" / "checkpoint")
    _, parts = dynamically(tmp_path / "run", victim, rounds=3, resume=True)
    assert victim.rows == parts.asked == 240
    _, whole = dynamically(tmp_path / "whole", rounds=3)
    same(whole, parts)
    assert everything(tmp_path / "whole") == everything(tmp_path / "run")


def test_one_that_was_begun_otherwise_is_not_gone_on_with(tmp_path):
    def stop(step, row):
        if step == 13:
            os.kill(os.getpid(), signal.SIGINT)

    victim, run = Counting(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        dynamically(run, victim, rounds=3, progress=stop)
    asked = victim.rows

    def refused(match, **options: Any):
        with pytest.raises(InputError, match=match):
            dynamically(**{"out": run, "victim": victim, "resume": True, "rounds": 3} | options)

    refused("rounds: 3 there, 2 asked", rounds=2)
    refused("budget: None there, 300 asked", budget=300)
    refused("epochs: 2 there, 3 asked", distilling=Distilling(epochs=3, width=4))
    refused("digest", x=data(60, seed=5))
    refused("does not hold this network", copy=nn.Sequential(nn.Linear(6, CLASSES)))
    refused("no file", out=tmp_path / "none")
    file = run / "lessons" / "step-6.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    refused("step-6.safetensors is not a whole safetensors file")
    assert victim.rows == asked


def test_a_copy_with_running_statistics_keeps_those_that_it_learnt_last(tmp_path):
    copy = nn.Sequential(nn.BatchNorm1d(6), linear_copy())
    x = data(60)
    _, found = dynamically(tmp_path / "run", x=x, copy=copy, rounds=3)
    assert found.copy.state_dict()["0.num_batches_tracked"] == 2 + 2 + 3 + 4  # batches of 64 rows, 60 to 240 of them
    assert found.copy.state_dict()["0.running_mean"].abs().min() > 0
