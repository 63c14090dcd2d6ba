"""The commands, a file for each."""

import typer

from reports.commands.audit import audit
from reports.commands.dataset import dataset
from reports.commands.doctor import doctor
from reports.commands.gan import gan
from reports.commands.perturber import perturber
from reports.commands.probe import probe
from reports.commands.sample import sample
from reports.commands.sequence import sequence
from reports.commands.show import show
from reports.commands.verify import verify

__all__ = ["audit", "dataset", "doctor", "probe", "sample", "show", "train"]

dataset.command()(verify)

train = typer.Typer(help="Train a generator, of samples, of perturbations or of sequences.", no_args_is_help=True)


@train.callback()
def _train() -> None:
    """Train a generator, of samples, of perturbations or of sequences."""


train.command()(gan)
train.command()(perturber)
train.command()(sequence)
