"""What the rows of seqgan.py come to, in results.csv: python tests/bench/curves.py NAME ROWS.jsonl ...

The last row of each seed counts, whatever came before it: nothing is chosen. One file or several of the same recipe.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from record import Book

PUBLISHED = {"nll_oracle": {"reference": 8.736, "reference_is": "published: SeqGAN (arXiv 1609.05473)", "bar": 8.74}}
MEASURES = ("nll_oracle", "nll_gen", "kl", "reverse_kl", "jeffreys", "token_js", "js")
Row = dict[str, Any]


def main() -> None:
    name, files = sys.argv[1], [Path(each) for each in sys.argv[2:]]
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    about = [row for row in rows if "about" in row][-1]
    seeds = {seed: [r for r in rows if r.get("seed") == seed and "jeffreys" in r] for seed in seeds_of(rows)}
    ends = {seed: curve[-1] for seed, curve in seeds.items()}
    book = Book()
    for measure in MEASURES:
        values = np.array([end[measure] for end in ends.values()])
        book.add(
            suite="sequences",
            measured=f"{name}: {measure}",
            unit="nats" if measure == "js" else "nats a token",
            repeats=len(values),
            ours=float(values.mean()),
            note=f"{told(ends, measure)}; {about['device']}, torch {about['torch']}"
            + (f"; recipe {about['about']['recipe']}; {curves(seeds)}" if measure == "nll_oracle" else ""),
            **(PUBLISHED.get(measure, {}) if name.startswith("SeqGAN") else {}),
        )
    book.show()


def seeds_of(rows: list[Row]) -> list[int]:
    return sorted({row["seed"] for row in rows if "seed" in row})


def told(ends: dict[int, Row], measure: str) -> str:
    return "by seed " + ", ".join(f"{end[measure]:.3f} (s.e. {end[measure + '_error']:.2g})" for end in ends.values())


def curves(seeds: dict[int, list[Row]]) -> str:
    return "; ".join(f"seed {seed}: {curve(rows)}" for seed, rows in seeds.items())


def curve(rows: list[Row]) -> str:
    marks = [row for row in rows if "step" in row]
    shown = marks[:: max(1, len(marks) // 8)] + marks[-1:]
    points = ", ".join(f"{row['nll_oracle']:.2f} ({row['jeffreys']:.2f}) at {row['step']}" for row in shown)
    seconds = rows[-1].get("seconds_in_all", marks[-1]["seconds"])
    return f"NLL under the oracle (Jeffreys) by step: {points}, in {seconds:.0f} s"


if __name__ == "__main__":
    main()
