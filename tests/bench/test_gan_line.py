"""Does the game on the line end where the theory says, whatever the seed?"""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from record import Book

from advgan.fit import fit
from advgan.gaussian import CRITIC_AT_REST, JS_AT_REST, measure, recipe, samples
from advgan.theory import EQUILIBRIUM

SEEDS = 5
OFF = 0.01  # of the value at equilibrium
BARS = {"js": JS_AT_REST, "critic_error": CRITIC_AT_REST, "value_error": OFF}


@pytest.fixture(autouse=True)
def one_thread(threads) -> None:
    torch.set_num_threads(1)


def test_the_game_on_the_line_ends_at_the_equilibrium(book: Book, tmp_path: Path):
    found, minutes = [], []
    for seed in range(SEEDS):
        start = time.process_time()
        asked = recipe(seed)
        ended = fit(asked, samples(), tmp_path / str(seed), measure=measure, every=asked.steps).measures
        minutes.append((time.process_time() - start) / 60)
        found.append({**ended, "value_error": abs(ended["value"] / EQUILIBRIUM - 1)})
    for name, bar in BARS.items():
        values = np.array([each[name] for each in found])
        book.add(
            suite="gan line",
            measured=f"gaussian-1d: {name}",
            unit={"js": "nats", "critic_error": "probability", "value_error": "share"}[name],
            repeats=SEEDS,
            ours=float(values.mean()),
            bar=bar,
            note=f"seeds 0 to {SEEDS - 1}: {' '.join(f'{value:.2g}' for value in values)} "
            f"(s.e. {values.std(ddof=1) / SEEDS**0.5:.1g}); CPU minutes {' '.join(f'{m:.2f}' for m in minutes)}; "
            "js from 100,000 samples in 100 bins",
        )
        assert values.max() <= bar
