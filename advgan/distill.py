"""What would a victim answer that gives no gradients? A copy learns it from the answers, each of which is counted.

Static distillation asks once, for the data themselves. Dynamic distillation (AdvGAN, arXiv 1801.02610) goes on to ask
for what a perturber that is trained against the copy makes of them, since there the two differ.
"""

import copy as copies
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks import noise
from attacks.errors import InputError
from attacks.victim import Victim, borrowed

from .checkpoint import FILE, refuse_differences, unpack
from .fit import CHECKPOINT, Progress, Run, Samples
from .lessons import AT_ONCE, USUAL, Distilling, Lessons
from .perturb import Generated, Perturbing, success, train_perturber
from .samples import SAMPLING, Draws, stream

LESSONS = "lessons"  # the folder within a run's, with a file for each time that the victim was asked

__all__ = ["Distilled", "Distilling", "agreement", "distill", "distill_dynamically"]


@dataclass(frozen=True, eq=False)
class Distilled:
    """A copy, and what it cost the victim."""

    copy: nn.Module  # [b, ...] -> logits [b, K]; in eval mode, on the victim's device
    queries: Tensor  # [N] int64: how often the victim was shown each row of the data, as it is or perturbed
    agreement: float  # share of all answers in which the copy names the class that the victim named

    @property
    def asked(self) -> int:
        """Queries in all."""
        return int(self.queries.sum())

    @classmethod
    def of(cls, lessons: Lessons) -> "Distilled":
        assert lessons.copy is not None
        return cls(lessons.copy, lessons.queries, lessons.agreement())


def distill(
    victim: Victim,
    x: Tensor,
    distilling: Distilling = USUAL,
    *,
    copy: nn.Module | None = None,
    budget: int | None = None,
) -> Distilled:
    """Static distillation: the victim is asked once for each row of x [N, ...], and the copy learns its answers.

    victim: with Access.DECISION it answers with the class that it names, from SCORES on with its probabilities. How
        many classes there are is taken as known. It is put in eval mode and left as it was.
    x: float32, within the bounds that the victim is used with.
    copy: a module that gives logits [b, K]; a trained copy of it is returned. None: `networks.classifier`.
    budget: queries that the victim answers in all.

    The same seed gives the same copy. Raises InputError for a victim that is no `Victim` or names one class only, for
    no data, for a budget of less than N, and for a copy of other classes.
    """
    lessons = Lessons(victim, x, distilling, copy, budget)
    lessons.ask(lessons.x, torch.arange(len(x)))
    lessons.learn(distilling.epochs)
    return Distilled.of(lessons)


