"""The command `advgan`: what can be typed, and what is told on the terminal."""

import errno
import math
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from reports import cli_dataset, cli_train
from reports.terminal import STOPPED, Bar, Stopped, note

# PyTorch takes seconds to import: only where it is needed, so that --help is quick and Ctrl-C is caught.
if TYPE_CHECKING:
    from torch import nn

    from reports.record import Audit

THREATS = ["linf:0.1", "linf:0.2", "l2:0.5", "l2:1.0"]  # for the digits; no other data has a customary eps
BASELINES = ["uniform_noise", "gaussian_noise"]
ATTACKS = ["fgsm", "pgd", "apgd", "square:queries=500", "verdict", *BASELINES]
OUT = Path("advgan-audit")
LOOKED_AT = 256  # examples that the doctor reads
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Effort(StrEnum):
    """Of the attack `verdict`."""

    QUICK = "quick"
    STANDARD = "standard"
    EXHAUSTIVE = "exhaustive"


app = typer.Typer(
    name="advgan",
    help="Audit the adversarial robustness of PyTorch classifiers, make adversarial data sets, and train generators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_dataset.dataset, name="dataset")
app.add_typer(cli_train.train, name="train")
app.command()(cli_train.sample)

WHAT, HOW, RESULT = "What is audited", "How", "What comes of it"


def _version(wanted: bool) -> None:
    if wanted:
        from reports.provenance import own_version

        print(f"advgan {own_version()}")
        raise typer.Exit


@app.callback()
def _advgan(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


@app.command()
def audit(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            rich_help_panel=WHAT,
            help="digits, digits:standard, digits:robust; FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, which returns a "
            "torch.nn.Module that takes inputs within 0 to 1; torchvision:resnet18. May be given several times. "
            "Without it: digits.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            rich_help_panel=WHAT,
            help="digits; FILE.npz (x, y); FILE.parquet (image, label); a folder of images per class; "
            "torchvision:CIFAR10 (the test split). Without it, for the digits models: digits.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            rich_help_panel=WHAT,
            help="Weights of the model, as safetensors or as torch.save wrote a state dict. Nothing pickled is run.",
        ),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option("--examples", "-n", metavar="N", rich_help_panel=WHAT, help="Only the first N examples."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PIXELS",
            rich_help_panel=WHAT,
            help="Resize images to it (the shorter side) and crop them to its square (the centre).",
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            metavar="FOLDER",
            rich_help_panel=WHAT,
            help="Where torchvision's data sets are, or are downloaded to. Without it: ~/.cache/advgan/data.",
        ),
    ] = None,
    threat: Annotated[
        list[str] | None,
        typer.Option(
            "--threat",
            "-t",
            metavar="NORM:EPS",
            rich_help_panel=HOW,
            help="What the attacker may do, say linf:8/255 or l2:0.5 (also l1, l0); eps in units of the inputs. May be "
            f"given several times. Without it, for the digits: {' '.join(THREATS)}.",
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            "-a",
            metavar="ATTACK",
            rich_help_panel=HOW,
            help="An attack, with options if need be: apgd, or pgd:steps=20,share=0.1. May be given several times. "
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
        typer.Option(
            "--certify",
            metavar="N",
            rich_help_panel=HOW,
            help="Bound the margins of the first N examples, as far as they stand: then robust accuracy is a bracket. "
            "0.1 s an example for a small network, 10 s and more for a deep one.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", rich_help_panel=HOW, help="Seed of all randomness.")] = 0,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", rich_help_panel=HOW, help="cpu or cuda.")
    ] = "cpu",
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            rich_help_panel=HOW,
            help="Examples at a time. Without it: 16 to 1024, fewer the larger they are.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", rich_help_panel=RESULT, help="Where the audit is written.")
    ] = OUT,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=RESULT, help="Replace the audit that is there.")
    ] = False,
    fail_under: Annotated[
        float | None,
        typer.Option(
            "--fail-under",
            metavar="SHARE",
            rich_help_panel=RESULT,
            help="Exit with status 1 where the worst robust accuracy, over models and threats, is below this (0 to 1).",
        ),
    ] = None,
) -> None:
    """Attack classifiers on labelled data and report how robust they are.

    Without arguments: the two digits classifiers that come with advgan, on the digits they were not trained on.

    It writes a folder: report.html, the numbers (audit.json), a row per example (rows.parquet), the inputs found.

    Exit status: 0; 1 below --fail-under; 2 where the input cannot be used; 130 after Ctrl-C.

    Example: advgan audit -m net.py:make -d test.npz -t linf:8/255 -t l2:0.5 -a apgd -a square -n 500
    """  # fmt: skip
    from attacks.errors import InputError
    from reports import record
    from reports.audit import Plan, device_named
    from reports.audit import audit as run_audit
    from reports.sources import data as data_sources

    specs = model or ["digits"]
    spec = data or _digits_for(specs)
    threats = threat or _threats_for(spec)
    if fail_under is not None and not 0 <= fail_under <= 1:
        raise InputError(f"--fail-under is {fail_under:g}; robust accuracy is a share from 0 to 1, say 0.4.")
    if examples is not None and examples < 1:
        raise InputError(f"--examples is {examples}; an audit needs at least one.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size is {batch_size}; it must be at least 1.")
    # What is quick to check is checked before anything is loaded.
    record.Writer(out, overwrite=overwrite)
    device_named(device)
    asked = _asked_for(attack or [], effort)
    Plan.of(threats, asked or ATTACKS, curves, seed, certify)
    models, spelled = _models(specs, weights)
    found = data_sources.load(spec, image_size=image_size, root=data_root)
    if examples is not None and examples > len(found):
        note(f"{spec} has {len(found)} examples, fewer than the {examples} asked for: all of them are audited.")
    with Bar() as bar:
        done = run_audit(
            models, found, threats, asked or _attacks_for(found.shape, threats), out,
            examples=examples, seed=seed, device=device, batch_size=batch_size or _batch_for(found.shape),
            curves=curves, certify=certify, overwrite=overwrite, progress=bar.show,
            configuration={
                "models": spelled,
                "weights": str(weights) if weights else None,
                "image_size": image_size,
                "data_root": str(data_root) if data_root else None,
            },
        )  # fmt: skip
    _print(done)
    print(f"Written to {out}: open {out / 'report.html'}")
    _gate(done, fail_under)


