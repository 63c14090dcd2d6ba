"""The commands, a file for each."""

import typer

from reports.commands.audit import audit
from reports.commands.dataset import dataset
from reports.commands.doctor import doctor
from reports.commands.gan import gan
from reports.commands.perturber import perturber
from reports.commands.probe import probe
from reports.commands.sample import sample
from reports.commands.show import show

__all__ = ["audit", "dataset", "doctor", "probe", "sample", "show", "train"]

train = typer.Typer(help="Train a generator, of samples or of perturbations.", no_args_is_help=True)


@train.callback()
def _train() -> None:
    """Train a generator, of samples or of perturbations."""


train.command()(gan)
train.command()(perturber)
