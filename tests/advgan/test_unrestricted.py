"""Does a search of latent space find what a victim mistakes, count what that costs, and stay where it is told to?"""

from pathlib import Path

import pytest
import torch
from torch import nn

import attacks
from advgan.recipe import Recipe
from advgan.run import Run
from advgan.sample import sample
from advgan.unrestricted import Sampled, Unrestricted, unrestricted
from attacks import Goal, InputError, Restarts, Victim


class Line(nn.Module):
    """Makes [look, class]: look is 1 or -1 as the class says, moved by the first latent; class is that exactly."""

    shape, latent, classes = (2,), 3, 2

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x, labels, z):
        sign = 2.0 * labels.to(z.dtype) - 1
        return torch.stack([sign + self.scale * z[:, 0], sign], 1)


class Picture(Line):
    """The same as an image [1, 2, 2] within -1 and 1."""

    shape = (1, 2, 2)

    def forward(self, x, labels, z):
        return super().forward(x, labels, z).repeat(1, 2).reshape(-1, 1, 2, 2).mul(0.5).tanh()


class Sign(nn.Module):
    """Calls a sample by the sign of one of its numbers, less a threshold; counts the rows that it is shown."""

    def __init__(self, place, threshold=0.0):
        super().__init__()
        self.place, self.threshold, self.rows, self.gradients = place, threshold, 0, 0

    def forward(self, x):
        self.rows += len(x)
        lead = x.flatten(1)[:, self.place] - self.threshold
        logits = torch.stack([-lead, lead], 1)
        if logits.requires_grad:
            logits.register_hook(self.count)
        return logits

    def count(self, gradient):
        self.gradients += len(gradient)


LOOK, TRUTH = 0, 1


def run_of(generator):
    recipe = Recipe(latent=generator.latent, conditional=True)
    return Run(Path("none"), recipe, generator.eval(), generator.shape, generator.classes, {})


def searched(n=40, generator=None, victim=None, **options):
    options = {"judge": Sign(TRUTH), "free": 10.0, **options}
    return unrestricted(run_of(generator or Line()), Victim(victim or Sign(LOOK)), n, **options)


def test_the_victim_that_looks_at_what_may_vary_is_always_fooled_and_the_judge_never():
    found = searched()
    measures = found.measures()
    assert measures["success"] == measures["agreement"] == measures["success_agreed"] == 1.0
    assert (found.named != found.labels)[found.found].all()
    assert (found.result.x_adv[:, LOOK].sign() != found.start[:, LOOK].sign())[found.found].all()


def test_a_victim_that_looks_at_what_the_class_decides_is_never_fooled():
    found = searched(victim=Sign(TRUTH), judge=None, steps=30)
    assert not found.found.any()
    assert torch.equal(found.result.x_adv, found.start)
    assert torch.isnan(torch.tensor(searched(victim=Sign(TRUTH), judge=Sign(LOOK)).measures()["agreement"]))


def test_the_search_sets_out_from_the_samples_that_the_run_gives():
    run, seen = run_of(Line()), []
    victim = Sign(LOOK)
    victim.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    found = unrestricted(run, Victim(victim), 20, seed=7)
    assert torch.equal(found.start, sample(run, 20, seed=7)[0])
    assert torch.equal(seen[0], found.start)  # the loop's own look
    assert torch.equal(seen[1], found.start[found.stood])


def test_near_its_start_it_stays_when_that_is_dear():
    far, near = searched(near_weight=0.0), searched(free=0.1, near_weight=1e4)
    assert far.found.all()
    needed = far.start[:, LOOK].abs() / 0.3  # of the first latent, to the victim's boundary
    assert not near.found[needed > 0.5].any()


def test_an_auxiliary_classifier_holds_the_search_back():
    free = searched()
    held = searched(auxiliary=Sign(LOOK), auxiliary_weight=100.0)
    assert free.found.all()
    assert held.found.sum() < 5


def test_samples_that_are_mistaken_at_once_are_no_success():
    victim = Sign(LOOK, threshold=1.0)  # about half of the samples of class 1 look like class 0
    found = searched(victim=victim)
    mistaken = Sign(LOOK, threshold=1.0)(found.start).argmax(1) != found.labels
    assert mistaken.any()
    assert torch.equal(found.stood, ~mistaken)
    assert not found.found[mistaken].any()
    assert found.measures()["stood"] == float((~mistaken).double().mean())