@app.command()
def doctor(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="As for an audit: digits, FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION, torchvision:resnet18. May be "
            "given several times. Without it: digits.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="As for an audit: digits, FILE.npz, FILE.parquet, a folder, torchvision:CIFAR10. Without it, for the "
            "digits models: digits.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="Weights of the model: safetensors or a state dict."),
    ] = None,
    examples: Annotated[
        int,
        typer.Option(
            "--examples", "-n", metavar="N", help="Read the first N examples; 64 of them are shown to the model."
        ),
    ] = LOOKED_AT,
    image_size: Annotated[
        int | None, typer.Option("--image-size", metavar="PIXELS", help="Resize and crop images to it.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", metavar="FOLDER", help="Where torchvision's data sets are.")
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda.")] = "cpu",
) -> None:
    """Look for what is wrong with a model or its data before anything is attacked.

    A fault is fatal (an audit would be wrong or impossible), a warning (its results need care) or a note.

    Exit status: 0; 1 where something fatal is found; 2 where the input cannot be used; 130 after Ctrl-C.

    Example: advgan doctor -m net.py:make -d test.npz
    """  # fmt: skip
    from rich.console import Console

    from attacks.errors import InputError
    from attacks.preflight import examine
    from reports.audit import device_named
    from reports.doctor import examination
    from reports.sources import data as data_sources

    specs = model or ["digits"]
    spec = data or _digits_for(specs)
    if examples < 1:
        raise InputError(f"--examples is {examples}; at least one is needed.")
    place = device_named(device)
    models, _ = _models(specs, weights)
    found = data_sources.load(spec, image_size=image_size, root=data_root)
    batch = next(found.batches(examples, examples))
    findings = {name: examine(module.to(place), batch.x, batch.labels) for name, module in models.items()}
    Console().print(examination(findings))
    if any(finding.severity == "fatal" for each in findings.values() for finding in each):
        raise typer.Exit(1)


