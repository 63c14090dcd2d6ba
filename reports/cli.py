"""The command `advgan`: which commands there are, and how each ends."""

import errno
import sys
from typing import Annotated, NoReturn

import typer

# PyTorch takes seconds to import: commands import it where they need it, so that --help is quick and Ctrl-C is caught.
from reports import commands
from reports.terminal import STOPPED, Stopped, note

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="advgan",
    help="Audit the robustness of PyTorch classifiers, make adversarial data sets, probe boundaries, train generators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(commands.audit)
app.command()(commands.doctor)
app.command()(commands.probe)
app.command()(commands.show)
app.add_typer(commands.dataset, name="dataset")
app.add_typer(commands.train, name="train")
app.command()(commands.sample)


def _version(wanted: bool) -> None:
    if wanted:
        from reports.provenance import own_version

        print(f"advgan {own_version()}")
        raise typer.Exit


@app.callback()
def _advgan(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


def main(arguments: "list[str] | None" = None) -> NoReturn:
    """Run the command. Exit status: 0; 1 below --fail-under or ill; 2 for what the user can mend; 130 for Ctrl-C."""
    try:
        app(arguments, prog_name="advgan")
    except KeyboardInterrupt:
        _leave("stopped; nothing was written.", STOPPED)
    except SystemExit as ended:  # typer makes one of a Ctrl-C, too
        if ended.code == STOPPED and not isinstance(ended, Stopped):
            note("stopped; nothing was written.")
        raise
    except ValueError as error:
        from attacks.errors import InputError

        if not isinstance(error, InputError):
            raise
        _leave(str(error), 2)
    except MemoryError as error:
        _leave(f"out of memory ({error or 'no more is to be had'}). Try a smaller --batch-size.", 2)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        if error.errno in FULL:
            _leave(f"the disk is full{where}; nothing was left behind. Free some space or name another --out.", 2)
        _leave(f"{error.strerror or error}{where}.", 2)
    except RuntimeError as error:
        import torch

        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):  # on a CPU
            raise
        _leave("the device is out of memory. Try a smaller --batch-size.", 2)
    sys.exit(0)


def _leave(text: str, status: int) -> NoReturn:
    note(text)
    sys.exit(status)


if __name__ == "__main__":
    main()
