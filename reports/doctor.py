"""How does what is wrong with models or their data read on a terminal?"""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attacks.preflight import CHECKS, Finding
from reports import words
from reports.text import SEVERITIES


def examination(findings: dict[str, list[Finding]]) -> RenderableType:
    """Each model's findings, each with its remedy; where there are none, what was looked at."""
    parts: list[RenderableType] = []
    for name, found in findings.items():
        # Text, not a string: a model's name may hold what rich would read as markup.
        parts += [Text(), Text(f" {name}", style="bold underline"), *map(_told, found)]
        parts += [] if found else [_indented(Text("Nothing found."), 2)]
    if not all(findings.values()):
        looked_at = words.listed(list(CHECKS), len(CHECKS))
        parts += [Text(), Text(f"Looked at: {looked_at}.", style="dim", overflow="fold")]
    return Group(*parts, Text())


def _told(finding: Finding) -> RenderableType:
    line = Text(f"{finding.severity}: ", style=SEVERITIES[finding.severity], overflow="fold")
    line.append(finding.text, style="not bold default")
    return Group(_indented(line, 2), _indented(Text(finding.remedy, style="dim", overflow="fold"), 6))


def _indented(text: Text, by: int) -> RenderableType:
    return Padding(text, (0, 0, 0, by))
