"""The command `advgan dataset`: what can be typed, and what is told on the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.sources import announce
from reports.commands.typed import option, path_text
from reports.terminal import Bar, Stopped, note

if TYPE_CHECKING:
    from torch import nn

    from reports.sources.dataset import Dataset

OUT = Path("advgan-dataset")
MODEL, THREATS, ATTACKS = "digits:standard", ["linf:0.1"], ["apgd"]  # for the digits
WHAT, HOW, RESULT = "What is attacked", "How", "What is written"

dataset = typer.Typer(help="Make an adversarial data set, or check one.", invoke_without_command=True)


@dataset.callback()
def make(
    context: typer.Context,
    model: Annotated[
        str | None,
        option(
            "--model",
            WHAT,
            "As for an audit: digits:standard, digits:robust, FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION, "
            f"torchvision:resnet18. Without it: {MODEL}.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        option(
            "--data",
            WHAT,
            "As for an audit: digits, FILE.npz, FILE.parquet, a folder of images per class, torchvision:CIFAR10. "
            "Without it, for the digits models: digits.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        option("--weights", WHAT, "Weights of the model. Nothing pickled is run."),
    ] = None,
    examples: Annotated[
        int | None,
        option("--examples", WHAT, "Only the first N examples."),
    ] = None,
    image_size: Annotated[
        int | None,
        option("--image-size", WHAT, "Resize and crop images to it, as an audit does."),
    ] = None,
    data_root: Annotated[
        Path | None,
        option("--data-root", WHAT, "Where torchvision's data sets are."),
    ] = None,
    threat: Annotated[
        list[str] | None,
        option(
            "--threat",
            HOW,
            "What the attacker may do, say linf:8/255, or l2:inf for the smallest perturbation (with fmn, ddn). "
            f"May be given several times. Without it, for the digits: {' '.join(THREATS)}.",
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        option(
            "--attack",
            HOW,
            "An attack, with options if need be: apgd, or pgd:steps=20,share=0.1. May be given several times. "
            f"Without it: {' '.join(ATTACKS)}.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        option(
            "--target",
            HOW,
            "Aim at a class: random, next, least-likely, or a class number. Without it any wrong class will do.",
        ),
    ] = None,
    seed: Annotated[int, option("--seed", HOW, "Seed of all randomness.")] = 0,
    device: Annotated[str, option("--device", HOW, "cpu or cuda.")] = "cpu",
    batch_size: Annotated[int, option("--batch-size", HOW, "Examples attacked at a time.", "N")] = 256,
    format_: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="FORMAT", rich_help_panel=RESULT, help="parquet, imagefolder, npz or webdataset."
        ),
    ] = "parquet",
    encoding: Annotated[
        str | None,
        option(
            "--encoding",
            RESULT,
            "png or jpeg (lossy: it breaks many examples); of npz uint8 or float32. Without it: png; of npz uint8 "
            "where the inputs are 8-bit.",
            "ENCODING",
        ),
    ] = None,
    successes: Annotated[
        bool,
        typer.Option(
            "--successes",
            rich_help_panel=RESULT,
            help="Keep only what fooled the model. Without it every example has a row, the clean input where nothing "
            "was found.",
        ),
    ] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", rich_help_panel=RESULT, help="Keep the clean inputs beside the adversarial ones.")
    ] = False,
    licence: Annotated[
        str,
        option("--licence", RESULT, "Of the source, for the data card.", "TEXT"),
    ] = "not stated",
    shard: Annotated[int, option("--shard", RESULT, "Examples in a file.", "N")] = 1000,
    out: Annotated[Path, option("--out", RESULT, "Where the set is written.")] = OUT,
) -> None:
    """Make an adversarial data set that stays adversarial when it is saved; or, with verify, check one.

    Images are searched for and rounded on the 8-bit grid, inside the ball; each is read back from its file and shown to
    the model again before it is marked as verified. Stopped, the same command goes on and ends with the same bytes.

    Without arguments: the digits, against the classifier that comes with advgan.

    Exit status: 0; 2 where the input cannot be used; 130 after Ctrl-C, with the finished shards kept.

    Example: advgan dataset -m net.py:make -d test.npz -t linf:8/255 -a apgd --pairs --out set
    """  # fmt: skip
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from attacks.errors import InputError
    from reports.dataset import text
    from reports.dataset.asked import Asked
    from reports.dataset.make import make as make_set
    from reports.dataset.progress import check_folder
    from reports.devices import device_named
    from reports.sources import models

    spec = model or MODEL
    source = data or models.digits_for([spec])
    if source != "digits" and not threat:
        raise InputError(
            f"--data {source} needs --threat, which says what the attacker may do, say --threat linf:8/255."
        )
    if examples is not None and examples < 1:
        raise InputError(f"--examples is {examples}; a data set needs at least one.")
    asked = Asked.of(
        threat or THREATS, attack or ATTACKS, format=format_, encoding=encoding, target=target, successes=successes,
        pairs=pairs, seed=seed, shard=shard, batch_size=batch_size,
    )  # fmt: skip
    device_named(device)
    check_folder(out)
    if encoding == "jpeg":
        note("JPEG is lossy: it breaks many examples and leaves the ball; the table says how many. PNG loses nothing.")
    name, module = one_model(spec, weights)
    found = plain_data(source, image_size, data_root)
    if examples is not None and examples > len(found):
        note(f"{source} has {len(found)} examples, fewer than the {examples} asked for: all of them are attacked.")
    named = {
        "model_named": spec,
        "weights": path_text(weights),
        "image_size": image_size,
        "data_root": path_text(data_root),
    }
    with Bar() as bar:
        try:
            made = make_set(
                name, module, found, asked, out,
                examples=examples, device=device, licence=licence, progress=bar.show, configuration=named,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise Stopped(_kept(out)) from None
    Console().print(text.table(made))
    print(f"Written to {out}: see {out / 'README.md'}")


def one_model(spec: str, weights: Path | None) -> "tuple[str, nn.Module]":
    from attacks.errors import InputError
    from reports.sources import models

    found = models.load(spec, weights=weights)
    if len(found) > 1:
        raise InputError(f"--model {spec} names {len(found)} models, and a set is made against one: say {MODEL}.")
    announce(found)
    return next(iter(found.items()))


def plain_data(spec: str, image_size: int | None, root: Path | None) -> "Dataset":
    from reports.sources import data

    return data.load(spec, image_size=image_size, root=root).plain("advgan dataset")


def _kept(folder: Path) -> str:
    from reports.dataset.progress import finished

    kept = finished(folder)
    if not kept:
        return "stopped; nothing was written."
    return f"stopped; {kept} finished shards are kept in {folder}. The same command goes on after them."
