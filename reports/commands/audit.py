"""The command `advgan audit`: what can be typed, and what is told on the terminal."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands import sources
from reports.commands.typed import option, path_text
from reports.commands.usual import ATTACKS, BASELINES, THREATS, Effort, attacks_for, attacks_named, threats_for
from reports.terminal import Bar, Stopped, note

if TYPE_CHECKING:
    from reports.engines import Engine, Load
    from reports.record import Audit

OUT = Path("advgan-audit")
WHAT, HOW, WHERE, RESULT = "What is audited", "How", "Where it runs", "What comes of it"


class Where(StrEnum):
    """Which engine runs it."""

    LOCAL = "local"
    RAY = "ray"


def audit(
    model: Annotated[
        list[str] | None,
        option("--model", WHAT, f"{sources.MODEL} May be given several times. Without it: digits."),
    ] = None,
    data: Annotated[
        str | None,
        option("--data", WHAT, f"{sources.DATASET} Without it, for the digits models: digits."),
    ] = None,
    weights: Annotated[
        Path | None,
        option(
            "--weights",
            WHAT,
            "Weights of the model, as safetensors or as torch.save wrote a state dict. Nothing pickled is run.",
        ),
    ] = None,
    examples: Annotated[
        int | None,
        option("--examples", WHAT, "Only the first N examples."),
    ] = None,
    image_size: Annotated[
        int | None,
        option(
            "--image-size", WHAT, "Resize images to it (the shorter side) and crop them to its square (the centre)."
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        option(
            "--data-root",
            WHAT,
            "Where torchvision's data sets are, or are downloaded to. Without it: ~/.cache/advgan/data.",
        ),
    ] = None,
    threat: Annotated[
        list[str] | None,
        option(
            "--threat",
            HOW,
            "What the attacker may do, say linf:8/255 or l2:0.5 (also l1, l0); eps in units of the inputs. May be "
            f"given several times. Without it, for the digits: {' '.join(THREATS)}.",
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        option(
            "--attack",
            HOW,
            "An attack, with options if need be: apgd, or pgd:steps=20,share=0.1. May be given several times. "
            f"Without it and --effort: {' '.join(ATTACKS)}.",
        ),
    ] = None,
    effort: Annotated[
        Effort | None,
        typer.Option(
            "--effort",
            rich_help_panel=HOW,
            help="Attack with verdict, which spends passes on an example while it may yet fall: quick is a first look, "
            "exhaustive ends with every other attack that applies. Beside --attack; without it, besides "
            f"{' and '.join(BASELINES)} alone.",
        ),
    ] = None,
    curves: Annotated[
        bool,
        typer.Option(
            "--curves/--no-curves",
            rich_help_panel=HOW,
            help="Also find how robust accuracy falls with eps, by one run per norm.",
        ),
    ] = True,
    certify: Annotated[
        int,
        option(
            "--certify",
            HOW,
            "Bound the margins of the first N examples, as far as they stand: then robust accuracy is a bracket. "
            "0.1 s an example for a small network, 10 s and more for a deep one.",
            "N",
        ),
    ] = 0,
    seed: Annotated[int, option("--seed", HOW, "Seed of all randomness.")] = 0,
    device: Annotated[str, option("--device", HOW, "cpu or cuda.")] = "cpu",
    batch_size: Annotated[
        str,
        option(
            "--batch-size",
            WHERE,
            "Examples at a time; auto finds it. Where memory does not do it is halved. It changes no result.",
            "N",
        ),
    ] = "auto",
    shard: Annotated[
        int | None,
        option(
            "--shard",
            WHERE,
            "Examples that are finished and kept at a time. Without it: 16 to 1024, fewer the larger they are.",
            "N",
        ),
    ] = None,
    fast: Annotated[
        str | None,
        option(
            "--fast",
            HOW,
            "Search with a cheaper form of each model, and ask the model itself of all that it claims. auto "
            "measures which is the fastest here; or name some of bf16, fp16, tf32, channels_last, compile, "
            "fold_batchnorm, with commas.",
            "FORM",
        ),
    ] = None,
    engine: Annotated[
        Where,
        typer.Option("--engine", rich_help_panel=WHERE, help="local is this machine, ray a cluster of Ray's."),
    ] = Where.LOCAL,
    workers: Annotated[
        int | None,
        option(
            "--workers",
            WHERE,
            "Processes with the models in each. Without it: one for each GPU, one on the CPU; of ray as many as "
            "the cluster has GPUs or CPUs.",
            "N",
        ),
    ] = None,
    address: Annotated[
        str | None,
        option(
            "--address",
            WHERE,
            "Of the Ray cluster. Without it: the one in RAY_ADDRESS, or one that is begun on this machine.",
            "HOST:PORT",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        option(
            "--timeout",
            WHERE,
            "Stop where one attack on one batch takes longer: the model hangs. Without it: never.",
            "SECONDS",
        ),
    ] = None,
    out: Annotated[Path, option("--out", RESULT, "Where the audit is written.")] = OUT,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=RESULT, help="Replace the audit that is there.")
    ] = False,
    fail_under: Annotated[
        float | None,
        option(
            "--fail-under",
            RESULT,
            "Exit with status 1 where the worst robust accuracy, over models and threats, is below this (0 to 1).",
            "SHARE",
        ),
    ] = None,
) -> None:
    """Attack classifiers on labelled data and report how robust they are.

    Without arguments: the two digits classifiers that come with advgan, on the digits they were not trained on.

    It writes a folder: report.html, the numbers (audit.json), a row per example (rows.parquet), the inputs found.
    Stopped, the same command goes on after the shards that are finished, and ends with the same bytes.

    Exit status: 0; 1 below --fail-under; 2 where the input cannot be used; 130 after Ctrl-C.

    Example: advgan audit -m net.py:make -d test.npz -t linf:8/255 -t l2:0.5 -a apgd -a square -n 500
    """  # fmt: skip
    from rich.console import Console

    from attacks.errors import InputError
    from reports import text
    from reports.audit import audit as run_audit
    from reports.audit import check_out
    from reports.devices import device_named
    from reports.fast import check as check_form
    from reports.fast import forms_for
    from reports.plan import Plan
    from reports.sources import data as data_sources
    from reports.sources import models as model_sources
    from reports.sources.both import load_both

    specs = model or ["digits"]
    spec = data or model_sources.digits_for(specs)
    threats = threat or threats_for(spec)
    if fail_under is not None and not 0 <= fail_under <= 1:
        raise InputError(f"--fail-under is {fail_under:g}; robust accuracy is a share from 0 to 1, say 0.4.")
    if examples is not None and examples < 1:
        raise InputError(f"--examples is {examples}; an audit needs at least one.")
    # What is quick to check is checked before anything is loaded.
    size = _batch_of(batch_size)
    chosen = _engine(engine, workers, address, partial(load_both, specs, weights, spec, image_size, data_root))
    check_out(out, overwrite)
    device_named(device)
    if fast is not None:
        check_form(fast)
    asked = attacks_named(attack or [], effort)
    Plan.of(threats, asked or ATTACKS, curves, seed, certify)
    models, spelled = model_sources.load_several(specs, weights=weights)
    found = data_sources.load(spec, image_size=image_size, root=data_root)
    if examples is not None and examples > len(found):
        note(f"{spec} has {len(found)} examples, fewer than the {examples} asked for: all of them are audited.")
    sources.announce(models, found.notes)
    forms = None if fast is None else forms_for(fast, models, found, device, out)
    for name, form in (forms or {}).items():
        note(f"{name}: searched {form}.")
    with Bar() as bar:
        try:
            done = run_audit(
                models, found, threats, asked or attacks_for(models, found.shape, threats), out,
                examples=examples, seed=seed, device=device, batch_size=size, shard=shard, curves=curves,
                certify=certify, timeout=timeout, fast=forms, engine=chosen, overwrite=overwrite, progress=bar.show,
                configuration={
                    "models": spelled,
                    "weights": path_text(weights),
                    "image_size": image_size,
                    "data_root": path_text(data_root),
                },
            )  # fmt: skip
        except KeyboardInterrupt:
            raise Stopped(_kept(out)) from None
    Console().print(text.table(done))
    print(f"Written to {out}: open {out / 'report.html'}")
    _gate(done, fail_under)


def _batch_of(text: str) -> int | None:
    from attacks.errors import InputError

    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--batch-size is {text}; it is a whole number from 1 up, or auto.")
    return int(text)


def _engine(where: Where, workers: int | None, address: str | None, load: "Load") -> "Engine":
    from attacks.errors import InputError
    from reports.cluster import OnRay
    from reports.engines import Local

    if where is Where.RAY:
        return OnRay(load, address, workers)
    if address is not None:
        raise InputError(f"--address {address} names a Ray cluster: say --engine ray.")
    return Local(workers, load)


def _kept(out: Path) -> str:
    from reports.resume import KEPT
    from reports.unfinished import kept, place_of

    count = kept(out)
    if not count:
        return "stopped; nothing was written."
    return f"stopped; {count} finished shards are kept in {place_of(out)}. {KEPT}"


def _gate(done: "Audit", fail_under: float | None) -> None:
    if fail_under is None:
        return
    worst = min(
        (threat["robust_accuracy"], threat["robust"], model["n"], f"{name}, {text}")
        for name, model in done.about["models"].items()
        for text, threat in model["threats"].items()
    )
    share, robust, n, where = worst
    if share < fail_under:
        note(f"robust accuracy is {share:.4f} ({robust} of {n}; {where}), below --fail-under {fail_under:g}.")
        raise typer.Exit(1)
