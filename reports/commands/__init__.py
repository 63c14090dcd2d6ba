"""The commands beside the audit's: `train` with its kinds, `sample`, `probe` and `show`."""

import typer

from reports.commands.gan import gan
from reports.commands.probe import probe
from reports.commands.sample import sample
from reports.commands.show import show
from reports.commands.training import Stopped

__all__ = ["Stopped", "probe", "sample", "show", "train"]

train = typer.Typer(help="Train a generator, of samples or of perturbations.", no_args_is_help=True)


@train.callback()
def _train() -> None:
    """Train a generator, of samples or of perturbations."""


train.command()(gan)
