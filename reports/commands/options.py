"""Which options do the commands that train have in common?"""

from pathlib import Path
from typing import Annotated

from reports.commands.typed import option

WHAT, HOW, RESULT = "What is learnt", "How", "What comes of it"

ImageSize = Annotated[
    int | None,
    option(
        "--image-size",
        WHAT,
        "Resize images to it (the shorter side) and crop them to its square (the centre). Of a gan a multiple of 4.",
    ),
]
DataRoot = Annotated[
    Path | None,
    option(
        "--data-root",
        WHAT,
        "Where torchvision's data sets are, or are downloaded to. Without it: ~/.cache/advgan/data.",
    ),
]
Network = Annotated[
    str | None,
    option("--network", HOW, "mlp, fourier, dcgan or resnet.", "KIND"),
]
Width = Annotated[int | None, option("--width", HOW, "Of the networks' narrowest layers.", "N")]
Depth = Annotated[
    int | None,
    option("--depth", HOW, "Of mlp its layers, of other networks their blocks.", "N"),
]
Steps = Annotated[int | None, option("--steps", HOW, "Steps of the generator.", "N")]
BatchSize = Annotated[int | None, option("--batch", HOW, "Examples in a step.", "N")]
Rate = Annotated[
    float | None,
    option("--lr", HOW, "Learning rate of both players, held throughout.", "RATE"),
]
Precision = Annotated[
    str | None,
    option("--precision", HOW, "float32, or bfloat16 on CUDA devices.", "TYPE"),
]
Seed = Annotated[int | None, option("--seed", HOW, "Seed of all randomness.")]
Device = Annotated[str, option("--device", HOW, "cpu or cuda.")]
Every = Annotated[
    int | None,
    option(
        "--every", RESULT, "Between measures, checkpoints and pictures. Without it: a twentieth of the run.", "STEPS"
    ),
]
Out = Annotated[
    Path | None,
    option("--out", RESULT, "Where the run is written."),
]
Resume = Annotated[
    Path | None,
    option("--resume", RESULT, "Go on with a run that was stopped, in its folder. Nothing else need be said.", "RUN"),
]