def test_the_counts_are_what_the_victim_saw():
    victim = Sign(LOOK)
    found = unrestricted(run_of(Line()), Victim(victim), 40, steps=9, lr=1e-4)
    assert not found.found.any()  # so that no row left a batch that others stayed in
    assert int(found.result.queries.sum()) == victim.rows - 40 == 40 * 10  # the last 40 are for `named`
    assert int(found.result.backwards.sum()) == victim.gradients == 40 * 9


def test_images_stay_within_0_and_1_and_are_what_the_generator_made():
    victim = Sign(LOOK, threshold=0.5)
    found = searched(generator=Picture(), victim=victim, judge=Sign(TRUTH, threshold=0.5))
    x = found.result.x_adv
    assert x.shape == (40, 1, 2, 2)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert torch.equal(x[:, :, 0], x[:, :, 1])
    assert found.measures()["success_agreed"] == 1.0


def test_a_target_is_reached_from_the_classes_asked_for():
    labels = torch.zeros(15, dtype=torch.int64)
    found = searched(15, labels=labels, target=1)
    assert found.found.all()
    assert (found.named == 1).all()
    with pytest.raises(InputError, match="taken for 1"):
        searched(15, target=1)


def test_batch_and_order_change_no_bit():
    generator, victim = Line().eval(), Sign(LOOK)
    labels = torch.arange(30) % 2
    x = torch.zeros(30, 2)
    attack, threat = Sampled(generator, free=10.0), attacks.linf(torch.inf, bounds=(-torch.inf, torch.inf))
    x[:, LOOK] = 2.0 * labels - 1
    whole = attacks.run(attack, victim, x, labels, threat, seed=4)
    assert whole.fooled.all()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    others = {
        "shuffled": (attacks.run(attack, victim, x[order], labels[order], threat, seed=4, ids=order), order),
        "by four": (attacks.run(attack, victim, x, labels, threat, seed=4, batch_size=4), torch.arange(30)),
        "kept whole": (attacks.run(attack, victim, x, labels, threat, seed=4, compact_below=0.0), torch.arange(30)),
    }
    for how, (result, at) in others.items():
        for field in ("x_adv", "fooled", "queries", "backwards", "step"):
            assert torch.equal(getattr(whole, field)[at], getattr(result, field)), (how, field)


def test_it_is_an_attack_like_others_and_can_be_begun_again():
    labels = torch.arange(30) % 2
    x = torch.stack([2.0 * labels - 1, 2.0 * labels - 1], 1)
    threat = attacks.linf(torch.inf, bounds=(-torch.inf, torch.inf))
    attack = Restarts(Sampled(Line().eval(), steps=1, lr=1e-6), 200)  # chance alone: a look beyond 3.3 deviations
    assert not attacks.run(attack, Sign(TRUTH), x, labels, threat).fooled.any()
    assert 0 < attacks.run(attack, Sign(LOOK), x, labels, threat).fooled.sum() < 30


def test_what_cannot_be_searched_is_told_why():
    run, victim, labels = run_of(Line()), Victim(Sign(LOOK)), torch.zeros(4, dtype=torch.int64)

    class Classless(Line):
        classes = None

    auxiliary = Sign(LOOK)
    for judge in (victim.model, auxiliary):
        with pytest.raises(InputError, match="judge is a model that the search sees"):
            unrestricted(run, victim, 4, judge=judge, auxiliary=auxiliary)
    with pytest.raises(InputError, match="trained without classes"):
        unrestricted(run_of(Classless()), victim, 4)
    with pytest.raises(InputError, match="classes 0 to 1"):
        unrestricted(run, victim, 4, labels=labels + 2)
    with pytest.raises(InputError, match="at least one step"):
        Sampled(run.generator, steps=0)
    with pytest.raises(InputError, match="linf:inf"):
        attacks.run(Sampled(run.generator), victim, torch.rand(4, 2), labels, "linf:0.1")
    with pytest.raises(InputError, match="versus=labels"):
        attacks.run(
            Sampled(run.generator),
            victim,
            -torch.rand(4, 2),
            Goal(labels + 1, True),
            attacks.linf(torch.inf, bounds=(-2.0, 2.0)),
        )
    with pytest.raises(InputError, match="GRADIENT"):
        unrestricted(run, Victim(Sign(LOOK), attacks.Access.SCORES), 4)


def test_a_search_that_found_nothing_has_no_share_of_agreement():
    nothing = searched(victim=Sign(TRUTH), judge=Sign(LOOK), steps=2)
    assert isinstance(nothing, Unrestricted)
    assert nothing.measures()["success"] == 0.0
