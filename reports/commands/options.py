"""Which options do the commands that train have in common?"""

from pathlib import Path
from typing import Annotated

import typer

WHAT, HOW, RESULT = "What is learnt", "How", "What comes of it"

ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        metavar="PIXELS",
        rich_help_panel=WHAT,
        help="Resize images to it (the shorter side) and crop them to its square (the centre). "
        "Of a gan a multiple of 4.",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="FOLDER",
        rich_help_panel=WHAT,
        help="Where torchvision's data sets are, or are downloaded to. Without it: ~/.cache/advgan/data.",
    ),
]
Network = Annotated[
    str | None,
    typer.Option("--network", metavar="KIND", rich_help_panel=HOW, help="mlp, fourier, dcgan or resnet."),
]
Width = Annotated[
    int | None, typer.Option("--width", metavar="N", rich_help_panel=HOW, help="Of the networks' narrowest layers.")
]
Depth = Annotated[
    int | None,
    typer.Option(
        "--depth", metavar="N", rich_help_panel=HOW, help="Of mlp its layers, of other networks their blocks."
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", rich_help_panel=HOW, help="Steps of the generator.")]
BatchSize = Annotated[int | None, typer.Option("--batch", metavar="N", rich_help_panel=HOW, help="Examples in a step.")]
Rate = Annotated[
    float | None,
    typer.Option("--lr", metavar="RATE", rich_help_panel=HOW, help="Learning rate of both players, held throughout."),
]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="TYPE", rich_help_panel=HOW, help="float32, or bfloat16 on CUDA devices."),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", rich_help_panel=HOW, help="Seed of all randomness.")]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", rich_help_panel=HOW, help="cpu or cuda.")]
Every = Annotated[
    int | None,
    typer.Option(
        "--every",
        metavar="STEPS",
        rich_help_panel=RESULT,
        help="Between measures, checkpoints and pictures. Without it: a twentieth of the run.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", rich_help_panel=RESULT, help="Where the run is written."),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        rich_help_panel=RESULT,
        help="Go on with a run that was stopped, in its folder. Nothing else need be said.",
    ),
]


def text(path: Path | None) -> str | None:
    return None if path is None else str(path)
