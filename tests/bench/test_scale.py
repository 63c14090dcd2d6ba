"""How much of two cores do two workers of an audit make use of?"""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from race import Race, quartiles
from record import Book

BAR = 0.9
LAPS = 1  # of minutes each
ATTACKS = ["apgd_t:steps=200", "fab:restarts=2", "square:queries=4000"]
AUDIT = ["--model", "digits", "--threat", "linf:0.1", "--threat", "l2:1.0", *(f"--attack={name}" for name in ATTACKS)]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is one core")
def test_two_workers_do_nearly_twice_as_much(tmp_path: Path, benchmark, book: Book):
    """Whole commands, start and end included, each worker on one thread."""

    def audit(workers: int) -> None:
        out = ["--workers", str(workers), "--shard", "50", "--out", str(tmp_path / str(workers)), "--overwrite"]
        command = [sys.executable, "-c", "from reports.cli import main; main()", "audit", *AUDIT, *out]
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)

    race = Race({"one": lambda: audit(1), "two": lambda: audit(2)})
    benchmark.pedantic(race.lap, rounds=LAPS, iterations=1)
    rows = [pd.read_parquet(tmp_path / workers / "rows.parquet") for workers in ("1", "2")]
    pd.testing.assert_frame_equal(*rows)

    low, middle, high = quartiles(race.times("one") / race.times("two") / 2)
    book.add(
        suite="scale",
        measured=f"two workers, each on one thread: {' '.join(AUDIT)}",
        unit="s",
        repeats=LAPS,
        ours=race.median("two"),
        reference=race.median("one"),
        reference_is="the same command with one worker",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        bar=BAR,
        note="ratio: of twice one worker's speed, start and end of the command included",
    )
    assert middle >= BAR
