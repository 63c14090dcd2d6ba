"""The command `advgan probe`: what can be typed, and what is told on the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands import sources
from reports.commands.typed import option, path_text
from reports.terminal import Bar

OUT = Path("advgan-probe")
THREAT = "l2:1.0"  # for the digits
WHAT, HOW, RESULT = "What is probed", "How", "What comes of it"


def probe(
    model: Annotated[
        str,
        option(
            "--model",
            WHAT,
            "As for an audit: digits (both), digits:robust, FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION, "
            "torchvision:resnet18.",
        ),
    ] = "digits",
    data: Annotated[
        str | None,
        option(
            "--data",
            WHAT,
            "As for an audit: digits, FILE.npz, FILE.parquet, a folder, torchvision:CIFAR10. Without it, for the "
            "digits models: digits.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        option("--weights", WHAT, "Weights of the model. No pickle is run."),
    ] = None,
    examples: Annotated[
        int,
        option("--examples", WHAT, "The first N; probed are those it gets right."),
    ] = 200,
    image_size: Annotated[
        int | None,
        option("--image-size", WHAT, "Resize and crop images to it."),
    ] = None,
    data_root: Annotated[
        Path | None,
        option("--data-root", WHAT, "Where torchvision's data sets are."),
    ] = None,
    threat: Annotated[
        str | None,
        option(
            "--threat",
            HOW,
            "The norm (linf, l2, l1) of all distances, and the eps that shares are told of. Without it, for the "
            f"digits: {THREAT}.",
        ),
    ] = None,
    attack: Annotated[
        str,
        option("--attack", HOW, "What finds the adversarial examples."),
    ] = "fmn",
    directions: Annotated[
        int,
        option(
            "--directions", HOW, "Directions of each random kind, and other examples to look towards, per example.", "N"
        ),
    ] = 8,
    side: Annotated[
        int | None,
        option(
            "--side",
            HOW,
            "Points a side of the planes; each costs a forward pass, of 200 and more only those near a change of "
            "class. Without it: 40 to 400, fewer the larger inputs are.",
            "POINTS",
        ),
    ] = None,
    walk: Annotated[
        int,
        option("--walk", HOW, "Decisions that a walk may ask for; 0: none.", "N"),
    ] = 1000,
    seed: Annotated[int, option("--seed", HOW, "Seed of all randomness.")] = 0,
    device: Annotated[str, option("--device", HOW, "cpu or cuda.")] = "cpu",
    out: Annotated[Path, option("--out", RESULT, "Where the probe is written.")] = OUT,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=RESULT, help="Replace the probe that is there.")
    ] = False,
) -> None:
    """Measure where a classifier's decision boundary is: how far, in which directions, and why noise does not find it.

    Without arguments: the two digits classifiers that come with advgan.

    It writes a folder: report.html, and the numbers behind it (probe.json, rays, geometry, walks).

    Exit status: 0; 2 where the input cannot be used; 130 after Ctrl-C.

    Example: advgan probe -m net.py:make -d test.npz -t l2:0.5 -n 200 --out probe
    """  # fmt: skip
    from attacks.errors import InputError
    from reports.commands.training import told
    from reports.devices import device_named
    from reports.probing import job, saved, text
    from reports.probing.asked import Asked
    from reports.sources import data as data_sources
    from reports.sources import models as model_sources

    source = data or model_sources.digits_for([model])
    if threat is None and source != "digits":
        raise InputError(f"--data {data} needs --threat, say --threat l2:0.5: the norm of distances and an eps.")
    if examples < 2:
        raise InputError(f"--examples is {examples}; a probe needs at least two, of two classes.")
    asked = Asked(threat or THREAT, attack, directions, side, walk, seed)
    saved.refuse_to_harm(out, overwrite)
    place = device_named(device)
    found = data_sources.load(source, image_size=image_size, root=data_root).plain("advgan probe")
    models = model_sources.load(model, weights=weights)
    sources.announce(models, found.notes)
    with Bar() as bar:
        done = job.probe(
            models, found, asked, out,
            examples=examples, device=place, overwrite=overwrite,
            show=bar.show,
            configuration={
                "model": model, "weights": path_text(weights), "image_size": image_size,
            },
        )  # fmt: skip
    told(text.table(done), out)