@app.command()
def show(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An audit's folder.")] = OUT) -> None:
    """Print the tables of an audit that was saved."""
    from reports.record import Audit

    _print(Audit.load(folder))


def main(arguments: "list[str] | None" = None) -> NoReturn:
    """Run the command. Exit status: 0; 1 below --fail-under or ill; 2 for what the user can mend; 130 for Ctrl-C."""
    try:
        app(arguments, prog_name="advgan")
    except KeyboardInterrupt:
        _leave("stopped; nothing was written.", STOPPED)
    except SystemExit as ended:  # typer makes one of a Ctrl-C, too
        if ended.code == STOPPED and not isinstance(ended, Stopped):
            note("stopped; nothing was written.")
        raise
    except ValueError as error:
        from attacks.errors import InputError

        if not isinstance(error, InputError):
            raise
        _leave(str(error), 2)
    except MemoryError as error:
        _leave(f"out of memory ({error or 'no more is to be had'}). Try a smaller --batch-size.", 2)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        if error.errno in FULL:
            _leave(f"the disk is full{where}; nothing was left behind. Free some space or name another --out.", 2)
        _leave(f"{error.strerror or error}{where}.", 2)
    except RuntimeError as error:
        import torch

        if not isinstance(error, torch.OutOfMemoryError):
            raise
        _leave("the device is out of memory. Try a smaller --batch-size.", 2)
    sys.exit(0)


def _digits_for(specs: list[str]) -> str:
    from attacks.errors import InputError

    others = [spec for spec in specs if spec.partition(":")[0] != "digits"]
    if others:
        raise InputError(f"--model {others[0]} needs --data: FILE.npz, FILE.parquet, a folder, or torchvision:NAME.")
    return "digits"


def _threats_for(spec: str) -> list[str]:
    from attacks.errors import InputError

    if spec != "digits":
        raise InputError(f"--data {spec} needs --threat, which says what the attacker may do, say --threat linf:8/255.")
    return THREATS


def _asked_for(attacks: list[str], effort: Effort | None) -> list[str]:
    """The attacks that --attack and --effort name; none where neither was given."""
    from attacks.errors import InputError

    if effort is None:
        return attacks
    twice = [text for text in attacks if text.partition(":")[0].strip() == "verdict"]
    if twice:
        raise InputError(f"--effort {effort} runs verdict, and so does --attack {twice[0]}. Give one of the two.")
    return [*attacks, f"verdict:effort={effort}"] if attacks else [f"verdict:effort={effort}", *BASELINES]


def _attacks_for(shape: tuple[int, ...], threats: list[str]) -> list[str]:
    """The usual attacks, less those that are not made for such inputs or norms; says which are left out."""
    from attacks import card_of
    from reports.options import attack_from_text

    norms = {text.strip().lower().partition(":")[0] for text in threats}
    cards = {text: card_of(attack_from_text(text)) for text in ATTACKS}
    unfit = {text: not norms <= set(card.norms) or (card.images and len(shape) != 3) for text, card in cards.items()}
    left_out = [text for text in ATTACKS if unfit[text]]
    if left_out:
        note(f"{' and '.join(left_out)} left out, not made for such inputs or threats: {', '.join(threats)}.")
    return [text for text in ATTACKS if text not in left_out]


def _batch_for(shape: tuple[int, ...]) -> int:
    """As many examples as make about a million numbers: small ones are quicker together, large ones fill the memory."""
    return max(16, min(1024, 2**20 // math.prod(shape)))


def _models(specs: list[str], weights: Path | None) -> "tuple[dict[str, nn.Module], dict[str, str]]":
    """Name -> model and name -> the text it was named by; InputError where two are the same."""
    from attacks.errors import InputError
    from reports.sources import models

    if weights is not None and len(specs) > 1:
        raise InputError(f"--weights belongs to one --model, and {len(specs)} are given. Audit them one by one.")
    found, spelled = {}, {}
    for spec in specs:
        for name, module in models.load(spec, weights=weights).items():
            if name in found and (spec in spelled.values() or spec.partition(":")[0] == "digits"):
                raise InputError(f"--model {spec} is there twice.")
            free = next(f"{name}{end}" for end in ("", *(f"_{k}" for k in range(2, 99))) if f"{name}{end}" not in found)
            found[free], spelled[free] = module, spec
    return found, spelled


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


def _print(audit: "Audit") -> None:
    from rich.console import Console

    from reports import text

    Console().print(text.table(audit))


def _leave(text: str, status: int) -> NoReturn:
    note(text)
    sys.exit(status)


if __name__ == "__main__":
    main()
