"""The command `advgan train gan`: what can be typed, and what is told on the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands import options, training
from reports.commands.options import HOW, RESULT, WHAT
from reports.commands.typed import option, path_text

OUT = Path("advgan-run")


def gan(
    data: Annotated[
        str | None,
        option(
            "--data",
            WHAT,
            "digits; FILE.npz (x, y); FILE.parquet (image, label); a folder of images per class; "
            "torchvision:CIFAR10 (the training split); ring, grid and gaussian-1d, whose truth is known. Without it: "
            "digits.",
        ),
    ] = None,
    conditional: Annotated[
        bool | None,
        typer.Option(
            "--conditional/--unconditional",
            rich_help_panel=WHAT,
            help="Whether the generator is told which class to make. Without it: where the data have labels. "
            "Unconditional runs need none (an npz file without y, a folder of images).",
        ),
    ] = None,
    image_size: options.ImageSize = None,
    data_root: options.DataRoot = None,
    objective: Annotated[
        str | None,
        option(
            "--objective",
            HOW,
            "relativistic, non_saturating, minimax, least_squares_pearson, least_squares_zero_one, hinge or "
            "wasserstein. Without it: relativistic.",
            "NAME",
        ),
    ] = None,
    penalty: Annotated[
        str | None,
        option(
            "--penalty",
            HOW,
            "On the critic's gradient: none, r1, r2, r1r2 or gradient (WGAN-GP). Without it: r1r2.",
            "NAME[:WEIGHT]",
        ),
    ] = None,
    network: options.Network = None,
    width: options.Width = None,
    depth: options.Depth = None,
    latent: Annotated[int | None, option("--latent", HOW, "Random numbers behind a sample.", "N")] = None,
    conditioning: Annotated[
        str | None,
        option("--conditioning", HOW, "How the critic is told the class: concat, projection or auxiliary.", "KIND"),
    ] = None,
    steps: options.Steps = None,
    batch: options.BatchSize = None,
    lr: options.Rate = None,
    precision: options.Precision = None,
    seed: options.Seed = None,
    device: options.Device = "cpu",
    judge: Annotated[
        str | None,
        option(
            "--judge",
            RESULT,
            "A classifier that says whether samples are of the class asked for: FILE.py:FUNCTION, as a model of "
            "an audit. Without it: for the digits the one that comes with advgan, else none.",
            "MODEL",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        option("--judge-weights", RESULT, "Weights of the judge. No pickle is run.", "FILE"),
    ] = None,
    every: options.Every = None,
    out: options.Out = None,
    resume: options.Resume = None,
) -> None:
    """Train a generator of samples against a critic, measure it, and write a page that tells of it.

    Without arguments: the handwritten digits, told their class, in some minutes on a CPU.

    It writes a folder: report.html, the numbers (run.json), the generator, a checkpoint to go on from.

    Exit status: 0; 2 where the input cannot be used or training diverged; 130 after Ctrl-C, with the run saved.

    Example: advgan train gan -d photos --image-size 32 --steps 20000 --out run
    """  # fmt: skip
    from reports.training import text
    from reports.training.asked import penalty_from_text, rate_checked
    from reports.training.job import Sampling

    named = {
        "data": data,
        "conditional": conditional,
        "image_size": image_size,
        "data_root": path_text(data_root),
        "judge": judge,
        "weights": path_text(weights),
    }
    recipe = {
        "objective": objective,
        **penalty_from_text(penalty),
        "network": network,
        "width": width,
        "depth": depth,
        "latent": latent,
        "conditioning": conditioning,
        "steps": steps,
        "batch": batch,
        "lr": rate_checked(lr),
        "precision": precision,
        "seed": seed,
    }
    folder = training.folder_for(out, resume, OUT)
    run = training.watched(
        Sampling,
        named,
        recipe,
        folder,
        resume=resume is not None,
        device=device,
        every=every,
        line=text.line,
    )
    training.told(text.table(run), folder)
