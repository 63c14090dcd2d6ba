"""The command `advgan show`: what can be typed, and what is told on the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.audit import OUT


def show(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER [OTHER]",
            help="A folder of `advgan audit` or `advgan train`, or two audits to compare. Without it: advgan-audit.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE.html", help="Write the page, too; of two audits what changed."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> None:
    """Print the tables of what was saved, or of two audits side by side, and write the page again.

    Two audits compare where they are of the same examples under the same threats: what fell, what stands again, what is
    taken for another class, and the difference of robust accuracy with its 95 % interval.

    Exit status: 0; 2 where the input cannot be used.

    Example: advgan show audit-monday audit-friday --html changed.html
    """  # fmt: skip
    from rich.console import Console

    from advgan.checkpoint import write
    from reports.told import told

    if html is not None:
        _check_free(html, overwrite)
    found = told(folders or [OUT])
    Console().print(found.table)
    if html is not None:
        write(html, found.page().encode())
        print(f"Written to {html}")


def _check_free(file: Path, overwrite: bool) -> None:
    from attacks.errors import InputError

    if file.suffix != ".html":
        raise InputError(f"--html {file} was named for a file that ends in .html.")
    if file.is_dir() or (file.exists() and not overwrite):
        raise InputError(f"{file} exists. Name another, or replace it with --overwrite.")
    if not file.parent.is_dir():
        raise InputError(f"There is no folder {file.parent} for {file.name}. Make it, or name another.")
