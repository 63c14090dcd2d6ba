"""What does each attack do to each model under each threat, on the same examples?"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advgan.checkpoint import refuse_differences
from attacks import Attack, Form
from attacks.errors import InputError
from reports import record, words
from reports.assembled import Assembled
from reports.devices import device_named
from reports.engines import Done, Engine, Here, Job, Local, Span
from reports.generated import FromRun
from reports.options import described
from reports.plan import Plan, usual_batch, usual_shard
from reports.provenance import DataHash, state_hash, versions
from reports.replacing import refuse_to_harm
from reports.resume import plain
from reports.sources.dataset import Dataset
from reports.sources.told import told as source_told
from reports.sources.told import victim_of
from reports.unfinished import WRITING, Unfinished, place_for
from reports.writer import Writer

Progress = Callable[[int, int, str], None]  # (done, of how many, what is being done)


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
    batch_size: int | None = None,
    shard: int | None = None,
    curves: bool = True,
    certify: int = 0,
    timeout: float | None = None,
    fast: Mapping[str, Form] | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> record.Audit:
    """Run every attack on every model under every threat, over the first `examples`, and write it all to `out`.

    models: give logits [b, K] for inputs within the bounds of the data; they are left as they were.
    threats: texts such as "linf:8/255"; attacks: texts such as "pgd:steps=20", or attacks.
    batch_size: examples at a time; None finds it. Where memory does not do, it is halved.
    shard: examples that are finished and kept at a time.
    curves: also find each example's smallest perturbation, once per norm.
    certify: bound the margins of so many of the first examples, as far as they stand, by `attacks.certify`; it takes
        seconds an example for deep models, and is left out, with a note, for a model that cannot be bounded.
    timeout: seconds that one attack on one batch may take; None for as long as it does.
    fast: by the name of a model, the cheaper form that it is searched in; the model alone decides. Searches that end at
        the boundary are made in full precision. Which input is found may then depend on the batch.
    engine: where it runs; None is this process, and one for each GPU where the device is cuda and there are several.
    progress: called with (done, of how many, what is being done).
    configuration: more for audit.json to say, such as the texts that models and data were named by.
    Attacks run apart, not in a cascade: the report can then say what each one is worth. A model's answers that are not
    finite count as wrong, and are told of.

    Stopped, the same call goes on after the shards that are finished, and ends with the same bytes. An audit that is
    there already, as asked for, is left as it is and returned.

    Raises InputError where the input cannot be used; nothing is left behind then, but for finished shards.
    """
    plan = Plan.of(threats, attacks, curves, seed, certify).on(data)
    device_named(device)
    if not models:
        raise InputError("No model is named; an audit needs at least one.")
    if shard is not None and shard < 1:
        raise InputError(f"--shard is {shard}; a shard has at least one example.")
    if timeout is not None and not timeout > 0:
        raise InputError(f"--timeout is {timeout:g}; it is a number of seconds above 0.")
    next(data.batches(examples, 1 if batch_size is None else batch_size))  # says what cannot be read
    count, began = min(examples or len(data), len(data)), time.perf_counter()
    asked = {
        "models": {name: type(model).__name__ for name, model in models.items()},
        "data": data.name,
        "examples": examples,
        "threats": list(plan.threats),
        "attacks": {name: described(attack) for name, attack in plan.attacks.items()},
        "seed": seed,
        "device": device,
        "curves": curves,
        "certify": certify,
    }
    forms = {name: form for name, form in (fast or {}).items() if form}
    if fast is not None:
        asked["fast"] = {name: form.text for name, form in fast.items()}
    hashes = {name: state_hash(model) for name, model in models.items()}
    fixed = {
        "configuration": {**asked, **(configuration or {})},
        "versions": versions(),
        "models": {name: {"sha256": hash_} for name, hash_ in hashes.items()},
        "data": {"n": count, "shape": list(data.shape)},
    }
    out, chosen = Path(out).resolve(), engine or Local()
    job = Job(
        tuple(threats), tuple(attacks), curves, seed, certify, count, shard or usual_shard(data.shape), device,
        batch_size, timeout, hashes, forms,
    )  # fmt: skip
    with place_for(out) as place:
        check_out(out, overwrite)
        if out.exists() and not overwrite:
            return _whole(out, fixed, data, count)
        writer = Writer(out, overwrite=overwrite, writing=place / WRITING)
        first = data.between(0, min(count, usual_batch(data.shape)))
        look = {"first": DataHash.of(first), "shard": job.shard}
        kept = Unfinished.begun(place, {**fixed, **look}, overwrite)
        run = _Run(plan, models, job, kept, progress)
        run.do(chosen, data)
        with writer:
            return run.assembled(writer, fixed, data, began)


def check_out(out: Path, overwrite: bool) -> None:
    """InputError where something is there that can neither be replaced nor be the audit that is asked for."""
    if overwrite or not (out / "audit.json").is_file():
        refuse_to_harm(out.resolve(), overwrite)


def _whole(out: Path, fixed: Mapping[str, Any], data: Dataset, count: int) -> record.Audit:
    """The audit that is there, as asked for; InputError where it is another."""
    another = f"The folder {out} exists. Name another, or replace it with --overwrite."
    try:
        there = record.Audit.load(out)
        about = {name: there.about[name] for name in ("configuration", "versions")}
        about["models"] = {name: {"sha256": told["sha256"]} for name, told in there.about["models"].items()}
        about["data"] = {name: there.about["data"][name] for name in ("n", "shape", "sha256")}
        seen = DataHash()
        for batch in data.batches(count, usual_batch(data.shape)):
            seen.add(batch)
        refuse_differences(about, plain({**fixed, "data": {**fixed["data"], "sha256": seen.hexdigest()}}), out)
    except (InputError, KeyError) as error:
        raise InputError(f"{another}\n{error}") from error
    return there


@dataclass
class _Run:
    """An audit under way."""

    plan: Plan
    models: Mapping[str, nn.Module]
    job: Job
    kept: Unfinished
    progress: Progress | None
    done: int = 0  # examples, times runs
    within: int = 0  # of the shard at work
    shards: int = 0  # done by now
    speeds: dict[str, Counter[str]] = field(default_factory=dict)  # by worker: examples and seconds
    before: float = 0.0  # seconds that the shards took which were there

    def __post_init__(self):
        against = {name: self.plan.against(name, victim_of(model)) for name, model in self.models.items()}
        self.runs = {name: plan.runs for name, (plan, _) in against.items()}
        self.left_out = {name: note for name, (_, note) in against.items() if note}

    @property
    def total(self) -> int:
        return self.job.count * sum(self.runs.values())

    def do(self, engine: Engine, data: Dataset) -> None:
        """All shards that are not there yet."""
        spans, todo = self.job.spans, []
        for span in spans:
            if self.kept.has(span.number):
                self.before += sum(self.kept.read(span.number).seconds.values())
                self._finished(span)
            else:
                todo.append(span)
        if self.shards and self.progress is not None:
            self.progress(self.done, self.total, f"{self.shards} of {len(spans)} shards are there")
        if todo:
            engine.run(self.job, Here(self.models, data, self._doing), todo, self._keep)

    def _doing(self, what: str, examples: int) -> None:
        self.within += examples
        if self.progress is not None:
            self.progress(self.done + self.within, self.total, what)

    def _finished(self, span: Span) -> None:
        self.done += (span.stop - span.start) * self.runs[span.model]
        self.within, self.shards = 0, self.shards + 1

    def _keep(self, span: Span, done: Done) -> None:
        self.kept.keep(span.number, done.content, done.seconds)
        self._finished(span)
        if not done.who:  # this process, which says itself what it does
            return
        seen = self.speeds.setdefault(done.who, Counter())
        seen["examples"] += span.stop - span.start
        seen["milliseconds"] += round(1e3 * sum(done.seconds.values()))
        if self.progress is not None:
            speeds = [1e3 * each["examples"] / max(1, each["milliseconds"]) for each in self.speeds.values()]
            told = ", ".join(f"{speed:.3g}" for speed in sorted(speeds, reverse=True)[:8])
            self.progress(self.done, self.total, f"{words.plural(len(speeds), 'worker')}: {told} examples/s")

    def assembled(self, writer: Writer, fixed: Mapping[str, Any], data: Dataset, began: float) -> record.Audit:
        """The shards, one after the other, put together."""
        seen = DataHash()
        each = {name: Assembled(name, self.plan, data.shape) for name in self.models}
        for span in self.job.spans:
            piece = self.kept.read(span.number)
            if span.model == next(iter(self.models)):
                seen.add_digests(piece.of("example")["digest"])
            each[span.model].add(piece, writer)
        for one in each.values():
            one.hang(writer)
        classes = max(max(one.told["classes"]) for one in each.values())
        about = {
            "configuration": fixed["configuration"],
            "versions": fixed["versions"],
            "data": {
                **fixed["data"],
                "classes": [*data.classes, *(str(k) for k in range(len(data.classes), classes))],
                **_bounds_told(data),
                "sha256": seen.hexdigest(),
            },
            "models": {name: self._model_told(name, one) for name, one in each.items()},
            "noise": {name: one.noise for name, one in each.items()},
            "preflight": {name: one.told.get("findings", []) for name, one in each.items()},
            "doubts": [doubt for name, one in each.items() for doubt in self._doubts_about(name, one)],
        }
        return writer.finish(about, seconds=self.before + time.perf_counter() - began)

    def _doubts_about(self, name: str, one: Assembled) -> list[dict[str, Any]]:
        own, hash_ = one.plan.attacks.values(), self.job.hashes[name]
        strange = (attack.stranger(hash_) for attack in own if isinstance(attack, FromRun))
        return one.doubts([text for text in (self.left_out.get(name), *strange) if text])

    def _model_told(self, name: str, one: Assembled) -> dict[str, Any]:
        """What audit.json says of a model itself."""
        model, unanswered = self.models[name], one.told.get("unanswered", [])
        return {
            "sha256": self.job.hashes[name],
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "access": victim_of(model).access.name.lower(),
            "source": source_told(model),
            **({"unanswered": len(unanswered)} if unanswered else {}),
        }


def _bounds_told(data: Dataset) -> dict[str, Any]:
    """The bounds, the widest where features differ, and what else was said or taken for granted of the data."""
    low, high = (torch.as_tensor(bound) for bound in data.bounds)
    found: dict[str, Any] = {"bounds": [float(low.min()), float(high.max())]}
    if low.ndim or high.ndim:
        found["bounds_of_features"] = [low.tolist(), high.tolist()]
    if data.mask is not None:
        found["mask"] = data.mask.tolist()
    return {**found, **({"notes": list(data.notes)} if data.notes else {})}
