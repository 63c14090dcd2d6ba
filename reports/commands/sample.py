"""The command `advgan sample`: what can be typed."""

from pathlib import Path
from typing import Annotated

import typer


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", help="How many samples.")] = 64,
    label: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="CLASS", help="Of this class alone, by number or name. Without it: all in turn."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed gives other samples.")] = 0,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="TAU",
            help="Of a generator of sequences: below 1 it is surer of itself, above 1 less. Without it: 1, as trained.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A picture of them (FILE.png), or a text file of sequences."),
    ] = None,
    npz: Annotated[
        Path | None,
        typer.Option("--npz", metavar="FILE.npz", help="The samples as arrays x and y, which `advgan audit` reads."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="MODEL",
            help="Search the generator for samples that this classifier takes for another class than was asked for; "
            "of the N samples those are written. A model as of `advgan audit`.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", metavar="MODEL", help="Another classifier, that says whether they are of their class still."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Draw samples from a trained generator, as a picture or as arrays; of sequences as text.

    Sequences are printed, a line each, where neither --out nor --npz names a file.

    The same seed gives the same samples; the first ones do not depend on how many are drawn.

    Exit status: 0; 2 where the input cannot be used; 130 after Ctrl-C.

    Example: advgan sample advgan-run --class 3 --n 64 --out grid.png

    Example: advgan sample advgan-sequence --n 20 --temperature 0.8

    Example: advgan sample advgan-run --against digits:standard --judge digits:robust
    """  # fmt: skip
    from attacks.errors import InputError
    from reports.sequencing import drawn as sequences
    from reports.training import drawn, saved

    if saved.kind(run) == "sequence":
        odd = {"--class": label, "--against": against, "--judge": judge}
        if named := [option for option, value in odd.items() if value is not None]:
            raise InputError(f"{run} writes sequences, and has no {' and no '.join(named)}. Leave it out.")
        files, lines = sequences.draw(
            run, n, seed=seed, temperature=temperature, out=out, npz=npz, device=device, overwrite=overwrite
        )
        for line in lines:
            print(line)
        if files:
            print(f"Written to {' and '.join(map(str, files))}")
        return
    if temperature is not None:
        raise InputError(f"{run} makes images or points: only generators of sequences have a --temperature.")
    picture = Path("samples.png") if out is None and npz is None else out
    written, told = drawn.draw(
        run,
        n,
        label=label,
        seed=seed,
        picture=picture,
        npz=npz,
        device=device,
        overwrite=overwrite,
        against=against,
        judge=judge,
    )
    for line in told:
        print(line)
    print(f"Written to {' and '.join(map(str, written))}" if written else "Nothing was found, and nothing is written.")
