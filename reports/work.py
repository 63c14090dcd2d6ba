"""What does every attack do to one model, on some examples?

A pure function of the plan, the model and the examples: nothing is remembered from one shard to the next.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

import attacks as catalogue
from attacks import Access, Attack, Form, Goal, Result, ThreatModel, Victim
from attacks.certify import certify
from attacks.errors import InputError
from attacks.preflight import examine
from attacks.victim import AccessError, borrowed
from reports import columns, overlap
from reports.answers import Answers, clean_logits
from reports.devices import SMALL, wait_for
from reports.gallery import Gallery, Smallest
from reports.generated import FromRun
from reports.memory import Sizes
from reports.noise import noise
from reports.patience import ModelError, blaming_the_model, within
from reports.piece import Piece, packed
from reports.plan import Plan
from reports.provenance import example_digests
from reports.sources.dataset import Batch
from reports.sources.told import REVEALED, victim_of
from reports.unsure import explain, take_back

CURVE = "fmn"  # finds the smallest perturbation, and so a whole curve over eps in one run
FEWEST = 8  # rows: with fewer, matrix products go other ways and round otherwise

Doing = Callable[[str, int], None]  # what is being done, and how many examples are done with


class Steady(nn.Module):
    """The model, shown at least FEWEST rows at a time, so that its answers to a row do not depend on how many others
    are left. For small inputs alone, where that costs nothing."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def get_submodule(self, target: str) -> nn.Module:
        """Layers go by the names that they have in the model."""
        return self.model.get_submodule(target)

    def forward(self, x: Tensor) -> Any:
        if not 0 < len(x) < FEWEST:
            return self.model(x)
        answers = self.model(torch.cat([x, x[:1].detach().expand(FEWEST - len(x), *x.shape[1:])]))
        return answers[: len(x)] if isinstance(answers, Tensor) and len(answers) == FEWEST else answers


