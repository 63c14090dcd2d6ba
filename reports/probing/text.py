"""How is a probe told on a terminal?"""

from rich.table import Table
from rich.text import Text

from reports import words
from reports.probing import far
from reports.probing.saved import Probe


def table(probe: Probe) -> Table:
    """Of each model the median distance along each kind of direction, and the shares that cross."""
    threat = words.threat(probe.about["configuration"]["threat"])
    grid = Table(title=f"Distance to the boundary, {words.plural(probe.about['data']['n'], 'example')}")
    for head in ("model", "direction", "median", "times", f"within {threat}", "cross at all"):
        grid.add_column(head, justify="left" if head in ("model", "direction") else "right")
    for name in probe.about["models"]:
        for row in far.kind_rows(probe, name):
            shares = (f"{share.percent} ({share.count})" for share in (row.within, row.crossed))
            grid.add_row(*map(Text, (name if row.series == 0 else "", row.name, row.median, row.times, *shares)))
        grid.add_section()
    return grid
