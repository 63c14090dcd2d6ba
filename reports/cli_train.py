"""The commands `advgan train gan` and `advgan sample`: what can be typed, and what is told on the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reports.terminal import Stopped

if TYPE_CHECKING:
    from reports.training.saved import SavedRun

OUT = Path("advgan-run")
WHAT, HOW, RESULT = "What is learnt", "How", "What comes of it"

train = typer.Typer(help="Train a generator.", no_args_is_help=True)


@train.callback()
def _train() -> None:
    """Train a generator."""


@train.command()
def gan(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            rich_help_panel=WHAT,
            help="digits; FILE.npz (x, y); FILE.parquet (image, label); a folder of images per class; "
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
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PIXELS",
            rich_help_panel=WHAT,
            help="Resize images to it (the shorter side) and crop them to its square; a multiple of 4.",
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
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            rich_help_panel=HOW,
            help="relativistic, non_saturating, minimax, least_squares_pearson, least_squares_zero_one, hinge or "
            "wasserstein. Without it: relativistic.",
        ),
    ] = None,
    penalty: Annotated[
        str | None,
        typer.Option(
            "--penalty",
            metavar="NAME[:WEIGHT]",
            rich_help_panel=HOW,
            help="On the critic's gradient: none, r1, r2, r1r2 or gradient (WGAN-GP). Without it: r1r2.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network", metavar="KIND", rich_help_panel=HOW, help="mlp, fourier, dcgan or resnet, of both players."
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", metavar="N", rich_help_panel=HOW, help="Of the networks' narrowest layers.")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", metavar="N", rich_help_panel=HOW, help="Of mlp its layers, of resnet its blocks."),
    ] = None,
    latent: Annotated[
        int | None, typer.Option("--latent", metavar="N", rich_help_panel=HOW, help="Random numbers behind a sample.")
    ] = None,
    conditioning: Annotated[
        str | None,
        typer.Option(
            "--conditioning",
            metavar="KIND",
            rich_help_panel=HOW,
            help="How the critic is told the class: concat, projection or auxiliary.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", rich_help_panel=HOW, help="Steps of the generator.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", rich_help_panel=HOW, help="Samples in a step.")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr", metavar="RATE", rich_help_panel=HOW, help="Learning rate of both players, held throughout."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="TYPE", rich_help_panel=HOW, help="float32, or bfloat16 on CUDA devices."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", rich_help_panel=HOW, help="Seed of all randomness.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", rich_help_panel=HOW, help="cpu or cuda.")
    ] = "cpu",
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="MODEL",
            rich_help_panel=RESULT,
            help="A classifier that says whether samples are of the class asked for: FILE.py:FUNCTION, as a model of "
            "an audit. Without it: for the digits the one that comes with advgan, else none.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--judge-weights", metavar="FILE", rich_help_panel=RESULT, help="Weights of the judge. No pickle is run."
        ),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            metavar="STEPS",
            rich_help_panel=RESULT,
            help="Between measures, checkpoints and pictures. Without it: a twentieth of the run.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", rich_help_panel=RESULT, help="Where the run is written."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            rich_help_panel=RESULT,
            help="Go on with a run that was stopped, in its folder. Nothing else need be said.",
        ),
    ] = None,
) -> None:
    """Train a generator of samples against a critic, measure it, and write a page that tells of it.

    Without arguments: the handwritten digits, told their class, in some minutes on a CPU.

    It writes a folder: report.html, the numbers (run.json), the generator, a checkpoint to go on from.

    Exit status: 0; 2 where the input cannot be used or training diverged; 130 after Ctrl-C, with the run saved.

    Example: advgan train gan -d photos --image-size 32 --steps 20000 --out run
    """  # fmt: skip
    from attacks.errors import InputError
    from reports.training import job
    from reports.training.asked import penalty_from_text, rate_checked

    named = {
        "data": data,
        "conditional": conditional,
        "image_size": image_size,
        "data_root": _text(data_root),
        "judge": judge,
        "weights": _text(weights),
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
    if every is not None and every < 1:
        raise InputError(f"--every is {every}; at least one step is needed between two marks.")
    folder = _folder(out, resume)
    with _Bar() as bar:
        try:
            run = job.train(named, recipe, folder, resume=resume is not None, device=device, every=every, show=bar.show)
        except KeyboardInterrupt:
            bar.stop()
            raise Stopped(_kept(folder)) from None
    _tell(run)
    print(f"Written to {folder}: open {folder / 'report.html'}")


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
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.png", help="A picture of them.")] = None,
    npz: Annotated[
        Path | None,
        typer.Option("--npz", metavar="FILE.npz", help="The samples as arrays x and y, which `advgan audit` reads."),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Draw samples from a trained generator, as a picture or as arrays.

    The same seed gives the same samples; the first ones do not depend on how many are drawn.

    Exit status: 0; 2 where the input cannot be used; 130 after Ctrl-C.

    Example: advgan sample advgan-run --class 3 --n 64 --out grid.png
    """  # fmt: skip
    from reports.training import drawn

    picture = Path("samples.png") if out is None and npz is None else out
    written = drawn.draw(run, n, label=label, seed=seed, picture=picture, npz=npz, device=device, overwrite=overwrite)
    print(f"Written to {' and '.join(map(str, written))}")


def _folder(out: Path | None, resume: Path | None) -> Path:
    from attacks.errors import InputError

    if resume is not None and out is not None and out.resolve() != resume.resolve():
        raise InputError(f"--resume {resume} goes on in that folder, and --out names {out}. Give one of the two.")
    return resume or out or OUT


def _kept(folder: Path) -> str:
    from reports.training.saved import SavedRun

    if not (folder / "run.json").is_file():
        return "stopped; nothing was written."
    run = SavedRun.load(folder)
    return (
        f"stopped at step {run.step:,} of {run.config.get('steps', 0):,}; all of it is saved. "
        f"Go on with: advgan train gan --resume {folder}"
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _tell(run: "SavedRun") -> None:
    from rich.console import Console

    from reports.training import text

    Console().print(text.table(run))


class _Bar:
    """A progress bar on the standard error: steps, losses, the foremost measure, speed. Gone when the work is done."""

    def __enter__(self) -> "_Bar":
        from rich import progress
        from rich.console import Console

        columns = (
            progress.MofNCompleteColumn(),
            progress.BarColumn(bar_width=None),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.description}"),
        )
        console = Console(stderr=True)
        self.bar = progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task("starting", total=None)
        self.bar.start()
        return self

    def show(self, done: int, total: int, row: dict[str, Any]) -> None:
        from reports.training import text

        self.bar.update(self.task, completed=done, total=total, description=text.line(row))

    def stop(self) -> None:
        self.bar.stop()

    def __exit__(self, *error: object) -> None:
        self.stop()
