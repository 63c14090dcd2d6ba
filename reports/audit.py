"""What does each attack do to each model under each threat, on the same examples?"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import attacks as catalogue
from attacks import Attack, Goal, Result, ThreatModel, card_of
from attacks.certify import certify
from attacks.doubts import doubts
from attacks.errors import InputError
from attacks.preflight import Finding, examine
from attacks.victim import borrowed
from reports import record
from reports.answers import Answers, clean_logits
from reports.gallery import Gallery, Smallest
from reports.generated import FromRun
from reports.noise import NoiseProbe
from reports.options import described, named_attacks
from reports.overlap import Overlap
from reports.provenance import DataHash, state_hash, versions
from reports.sources.dataset import Batch, Dataset
from reports.sources.told import REVEALED, told, victim_of

SMALL = 256  # numbers in an input
TOLD_BY_ROWS = {"near_chance"}  # findings that reports.doubts draws from all of the examples
CURVE = "fmn"  # finds the smallest perturbation, and so a whole curve over eps in one run

Progress = Callable[[int, int, str], None]  # (done, of how many, what is being done)


@dataclass(frozen=True)
class Plan:
    """What is run on every batch, checked before the first one."""

    threats: dict[str, ThreatModel]
    attacks: dict[str, Attack]
    norms: dict[str, ThreatModel]  # one unbounded threat per curve
    seed: int
    certify: int  # so many of the first examples

    @classmethod
    def of(
        cls, threats: Sequence[str], attacks: Sequence[str | Attack], curves: bool, seed: int, certify: int = 0
    ) -> "Plan":
        parsed = {text: ThreatModel.parse(text) for text in threats}
        if not parsed:
            raise InputError("No threat is named; an audit needs at least one, say linf:8/255.")
        if len(parsed) < len(threats):
            raise InputError(f"A threat is there twice: {', '.join(threats)}.")
        if not 0 <= seed < 2**63:
            raise InputError(f"The seed is {seed}; it must be a whole number from 0 to 2**63 - 1.")
        if certify < 0:
            raise InputError(f"--certify is {certify}; it is the number of examples to be certified, 0 for none.")
        bounded = [threat for threat in parsed.values() if np.isfinite(threat.eps)]
        norms = {threat.norm.name: replace(threat, eps=float("inf")) for threat in bounded}
        return cls(parsed, named_attacks(attacks), norms if curves else {}, seed, certify)

    def on(self, data: Dataset) -> "Plan":
        """The same within the bounds of the data, and where its mask lets an attacker write."""

        def within(threats: dict[str, ThreatModel]) -> dict[str, ThreatModel]:
            return {name: replace(each, bounds=data.bounds, mask=data.mask) for name, each in threats.items()}

        return replace(self, threats=within(self.threats), norms=within(self.norms))

    def runs(self, attacks: int) -> int:
        """Of so many attacks."""
        return len(self.threats) * attacks + len(self.norms)


def audit(
    models: Mapping[str, nn.Module],
    data: Dataset,
    threats: Sequence[str],
    attacks: Sequence[str | Attack],
    out: Path | str,
    *,
    examples: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int = 256,
    curves: bool = True,
    certify: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> record.Audit:
    """Run every attack on every model under every threat, over the first `examples`, and write it all to `out`.

    models: give logits [b, K] for inputs within [0, 1]; they are left as they were.
    threats: texts such as "linf:8/255"; attacks: texts such as "pgd:steps=20", or attacks.
    curves: also find each example's smallest perturbation, once per norm.
    certify: bound the margins of so many of the first examples, as far as they stand, by `attacks.certify`; it takes
        seconds an example for deep models, and is left out, with a note, for a model that cannot be bounded.
    progress: called with (done, of how many, what is being done).
    configuration: more for audit.json to say, such as the texts that models and data were named by.
    Attacks run apart, not in a cascade: the report can then say what each one is worth.

    Raises InputError where the input cannot be used; nothing is left behind then.
    """
    plan = Plan.of(threats, attacks, curves, seed, certify).on(data)
    place = device_named(device)
    if not models:
        raise InputError("No model is named; an audit needs at least one.")
    count = min(examples or len(data), len(data))
    tell = _Counter(progress)
    seen = DataHash()
    with record.Writer(out, overwrite=overwrite) as writer, placed(models, place), threads(data.shape):
        each = [_Audited(name, model, plan, data, writer, tell) for name, model in models.items()]
        tell.total = count * sum(plan.runs(len(one.attacks)) for one in each)
        for batch in data.batches(examples, batch_size):
            seen.add(batch)
            for one in each:
                one.audit_batch(Batch(*(tensor.to(place) for tensor in batch)))
        for one in each:
            one.gallery.hang(writer)
            one.own_up()
        asked = {
            "models": {name: type(model).__name__ for name, model in models.items()},
            "data": data.name,
            "examples": examples,
            "threats": list(plan.threats),
            "attacks": {name: described(attack) for name, attack in plan.attacks.items()},
            "seed": seed,
            "device": device,
            "batch_size": batch_size,
            "curves": curves,
            "certify": certify,
        }
        about = {
            "configuration": {**asked, **(configuration or {})},
            "versions": versions(),
            "data": {
                "n": count,
                "shape": list(data.shape),
                "classes": _all_classes(data.classes, max(one.classes for one in each)),
                **_bounds_told(data),
                "sha256": seen.hexdigest(),
            },
            "models": {one.name: one.told() for one in each},
            "noise": {one.name: one.noise.told() for one in each},
            "preflight": {one.name: [asdict(finding) for finding in one.findings or []] for one in each},
            "doubts": [doubt for one in each for doubt in one.doubts],
        }
        return writer.finish(about)


class _Audited:
    """One model under audit: what is run on it batch by batch, and what has to be remembered between batches."""

    def __init__(self, name: str, model: nn.Module, plan: Plan, data: Dataset, writer: record.Writer, tell: "_Counter"):
        self.name, self.model, self.plan, self.writer, self.tell = name, model, plan, writer, tell
        self.bounds = data.bounds
        self.victim = victim_of(model)
        self.gallery = Gallery(name)
        self.noise = NoiseProbe(self.victim, plan.seed)
        self.doubts: list[dict[str, Any]] = []
        self.attacks = self._that_apply()
        self.findings: list[Finding] | None = None  # None until the first batch has been looked at
        self.skipped: set[str] = set()  # norms without a curve
        self.unbounded = False  # it cannot be certified
        self.overlaps = {name: Overlap(attack) for name, attack in self.attacks.items() if isinstance(attack, FromRun)}
        self.unsure = 0  # verdicts that a plain pass did not bear out
        self.classes = 0
        self.parameters = sum(parameter.numel() for parameter in model.parameters())

    def _that_apply(self) -> dict[str, Attack]:
        """The attacks that need no more than the model reveals; which are left out is noted."""
        needed = {name: card_of(attack).access for name, attack in self.plan.attacks.items()}
        left_out = [name for name in needed if needed[name] > self.victim.access]
        if len(left_out) == len(needed):
            raise InputError(
                f"{self.name} reveals {REVEALED[self.victim.access]}, and {', '.join(left_out)} need more. Name "
                "attacks that do not: hopskipjump and rays need decisions, square, simba and nes scores."
            )
        if left_out:
            text = f"It reveals {REVEALED[self.victim.access]}. Left out, since they need more: {', '.join(left_out)}."
            self.doubts.append({"model": self.name, "threat": None, "severity": "note", "text": text})
        return {name: attack for name, attack in self.plan.attacks.items() if name not in left_out}

    def told(self) -> dict[str, Any]:
        """What audit.json says of the model itself."""
        reveals = self.victim.access.name.lower()
        about = {"sha256": state_hash(self.model), "parameters": self.parameters}
        return {**about, "access": reveals, "source": told(self.model)}

    def audit_batch(self, batch: Batch) -> None:
        clean = self._clean(batch)
        for overlap in self.overlaps.values():
            overlap.attack.check(tuple(batch.x.shape[1:]), self.classes)
        if self.findings is None:
            self.findings = examine(self.victim, batch.x, batch.labels, bounds=self.bounds, seed=self.plan.seed)
            self.doubts += [_doubted(self.name, finding) for finding in self.findings if _is_doubt(finding)]
        for text, threat in self.plan.threats.items():
            shown, standing = Smallest(batch), clean.prediction == batch.labels
            for name, attack in self.attacks.items():
                self.tell.doing(f"{self.name}: {name}, {text}")
                result, seconds = self._run(attack, batch, threat)
                answers = self._verified(batch, clean, result)
                self._write(text, name, batch, clean, result, answers, seconds)
                if name in self.overlaps:
                    self.overlaps[name].see(text, batch, clean.prediction == batch.labels, result.fooled)
                shown.look(name, result, answers)
                standing = standing & ~result.fooled
                self.tell.add(len(batch.x))
            self.gallery.choose(text, batch, clean, shown)
            self._certify(text, batch, threat, standing)
        for norm, threat in self.plan.norms.items():
            self.tell.doing(f"{self.name}: curve, {norm}")
            self._curve(norm, batch, clean, threat)
            self.tell.add(len(batch.x))

    def _clean(self, batch: Batch) -> Answers:
        logits = clean_logits(self.name, self.victim, batch.x, batch.labels, self.plan.seed)
        self.classes = max(self.classes, logits.shape[1])
        return Answers.of(logits, batch.labels)

    def _run(self, attack: Attack, batch: Batch, threat: ThreatModel) -> tuple[Result, float]:
        _wait_for(batch.x.device)
        start = time.perf_counter()
        result = catalogue.run(
            attack, self.victim, batch.x, Goal(batch.labels), threat, seed=self.plan.seed, ids=batch.ids
        )
        _wait_for(batch.x.device)
        return result, time.perf_counter() - start

    def _verified(self, batch: Batch, clean: Answers, result: Result) -> Answers:
        """What the model says of x_adv in a pass of its own, which must bear every claim out."""
        broken = (result.step > 0).nonzero().squeeze(1)
        answers = clean
        if len(broken):
            with borrowed(self.model, self.plan.seed):
                logits = self.victim.logits(result.x_adv[broken])
            answers = clean.with_rows(broken, Answers.of(logits, batch.labels[broken]))
        unsure = (answers.prediction != batch.labels) != result.fooled
        if bool(unsure.any()):
            self._explain(result.x_adv)
            self.unsure += int(unsure.sum())
            answers = answers.with_rows(unsure.nonzero().squeeze(1), clean.rows(unsure))
            _take_back(result, unsure, batch.x, answers.prediction != batch.labels)
        return answers

    def _explain(self, x: Tensor) -> None:
        """Raises InputError where the model is to blame for a verdict that a plain pass does not bear out."""
        with borrowed(self.model, self.plan.seed):
            once, again = self.victim.logits(x), self.victim.logits(x)
            alone = torch.cat([self.victim.logits(row[None]) for row in x])
        near = 1e-2 * float(once.max() - once.min())
        if not torch.allclose(once, again, rtol=0, atol=near / 10):
            raise InputError(
                f"The model {self.name} is random: it answers the same inputs differently (logits differ by up to "
                f"{float((once - again).abs().max()):.3g}). Turn its randomness off in eval mode."
            )
        if not torch.allclose(once, alone, rtol=0, atol=near):
            raise InputError(
                f"The model {self.name} answers an input differently beside others (logits differ by up to "
                f"{float((once - alone).abs().max()):.3g}): its rows are not independent, as with batch statistics. "
                "Use running statistics in eval mode."
            )

    def own_up(self) -> None:
        """Add the doubts that only the whole run can tell."""
        notes = [(threat, text) for overlap in self.overlaps.values() for threat, text in overlap.notes()]
        self.doubts += [{"model": self.name, "threat": t, "severity": "note", "text": text} for t, text in notes]
        if self.unsure:
            text = (
                f"{self.unsure} verdicts of attacks were not borne out by a second pass and are not counted: the "
                "model's logits move with the batch by more than rounding. Audit without reduced precision."
            )
            self.doubts.append({"model": self.name, "threat": None, "severity": "warning", "text": text})

    def _write(
        self, threat: str, attack: str, batch: Batch, clean: Answers, result: Result, answers: Answers, seconds: float
    ) -> None:
        columns = {
            "ids": batch.ids,
            "labels": batch.labels,
            "clean_prediction": clean.prediction,
            "correct": clean.prediction == batch.labels,
            "fooled": result.fooled,
            "adversarial_prediction": answers.prediction,
            "size": result.size,
            "margin": answers.margin.double(),
            "queries": result.queries,
            "backwards": result.backwards,
            "passes": result.passes,
            "x_adv": result.x_adv,
        }
        if result.seen is not None:
            columns |= {"stage": result.seen.stage, "doubts": doubts(result.seen), "gap": result.seen.gap.double()}
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in columns.items()}
        self.writer.add(self.name, threat, attack, **arrays, seconds=seconds)

    def _certify(self, text: str, batch: Batch, threat: ThreatModel, standing: Tensor) -> None:
        """Bounds for those of the first examples that stand [b] bool; the others need none."""
        first = batch.ids < self.plan.certify
        if self.unbounded or math.isinf(threat.eps) or not bool(first.any()):
            return
        self.tell.doing(f"{self.name}: certificates, {text}")
        start = time.perf_counter()
        margin = torch.full((len(batch.x),), torch.nan, dtype=torch.float64, device=batch.x.device)
        at = (first & standing).nonzero().squeeze(1)
        try:
            if len(at):
                margin[at] = certify(self.model, batch.x[at], batch.labels[at], threat).margin
        except InputError as error:
            self.unbounded = True
            note = f"Nothing is certified: {error}"
            self.doubts.append({"model": self.name, "threat": None, "severity": "note", "text": note})
            return
        columns = {"ids": batch.ids, "margin": margin, "certified": margin > 0}
        arrays = {name: tensor[first].cpu().numpy() for name, tensor in columns.items()}
        self.writer.add_certificates(self.name, text, **arrays, seconds=time.perf_counter() - start)

    def _curve(self, norm: str, batch: Batch, clean: Answers, threat: ThreatModel) -> None:
        if norm in self.skipped:
            return
        try:
            result, seconds = self._run(catalogue.CATALOG[CURVE](), batch, threat)
        except InputError as error:  # the clean pass went well, so this is the norm, or a model without gradients
            self.skipped.add(norm)
            text = f"No curve over eps in {norm}: {error}"
            self.doubts.append({"model": self.name, "threat": None, "severity": "note", "text": text})
            return
        columns = {
            "ids": batch.ids,
            "correct": clean.prediction == batch.labels,
            "size": result.size,
            "queries": result.queries,
            "backwards": result.backwards,
        }
        arrays = {name: tensor.cpu().numpy() for name, tensor in columns.items()}
        self.writer.add_curve(self.name, norm, CURVE, **arrays, seconds=seconds)
        self.noise.look(threat, batch, columns["correct"], result.size)


def _is_doubt(finding: Finding) -> bool:
    return finding.severity != "note" and finding.code not in TOLD_BY_ROWS


def _doubted(model: str, finding: Finding) -> dict[str, Any]:
    return {
        "model": model,
        "threat": None,
        "severity": finding.severity,
        "text": f"{finding.text} {finding.remedy}",
    }


def _take_back(result: Result, rows: Tensor, x: Tensor, wrong: Tensor) -> None:
    """These rows [b] bool count as their clean input does."""
    result.x_adv[rows] = x[rows]
    result.fooled[rows] = wrong[rows]
    result.size[rows] = torch.where(wrong[rows], 0.0, torch.inf).to(result.size)
    result.step[rows] = torch.where(wrong[rows], 0, -1)
    result.passes[rows] = torch.where(wrong[rows], result.passes[rows], -1)


class _Counter:
    """Tells how much of the work is done."""

    def __init__(self, progress: Progress | None):
        self.progress, self.total, self.done, self.what = progress, 0, 0, ""

    def doing(self, what: str) -> None:
        self.what = what
        self.add(0)

    def add(self, rows: int) -> None:
        self.done += rows
        if self.progress is not None:
            self.progress(self.done, self.total, self.what)


def device_named(text: str) -> torch.device:
    """The device; InputError where it is unknown or not there."""
    try:
        device = torch.device(text)
    except RuntimeError:
        raise InputError(f"There is no device {text!r}. Known: cpu, cuda, cuda:NUMBER.") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"The device {text!r} is not one that audits run on. Known: cpu, cuda, cuda:NUMBER.")
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= there:
        what = f"there are {there}" if there else "PyTorch finds no CUDA device"
        raise InputError(f"The device {text} was asked for, and {what}. Use --device cpu, or see nvidia-smi.")
    return device


def _bounds_told(data: Dataset) -> dict[str, Any]:
    """The bounds, the widest where features differ, and what else was said or taken for granted of the data."""
    low, high = (torch.as_tensor(bound) for bound in data.bounds)
    found: dict[str, Any] = {"bounds": [float(low.min()), float(high.max())]}
    if low.ndim or high.ndim:
        found["bounds_of_features"] = [low.tolist(), high.tolist()]
    if data.mask is not None:
        found["mask"] = data.mask.tolist()
    return {**found, **({"notes": list(data.notes)} if data.notes else {})}


def _all_classes(names: list[str], count: int) -> list[str]:
    """The data's names, and numbers for the classes that only the models have."""
    return [*names, *(str(k) for k in range(len(names), count))]


@contextlib.contextmanager
def placed(models: Mapping[str, nn.Module], device: torch.device) -> Iterator[None]:
    """The models on the device; on leaving, back where they were."""
    homes = [(model, next((t.device for t in model.state_dict().values()), device)) for model in models.values()]
    try:
        for model, _ in homes:
            model.to(device)
        yield
    finally:
        for model, home in homes:
            model.to(home)


@contextlib.contextmanager
def threads(shape: Sequence[int]) -> Iterator[None]:
    """One thread for inputs so small that several would mostly wait for each other; on leaving, as many as before."""
    before = torch.get_num_threads()
    if math.prod(shape) <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
