"""How much dropping finished rows saves where nearly all of them fall early."""

import networks
import pytest
import torch
from race import Race, passes_of, quartiles
from record import Book
from test_overhead import STEPS, gradients, two_forwards

import attacks

BATCH = 400
EPS = 0.1
FALLEN = 0.95
BAR = 0.2
SHAPE = (1, 28, 28)


def evenly() -> torch.Tensor:
    """[B] int64: of the 95 % that fall, a quarter after each of the first four steps; 0 = never."""
    steps = torch.arange(BATCH) % 4 + 1
    return steps * (torch.arange(BATCH) < FALLEN * BATCH)


def all_at_the_fourth() -> torch.Tensor:
    return 4 * (torch.arange(BATCH) < FALLEN * BATCH)


@pytest.mark.parametrize("falls", [evenly, all_at_the_fourth], ids=lambda falls: falls.__name__)
def test_rows_that_fell_cost_nothing_more(falls, benchmark, book: Book, repeats: int):
    fall_after = falls()
    model = networks.Falling(networks.small_cnn(), EPS).eval()
    x, labels = model.inputs(fall_after, SHAPE)

    def ours() -> attacks.Result:
        return attacks.run("pgd", model, x, labels, f"linf:{EPS}")

    result = ours()
    found_at = torch.where(fall_after > 0, fall_after + 1, -1)  # the clean input is step 0, the random start step 1
    assert (result.step == found_at).all()

    forward, backward = passes_of(model, ours)
    share = (forward + backward) / (BATCH * (2 * STEPS + 2))
    measured = f"PGD-{STEPS} linf, small_cnn, batch {BATCH}, 95 % fall {falls.__name__.replace('_', ' ')}"
    book.add(
        suite="work saved",
        measured=measured,
        unit="row-passes",
        repeats=1,
        ours=forward + backward,
        reference=BATCH * (2 * STEPS + 2),
        reference_is=f"{STEPS + 2} forward and {STEPS} input-gradient passes of the whole batch",
        ratio=share,
        bar=BAR,
        note=f"{forward / BATCH:.2f} forward and {backward / BATCH:.2f} gradient passes a row",
    )

    race = Race(
        {
            "ours": ours,
            "whole batch": lambda: (gradients(model, x, labels), two_forwards(model, x)),
        }
    )
    race.warm_up()
    benchmark.pedantic(race.lap, rounds=repeats, iterations=1)
    low, middle, high = quartiles(race.times("ours") / race.times("whole batch"))
    book.add(
        suite="work saved",
        measured=measured,
        unit="s",
        repeats=repeats,
        ours=race.median("ours"),
        reference=race.median("whole batch"),
        reference_is=f"{STEPS + 2} forward and {STEPS} input-gradient passes of the whole batch",
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        bar=BAR,
    )
    assert forward <= BAR * BATCH * (STEPS + 2)
    assert backward <= BAR * BATCH * STEPS
    assert middle <= BAR
