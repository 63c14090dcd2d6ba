"""What does a person read about a data set? Its card, README.md, with a contact sheet."""

import html
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports import figures, words
from reports.dataset.codec import QUALITY
from reports.dataset.shards import Layout, read_shard
from reports.sources.dataset import Dataset, unit_floats

SHEET = "contact_sheet.png"
SHOWN = 10  # examples across
LEAST = 96  # pixels: smaller images are enlarged, with hard edges
SPECIAL = re.compile(r"([\\`*_\[\]|#~$])")


def card(about: dict[str, Any], pictured: bool) -> str:
    """README.md. Whatever a user named is told as text, not as Markdown or HTML."""
    folder = FileSystemLoader(Path(__file__).parents[1] / "templates")
    environment = Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"plain": plain, "of": words.of, "percent": words.percent, "number": words.number}
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["threat"] = words.threat
    return environment.get_template("dataset.md.j2").render(
        about=about, pictured=pictured, sheet=SHEET, quality=QUALITY, rows=sum(about["shards"]), shown=SHOWN
    )


def plain(text: Any) -> str:
    """Markdown that shows just these characters, on one line."""
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def contact_sheet(folder: Path, shards: int, layout: Layout, data: Dataset) -> bytes | None:
    """A PNG of the first fooled rows: clean above, adversarial below it, their difference enlarged at the bottom.

    None of what is no picture, and where no row is fooled.
    """
    if len(layout.shape) != 3 or layout.shape[0] not in (1, 3):
        return None
    rows, stored = _first_fooled(folder, shards, layout)
    if not len(rows):
        return None
    x_adv, x = unit_floats(stored), _clean(rows, data)
    strip = [*x, *x_adv, *(figures.amplified(a, b)[0] for a, b in zip(x, x_adv, strict=True))]
    images = figures.shown(np.stack(strip))
    scale = -(-LEAST // max(layout.shape[1:]))
    drawn = figures.sheet(images.repeat(scale, 1).repeat(scale, 2), len(rows))
    return figures.png_file(drawn)


def _first_fooled(folder: Path, shards: int, layout: Layout) -> tuple[pd.DataFrame, np.ndarray]:
    """So many of the first fooled rows, one an example: the runs take turns."""
    rows, images, runs = [], [], itertools.cycle(layout.names)
    for number in range(shards):
        shard = read_shard(folder, number, layout)
        fooled = shard.rows[shard.rows.outcome == "fooled"]
        for id_ in fooled.id.unique():
            threat, attack = next(runs)
            those = fooled.loc[fooled.id == id_]
            mine = those.loc[(those.threat == threat) & (those.attack == attack)]
            at = int((mine if len(mine) else those).index[0])
            rows.append(shard.rows.loc[at])
            images.append(shard.x[at])
            if len(rows) == SHOWN:
                return pd.DataFrame(rows), np.stack(images)
    return pd.DataFrame(rows), np.stack(images) if images else np.zeros(0)


def _clean(rows: pd.DataFrame, data: Dataset) -> np.ndarray:
    wanted, found = set(rows.id), {}
    for batch in data.batches(int(rows.id.max()) + 1, 256):
        found |= {int(id_): x.numpy() for id_, x in zip(batch.ids, batch.x, strict=True) if int(id_) in wanted}
    return np.stack([found[id_] for id_ in rows.id])