class Auditor:
    """Audits one model, which is on its device.

    seconds: how long one attack on one batch may take, None for as long as it does.
    doing: told what is being done.
    form: in which the model is searched.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        plan: Plan,
        seconds: float | None = None,
        doing: Doing | None = None,
        form: Form | None = None,
    ):
        self.name, self.model, self.seconds = name, model, seconds
        self.victim, self.form = victim_of(model), form or Form()
        self.plan = plan.against(name, self.victim)[0]
        self.doing = doing or (lambda what, examples: None)

    def shard(self, batch: Batch, device: torch.device, sizes: Sizes, first: Batch | None = None) -> Piece:
        """All that is found on the examples of a shard.

        first: the examples that are looked at before any attack, with the first shard alone.
        """
        whole, gallery = Piece(), Gallery()
        whole.add("example", id=batch.ids.numpy(), digest=example_digests(batch))
        if first is not None:
            whole.told["findings"] = self._looked_at(first, device)
        if device.type == "cpu" and math.prod(batch.x.shape[1:]) <= SMALL and self.victim.access is Access.GRADIENT:
            victim = replace(self.victim, model=Steady(self.model))
        else:
            victim = self.victim

        def one(at: slice) -> None:
            job = _OnBatch(self, victim, Batch(*(tensor[at].to(device, copy=True) for tensor in batch)))
            job.go()
            whole.join(job.piece)
            gallery.offer(job.gallery.kept())

        sizes.each(len(batch.ids), one)
        for example in gallery.kept():
            pixels = {name: packed(example[name][None]) for name in ("x", "x_adv")}
            rest = {name: [value] for name, value in example.items() if name not in pixels}
            whole.add("picture", **rest, **pixels)
        return whole

    def _looked_at(self, first: Batch, device: torch.device) -> list[dict[str, Any]]:
        x, labels = first.x.to(device), first.labels.to(device)
        with within(self.seconds, f"{self.name}: a first look"):
            logits = clean_logits(self.name, self.victim, x, labels, self.plan.seed, partly=True)
            if not bool(logits.isfinite().all(1).any()):
                raise InputError(
                    f"{self.name}: The model gives NaN or inf for {len(x)} of {len(x)} clean inputs; "
                    "mend the model first."
                )
            bounds = next(iter(self.plan.threats.values())).bounds
            found = examine(self.victim, x, labels, bounds=bounds, seed=self.plan.seed)
        return [asdict(finding) for finding in found]


class _OnBatch:
    """Everything that is run on one batch."""

    def __init__(self, auditor: Auditor, victim: Victim, batch: Batch):
        self.auditor, self.victim, self.plan = auditor, victim, auditor.plan
        self.name, self.whole = auditor.name, batch
        self.piece, self.gallery = Piece({"unsure": 0}), Gallery()
        self.in_forms: dict[Form, Victim] = {}  # of this batch alone: what one leaves must not tell on the next

    def go(self) -> None:
        self.clean = self._clean()
        batch, generated = self.batch, self._generated()
        for attack in generated.values():
            attack.check(tuple(batch.x.shape[1:]), self.classes, self.auditor.model)
        for text, threat in self.plan.threats.items():
            shown, standing = Smallest(batch), self.clean.prediction == batch.labels
            for name, attack in self.plan.attacks.items():
                self._doing(f"{name}, {text}")
                result = self._attacked((text, name), attack, threat)
                answers = self._verified(result)
                self._write(text, name, result, answers)
                if name in generated:
                    counts = overlap.seen(generated[name], batch, self.clean.prediction == batch.labels, result.fooled)
                    self.piece.told.setdefault("overlap", {}).setdefault(name, {})[text] = counts
                shown.look(name, result, answers)
                standing = standing & ~result.fooled
                self._doing(f"{name}, {text}", len(self.whole.x))
            self.gallery.choose(text, batch, self.clean, shown)
            self._certify(text, threat, standing)
        for norm, threat in self.plan.norms.items():
            self._doing(f"curve, {norm}")
            self._curve(norm, threat)
            self._doing(f"curve, {norm}", len(self.whole.x))
        notes = [note for victim in (self.victim, *self.in_forms.values()) for note in victim.searched.notes]
        if notes:
            self.piece.told["left"] = notes

    def _doing(self, what: str, done: int = 0) -> None:
        self.auditor.doing(f"{self.name}: {what}", done)

    def _generated(self) -> dict[str, FromRun]:
        return {name: attack for name, attack in self.plan.attacks.items() if isinstance(attack, FromRun)}

    def _span(self, what: str) -> str:
        return f"{what}, on examples {int(self.whole.ids[0])} to {int(self.whole.ids[-1])}"

    def _clean(self) -> Answers:
        """What the model says of the clean inputs that it has a finite answer to; the others are set aside."""
        whole = self.whole
        with within(self.auditor.seconds, self._span(f"{self.name}: a pass")):
            logits = clean_logits(self.name, self.victim, whole.x, whole.labels, self.plan.seed, partly=True)
        self.classes = logits.shape[1]
        self.piece.told["classes"] = [self.classes]
        answered = logits.isfinite().all(1)
        self.batch = whole if bool(answered.all()) else Batch(*(tensor[answered] for tensor in whole))
        self.unanswered = Batch(*(tensor[~answered] for tensor in whole))
        if len(self.unanswered.ids):
            self.piece.told["unanswered"] = self.unanswered.ids.tolist()
        return Answers.of(logits[answered], self.batch.labels)

    def _attacked(self, key: tuple[str, str], attack: Attack, threat: ThreatModel) -> Result:
        """key: threat and attack."""
        batch = self.batch
        if len(batch.x) == 0:
            return Result.nothing_yet(batch.x)
        wait_for(batch.x.device)
        start, what = time.perf_counter(), self._span(f"{key[1]}, {key[0]}")
        with within(self.auditor.seconds, f"{self.name}: {what},"), blaming_the_model(self.name, what):
            goal = Goal(batch.labels)
            victim = self._searched(attack, threat)
            result = catalogue.run(attack, victim, batch.x, goal, threat, seed=self.plan.seed, ids=batch.ids)
        wait_for(batch.x.device)
        self.piece.took(key, time.perf_counter() - start)
        return result

    def _searched(self, attack: Attack, threat: ThreatModel) -> Victim:
        """In the form that is asked for; where the boundary itself is looked for, in full precision."""
        form = self.auditor.form
        if getattr(attack, "until", "first") == "smallest" or math.isinf(threat.eps):
            form = form.full
        if not form:
            return self.victim
        return self.in_forms.setdefault(form, replace(self.victim, **vars(form)))

    def _verified(self, result: Result) -> Answers:
        """What the model says of x_adv in a pass of its own, which must bear every claim out."""
        broken, batch = (result.step > 0).nonzero().squeeze(1), self.batch
        answers = self.clean
        if len(broken):
            with borrowed(self.victim.model, self.plan.seed):
                logits = self.victim.logits(result.x_adv[broken])
            answers = answers.with_rows(broken, Answers.of(logits, batch.labels[broken]))
        unsure = (answers.prediction != batch.labels) != result.fooled
        if bool(unsure.any()):
            explain(self.name, self.auditor.victim, result.x_adv, self.plan.seed)
            self.piece.told["unsure"] += int(unsure.sum())
            answers = answers.with_rows(unsure.nonzero().squeeze(1), self.clean.rows(unsure))
            take_back(result, unsure, batch.x, answers.prediction != batch.labels)
        return answers

    def _write(self, threat: str, attack: str, result: Result, answers: Answers) -> None:
        rows = columns.of_rows(self.batch, self.clean, result, answers)
        self.piece.add("row", threat=threat, attack=attack, **rows)
        if len(self.unanswered.ids):
            self.piece.add("row", threat=threat, attack=attack, **columns.of_unanswered_rows(self.unanswered))

    def _certify(self, text: str, threat: ThreatModel, standing: Tensor) -> None:
        """Bounds for those of the first examples that stand [b] bool; the others need none."""
        batch, whole = self.batch, self.whole
        first = whole.ids < self.plan.certify
        if math.isinf(threat.eps) or not bool(first.any()):
            return
        self._doing(f"certificates, {text}")
        start = time.perf_counter()
        margin = torch.full((len(whole.x),), torch.nan, dtype=torch.float64, device=whole.x.device)
        at = ((batch.ids < self.plan.certify) & standing).nonzero().squeeze(1)
        try:
            if len(at):
                # One by one, so that the last digits do not depend on which others stand beside.
                each = [certify(self.auditor.model, batch.x[k], batch.labels[k], threat).margin for k in at.split(1)]
                margin[torch.isin(whole.ids, batch.ids[at])] = torch.cat(each).to(margin)
        except InputError as error:
            self.piece.told.setdefault("unbounded", {})[text] = str(error)
            return
        rows = {"id": whole.ids, "margin": margin, "certified": margin > 0}
        rows = {name: tensor[first].cpu().numpy() for name, tensor in rows.items()}
        self.piece.add("certificate", threat=text, attack="certify", **rows)
        self.piece.took((text, "certify"), time.perf_counter() - start)

    def _curve(self, norm: str, threat: ThreatModel) -> None:
        batch = self.batch
        try:
            result = self._attacked((f"{norm}:inf", CURVE), catalogue.CATALOG[CURVE](), threat)
        except ModelError:
            raise
        except AccessError:
            revealed = REVEALED[self.victim.access]
            self.piece.told.setdefault("uncurved", {})[norm] = f"it takes gradients, and the model reveals {revealed}."
            return
        except InputError as error:  # the clean pass went well, so this is the norm, or a model without gradients
            self.piece.told.setdefault("uncurved", {})[norm] = str(error)
            return
        correct = self.clean.prediction == batch.labels
        self.piece.add("curve", threat=norm, attack=CURVE, **columns.of_curve(batch, correct, result))
        if len(self.unanswered.ids):
            self.piece.add("curve", threat=norm, attack=CURVE, **columns.of_unanswered_curve(self.unanswered))
        rays = noise(self.victim, threat, batch, correct, result.size, self.plan.seed)
        if rays is not None:
            self.piece.add("noise", threat=norm, attack=CURVE, **rays)
