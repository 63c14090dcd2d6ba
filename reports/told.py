"""What kind of folder is this, and how is it told: as a table on the terminal, and as a page?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from attacks.errors import InputError
from reports import text
from reports.comparing import changes
from reports.comparing import page as comparison_page
from reports.comparing import text as comparison_text
from reports.pages.audit import page as audit_page
from reports.perturbing import page as perturber_page
from reports.perturbing import text as perturber_text
from reports.probing import page as probe_page
from reports.probing import text as probe_text
from reports.probing.saved import Probe
from reports.record import Audit
from reports.sequencing import page as sequence_page
from reports.sequencing import text as sequence_text
from reports.training import page as run_page
from reports.training import text as run_text
from reports.training.saved import SavedRun


@dataclass(frozen=True)
class Told:
    table: RenderableType
    page: Callable[[], str]


def told(folders: Sequence[Path]) -> Told:
    """Of one folder, or of two audits side by side. InputError for any other folders."""
    if len(folders) > 2:
        raise InputError(f"{len(folders)} folders were named; one is shown, or two audits are compared.")
    return _compared(*folders) if len(folders) == 2 else _reader(folders[0])(folders[0])


def _compared(a: Path, b: Path) -> Told:
    for folder in (a, b):
        if _reader(folder) is not _audit:
            raise InputError(f"{folder} is no audit. Two folders of `advgan audit` can be compared.")
    comparison = changes.compare(Audit.load(a), Audit.load(b))
    return Told(comparison_text.table(comparison), lambda: comparison_page.page(comparison))


def _audit(folder: Path) -> Told:
    audit = Audit.load(folder)
    return Told(text.table(audit), lambda: audit_page.page(audit))


def _run(folder: Path) -> Told:
    run = SavedRun.load(folder)
    terminal, page = TRAINED.get(run.config.get("what", "gan"), TRAINED["gan"])
    return Told(terminal.table(run), lambda: page.page(run))


def _probe(folder: Path) -> Told:
    probe = Probe.load(folder)
    return Told(probe_text.table(probe), lambda: probe_page.page(probe))


TRAINED = {
    "gan": (run_text, run_page),
    "perturber": (perturber_text, perturber_page),
    "sequence": (sequence_text, sequence_page),
}
READERS = {
    "audit.json": _audit,
    "run.json": _run,
    "probe.json": _probe,
}  # by the file that tells a kind of folder from the others


def _reader(folder: Path) -> Callable[[Path], Told]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Name one that `advgan audit`, `train` or `probe` wrote.")
    for file, reader in READERS.items():
        if (folder / file).is_file():
            return reader
    raise InputError(
        f"{folder} holds none of {', '.join(READERS)}: it is no audit, training run or probe. Name a folder that "
        "`advgan audit`, `train` or `probe` wrote."
    )
