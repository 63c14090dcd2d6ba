"""The command `advgan dataset verify`: what can be typed, and what is told on the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.dataset import OUT, one_model, plain_data
from reports.commands.typed import option
from reports.terminal import Bar


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A data set's folder.")] = OUT,
    model: Annotated[
        str | None,
        option(
            "--model",
            None,
            "The model to put every row to. Without it: the digits' own, where the set was made against it.",
        ),
    ] = None,
    weights: Annotated[Path | None, option("--weights", None, "Weights of the model.")] = None,
    data: Annotated[
        str | None,
        option(
            "--data",
            None,
            "The source, to measure from. Without it: the digits, where they are it; else the clean inputs "
            "of a set made with --pairs.",
        ),
    ] = None,
    image_size: Annotated[int | None, option("--image-size", None, "As the set was made with.")] = None,
    data_root: Annotated[Path | None, option("--data-root", None, "Where torchvision's data sets are.")] = None,
    device: Annotated[str, option("--device", None, "cpu or cuda.")] = "cpu",
) -> None:
    """Check a data set: the files' hashes, the grid, the ball and, with the model, every row's claim.

    Each row that fails is named. No model is run that you did not name, the digits' own apart.

    Exit status: 0; 1 where something fails; 2 where the input cannot be used; 130 after Ctrl-C.

    Example: advgan dataset verify set --model net.py:make
    """  # fmt: skip
    from rich.console import Console

    from reports.dataset import text
    from reports.dataset.manifest import Manifest
    from reports.dataset.verify import verify as verify_set

    asked = Manifest.load(folder).about["configuration"]
    known = str(asked.get("model_named"))
    spec = model or (known if known.partition(":")[0] == "digits" else None)
    source = data or ("digits" if asked.get("data") == "digits" else None)
    module = None if spec is None else one_model(spec, weights)[1]
    found = None if source is None else plain_data(source, image_size, data_root)
    with Bar() as bar:
        verified = verify_set(folder, module, found, device=device, progress=bar.show)
    Console().print(text.verification(verified))
    if not verified.passed:
        raise typer.Exit(1)
