"""The commands that train and that use what was trained: `train` with its kinds, and `sample`."""

import typer

from reports.commands.gan import gan
from reports.commands.sample import sample
from reports.commands.training import Stopped

__all__ = ["Stopped", "sample", "train"]

train = typer.Typer(help="Train a generator, of samples or of perturbations.", no_args_is_help=True)


@train.callback()
def _train() -> None:
    """Train a generator, of samples or of perturbations."""


train.command()(gan)
