"""The command `advgan doctor`: what can be typed, and what is told on the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands import sources
from reports.commands.typed import option

LOOKED_AT = 256  # examples that are read


def doctor(
    model: Annotated[
        list[str] | None,
        option("--model", None, f"{sources.MODEL} May be given several times. Without it: digits."),
    ] = None,
    data: Annotated[
        str | None,
        option("--data", None, f"{sources.DATASET} Without it, for the digits models: digits."),
    ] = None,
    weights: Annotated[
        Path | None,
        option("--weights", None, "Weights of the model: safetensors or a state dict."),
    ] = None,
    examples: Annotated[
        int,
        option("--examples", None, "Read the first N examples; 64 of them are shown to the model."),
    ] = LOOKED_AT,
    image_size: Annotated[int | None, option("--image-size", None, "Resize and crop images to it.")] = None,
    data_root: Annotated[Path | None, option("--data-root", None, "Where torchvision's data sets are.")] = None,
    device: Annotated[str, option("--device", None, "cpu or cuda.")] = "cpu",
) -> None:
    """Look for what is wrong with a model or its data before anything is attacked.

    A fault is fatal (an audit would be wrong or impossible), a warning (its results need care) or a note.

    Exit status: 0; 1 where something fatal is found; 2 where the input cannot be used; 130 after Ctrl-C.

    Example: advgan doctor -m net.py:make -d test.npz
    """  # fmt: skip
    from rich.console import Console

    from attacks.errors import InputError
    from attacks.preflight import examine
    from reports.devices import device_named
    from reports.doctor import examination
    from reports.sources import data as data_sources
    from reports.sources import models as model_sources
    from reports.sources.told import victim_of

    specs = model or ["digits"]
    spec = data or model_sources.digits_for(specs)
    if examples < 1:
        raise InputError(f"--examples is {examples}; at least one is needed.")
    place = device_named(device)
    models, _ = model_sources.load_several(specs, weights=weights)
    found = data_sources.load(spec, image_size=image_size, root=data_root)
    sources.announce(models, found.notes)
    batch = next(found.batches(examples, examples))
    findings = {
        name: examine(victim_of(module.to(place)), batch.x, batch.labels, bounds=found.bounds)
        for name, module in models.items()
    }
    Console().print(examination(findings))
    if any(finding.severity == "fatal" for each in findings.values() for finding in each):
        raise typer.Exit(1)
