"""Does the four-panel picture show what was looked at, and claim no equilibrium that is none?"""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from advgan.gaussian import BINS, DEVIATION, MEAN, Look
from reports.game import chosen, drawn, png, svg

X = np.linspace(MEAN - 8 * DEVIATION, MEAN + 8 * DEVIATION, BINS)


def looked(step: int, away: float, js: float, critic: float = 0.5) -> Look:
    real, fake = norm.pdf(X, MEAN, DEVIATION), norm.pdf(X, MEAN - away, DEVIATION)
    return Look(step, X, real, fake, np.full(BINS, critic), real / (real + fake), js, -1.386, 0.5)


LOOKS = [looked(0, 2, 0.6), looked(25, 1.9, 0.5), looked(50, 1, 0.2), looked(75, 0.3, 0.011), looked(100, 0, 0.0002)]


def test_the_four_panels_are_start_half_way_near_and_end():
    assert [(name, one.step) for name, one in chosen(LOOKS)] == [
        ("start", 0), ("early", 50), ("late", 75), ("equilibrium", 100),
    ]  # fmt: skip


@pytest.mark.parametrize("last", [looked(100, 0, 0.01), looked(100, 0, 0.0002, critic=0.55)])
def test_an_end_that_is_no_equilibrium_is_not_called_one(last):
    assert chosen([*LOOKS[:-1], last])[-1][0] == "end"


def test_a_run_that_has_not_come_far_has_fewer_panels_and_is_drawn_all_the_same():
    assert [name for name, _ in chosen(LOOKS[:2])] == ["start", "end"]
    assert [name for name, _ in chosen(LOOKS[:1])] == ["start"]
    for looks in (LOOKS[:1], LOOKS[:2], LOOKS):
        assert len(drawn(chosen(looks)).axes) == 2 * len(chosen(looks))


def test_the_numbers_of_each_look_stand_over_its_panel():
    text = svg(LOOKS, "game")
    for said in ("JS 0.6", "JS 0.2", "JS 0.011", "JS 0.0002", "mean D 0.500", "x  at step 75", "equilibrium"):
        assert said in text
    assert "var(--series-1)" in text
    assert "#00000" not in text


def test_a_critic_that_has_no_best_one_is_drawn_alone_on_its_own_scale():
    bare = [replace(one, best=np.full(BINS, np.nan), critic=one.critic + 40) for one in LOOKS]
    low, high = drawn(chosen(bare)).axes[4].get_ylim()
    assert low < 40.5 < high


def test_the_picture_is_the_same_twice_and_opens():
    first = png(LOOKS)
    assert first == png(LOOKS)
    with Image.open(io.BytesIO(first)) as image:
        assert image.width > 1500
