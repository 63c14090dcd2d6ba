"""How do a data set and its verification read on a terminal?"""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports import words
from reports.dataset.manifest import Manifest
from reports.dataset.verify import Verified


def table(manifest: Manifest) -> RenderableType:
    """What came of each run; for `rich.console.Console().print`."""
    about = manifest.about
    out = _table()
    out.add_column("threat and attack", overflow="fold", ratio=1, min_width=12)
    for column in ("fooled", "of attacked", "mended", "lost", "median size", "unverified"):
        out.add_column(column, justify="right", no_wrap=True)
    for run in about["runs"]:
        attacked = run["examples"] - run["already"]
        out.add_row(
            Text(f"{words.threat(run['threat'])}, {run['attack']}"),
            words.of(run["fooled"], attacked),
            words.percent(run["fooled"], attacked),
            f"{run['mended']:,}",
            Text(f"{run['lost']:,}", style="bold red" if run["lost"] else ""),
            words.number(run["size"].get("median")),
            Text(f"{run['unverified']:,}", style="bold red" if run["unverified"] else ""),
        )
    legend = (
        "Fooled: as stored, read back and shown to the model again; of the examples that were attacked, those that did "
        "not reach the goal unattacked. Mended: rounding alone broke it or made it larger. Lost: fooled between the "
        "8-bit levels and not as stored."
    )
    parts: list[RenderableType] = [Text(), _headline(about), Text(), out, Text(legend, style="dim")]
    if about["layout"]["encoding"] == "jpeg":
        parts += [Text(), *map(_loss, about["runs"])]
    return Group(*parts, Text())


def verification(out: Verified) -> RenderableType:
    """What was checked, and what failed."""
    told = _table()
    told.add_column("checked", no_wrap=True)
    told.add_column("against", overflow="fold")
    for what, against in out.checked.items():
        told.add_row(what, Text(against, style="yellow" if against.startswith("not checked") else ""))
    head = Text(f"{words.plural(out.rows, 'row')}, {out.fooled:,} of them adversarial: ")
    failed = words.plural(len(out.problems), "problem")
    head.append("all of it holds." if out.passed else f"{failed}.", style="bold green" if out.passed else "bold red")
    lines = [Text(f"  {problem.where}: {problem.what}") for problem in out.problems]
    return Group(Text(), head, Text(), told, *lines, Text())


def _headline(about: dict) -> Text:
    rows, unverified = sum(about["shards"]), sum(run["unverified"] for run in about["runs"])
    text = Text(f"{words.plural(rows, 'row')} against ", overflow="fold").append(about["model"]["name"], style="bold")
    text.append(f", from {words.plural(about['data']['examples'], 'example')} of {about['data']['name']}; ")
    if rows == 0:
        return text.append("no attack found anything.", style="bold yellow")
    if unverified == 0:
        return text.append("every one was read back and verified.", style="bold green")
    return text.append(f"{words.of(unverified, rows)} were not borne out when read back.", style="bold red")


def _loss(run: dict) -> Text:
    text = Text("JPEG lost: ", style="bold yellow", overflow="fold")
    what = f"{run['attack']}, {words.threat(run['threat'])}: {run['found']:,} fooled before it, "
    after = f"{run['fooled']:,} after it, {run['outside']:,} of these outside the ball."
    return text.append(what + after, style="not bold default")


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, padding=(0, 1), collapse_padding=True)