def distill_dynamically(
    victim: Victim,
    x: Tensor,
    recipe: Perturbing,
    out: Path | str,
    distilling: Distilling = USUAL,
    *,
    rounds: int = 10,
    copy: nn.Module | None = None,
    budget: int | None = None,
    held_out: Samples | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> tuple[Run, Distilled]:
    """Dynamic distillation: a perturber learns from the copy, and the copy what the victim says of its output.

    After the static distillation, `rounds` times in the course of the recipe's steps, the perturber's newest outputs
    for the data are shown to the victim and join the lessons. The run is written to `out` as by `train_perturber`, with
    the lessons beside it (each round's inputs and answers); the perturber learns to get away from the victim's own
    answers.

    resume: goes on with what was stopped, on the CPU bit for bit; no question that was answered is asked again. What a
        process had asked within a round, or before the first, when it was killed, is lost and not counted.
    rounds: each costs N queries, or what the budget leaves for it: as many rows, in turn.
    held_out: rows with labels; `measures["success"]` is then what the victim itself answers to `Generated` on them.
        That is the examiner's question, which is not among the queries.
    The rest is as in `distill` and `train_perturber`. InputError also where the budget leaves no query for a round.
    What can be seen to be wrong is refused before the victim is asked.
    """
    each = _each(len(x), rounds, recipe.steps, budget)
    _check_before_asking(x, recipe, Path(out), resume)
    lessons = Lessons(victim, x, distilling, copy, budget)
    done = _taken_up(lessons, Path(out), rounds) if resume else _asked_once(lessons)
    asking = _Asking(lessons, recipe, rounds, each, held_out, done)
    data = Samples(x, lessons.answers[0].argmax(1).to(x.device), lessons.answers[0].shape[1])
    every = max(1, recipe.steps // (rounds + 1))
    recipe = replace(recipe, labels="true")
    run = train_perturber(
        asking.rival, data, recipe, out, resume=resume, every=every, progress=progress, measure=asking
    )
    return run, Distilled.of(lessons)


class _Asking:
    """At each mark of the perturber's training: ask the victim, teach the copy, and let the perturber see it."""

    def __init__(
        self, lessons: Lessons, recipe: Perturbing, rounds: int, each: int, held_out: Samples | None, done: int
    ):
        assert lessons.copy is not None
        self.lessons, self.recipe, self.rounds, self.each, self.held_out = lessons, recipe, rounds, each, held_out
        self.rival = copies.deepcopy(lessons.copy)  # what the perturber is trained against, borrowed meanwhile
        self.done = done

    def __call__(self, run: Run) -> dict[str, float]:
        told: dict[str, float] = {}
        if not run.step:
            self.lessons.keep(_file(run.folder, 0), {"rounds": self.rounds})
        elif self.done < self.rounds:
            told = self._round(run)
        if run.step == self.recipe.steps and self.held_out is not None:
            told["success"] = self._success(run)
        return told | {"queries": int(self.lessons.queries.sum())}

    def _round(self, run: Run) -> dict[str, float]:
        """One that was asked already, by a process that was killed before the run was saved, is taken as answered."""
        path = _file(run.folder, run.step)
        if path.exists():
            told = self.lessons.recall(path)
        else:
            told = self._asked(run.generator)
            self.lessons.keep(path, told)
        assert self.lessons.copy is not None
        self.rival.load_state_dict(self.lessons.copy.state_dict())
        self.done += 1
        return told

    def _asked(self, perturber: Any) -> dict[str, float]:
        lessons = self.lessons
        rows = (torch.arange(self.each) + self.done * self.each) % len(lessons.x)
        x, named = self._perturbed(perturber, rows), lessons.answers[0].argmax(1)[rows.to(lessons.device)]
        lessons.ask(x, rows)
        answers = lessons.answers[-1].argmax(1)
        with borrowed(self.rival):
            guesses = torch.cat([self.rival(part).argmax(1) for part in x.split(AT_ONCE)])
        lessons.learn(lessons.distilling.again)
        return {"agreement": _share(guesses == answers), "changed": _share(answers != named)}

    @torch.no_grad()
    def _perturbed(self, perturber: Any, rows: Tensor) -> Tensor:
        lessons, parts = self.lessons, []
        named, seed = lessons.answers[0].argmax(1), lessons.distilling.seed
        for part in rows.to(lessons.device).split(AT_ONCE):
            z = noise.normal(stream(seed, SAMPLING), part, self.done, (perturber.latent,))
            labels = named[part]
            if self.recipe.target == "any":
                labels = Draws(seed, part + self.done * len(lessons.x)).other(labels, perturber.classes)
            elif self.recipe.target is not None:
                labels = torch.full_like(labels, int(self.recipe.target))
            parts.append(perturber(lessons.x[part], labels, z))
        return torch.cat(parts)

    def _success(self, run: Run) -> float:
        held_out, generator = self.held_out, run.generator
        assert held_out is not None
        assert held_out.labels is not None
        attack: Any = Generated(generator)  # type: ignore[arg-type]
        return success(attack, self.lessons.victim.model, held_out.x, held_out.labels).share


def agreement(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """The share of the rows of x [N, ...] for which both name the same class."""
    with borrowed(one), borrowed(other):
        same = [one(part).argmax(1) == other(part).argmax(1) for part in x.split(AT_ONCE)]
    return float(torch.cat(same).double().mean())


def _file(folder: Path, step: int) -> Path:
    return folder / LESSONS / f"step-{step}.safetensors"


def _asked_once(lessons: Lessons) -> int:
    """The static distillation, after which no round is done."""
    lessons.ask(lessons.x, torch.arange(len(lessons.x)))
    lessons.learn(lessons.distilling.epochs)
    return 0


def _taken_up(lessons: Lessons, folder: Path, rounds: int) -> int:
    """All that was asked until the checkpoint; how many rounds that were. InputError where it was of other rounds."""
    _, saved = unpack(folder / CHECKPOINT / FILE)
    first = lessons.recall(_file(folder, 0))
    refuse_differences(first, {"rounds": rounds}, folder)
    steps = sorted(int(path.stem.partition("-")[2]) for path in (folder / LESSONS).glob("step-*.safetensors"))
    known = [step for step in steps if 0 < step <= saved["progress"]["step"]]
    for step in known:
        lessons.recall(_file(folder, step))
    return len(known)


def _check_before_asking(x: Tensor, recipe: Perturbing, out: Path, resume: bool) -> None:
    """Raises InputError for what `train_perturber` would refuse once the victim's answers are spent."""
    Samples(x, bounds=(recipe.low, recipe.high)).check(replace(recipe, conditional=False))
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder. Name one that is, or that does not exist yet.")


def _each(rows: int, rounds: int, steps: int, budget: int | None) -> int:
    """How many rows a round may show."""
    if not 1 <= rounds < steps:
        raise InputError(f"rounds={rounds} in {steps} steps: at least one is needed, and fewer than steps.")
    each = rows if budget is None else min(rows, (budget - rows) // rounds)
    if each < 1:
        raise InputError(
            f"A budget of {budget} queries was named; {rows} are for the data, and each of {rounds} rounds needs at "
            f"least one: {rows + rounds} and more."
        )
    return each


def _share(values: Tensor) -> float:
    return float(values.double().mean())
