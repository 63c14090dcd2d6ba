"""Does the page of a training run say what the run left, and can it be read, by anyone, at any width?"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from attacks.errors import InputError
from reports import figures, words
from reports.training import charts, page, saved
from reports.training.measured import MEASURES
from reports.training.saved import SavedRun
from tests.reports import synthetic_run
from tests.reports.looks import BEYOND, SIZES

EVIL = "<script>alert('x')</script>&\"{{ 7*7 }}"
COLLAPSED = "From step 400 to 500 the generator's samples hardly differ from each other."
CASES = {
    "digits": lambda folder: synthetic_run.write(folder),
    "warned": lambda folder: synthetic_run.write(folder, warnings=(COLLAPSED,)),
    "stopped": lambda folder: synthetic_run.write(folder, finished=False),
    "without classes": lambda folder: synthetic_run.write(folder, conditional=False),
    "in colour": lambda folder: synthetic_run.write(folder, shape=(3, 32, 32), classes=("a class with a name", "b")),
    "ring": lambda folder: synthetic_run.write_points(folder),
}


@pytest.fixture(scope="module", params=CASES)
def each_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    return CASES[request.param](tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    return synthetic_run.write(tmp_path_factory.mktemp("digits") / "run", warnings=(COLLAPSED,))


def html_of(run: SavedRun) -> str:
    return (run.folder / saved.PAGE).read_text(encoding="utf-8")


def test_the_page_needs_nothing_but_itself(each_run: SavedRun):
    text = html_of(each_run)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "url(http" not in text
    assert "<script" not in text
    assert len(text) < 500_000


def test_the_same_run_gives_the_same_page(each_run: SavedRun):
    assert page.page(SavedRun.load(each_run.folder)) == html_of(each_run)


def test_ids_stand_once_and_links_lead_to_them(each_run: SavedRun):
    ids = re.findall(r'\bid="([^"]+)"', html_of(each_run))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html_of(each_run))) <= set(ids)


def test_each_measure_stands_with_its_count_and_that_of_real_images(digits: SavedRun):
    rows = {row.name: row for row in page.contents(digits).measures}
    assert set(rows) == {MEASURES[name].name for name in MEASURES if name in digits.measures}
    assert rows["recognised"].value == words.share(0.9625)
    assert rows["recognised"].count == "231 of 240"
    assert rows["coverage"].count == "1,090 of 1,198"  # a share of the training images, not of the samples
    assert rows["Fréchet distance"].real == "0.211"
    assert rows["Fréchet distance"].count == ""


def test_the_headline_is_the_foremost_measure_of_a_finished_run_alone(digits: SavedRun, tmp_path: Path):
    assert page.contents(digits).headline.title == "96.2 % of the samples are taken for what was asked for"
    stopped = page.contents(synthetic_run.write(tmp_path / "stopped", finished=False))
    assert stopped.headline.title == "A generator of digits, unfinished"
    assert "at step 660 of 2,000" in stopped.headline.detail[1]
    ring = page.contents(synthetic_run.write_points(tmp_path / "ring"))
    assert ring.headline.title == "8 modes found, and 98.1 % of the samples on one"


def test_warnings_are_told_and_counted(digits: SavedRun):
    told = page.contents(digits)
    assert told.headline.doubtful == "1 warning"
    assert [warning.text for warning in told.warnings] == [COLLAPSED]
    assert 'href="#doubts"' in html_of(digits)


def test_a_strip_for_each_class_and_one_of_all_where_there_are_none(digits: SavedRun, tmp_path: Path):
    assert [strip.name for strip in page.contents(digits).samples] == list(synthetic_run.CLASSES)
    blind = page.contents(synthetic_run.write(tmp_path / "run", conditional=False))
    assert [strip.name for strip in blind.samples] == [""]


def test_moments_go_from_the_first_step_to_the_last(digits: SavedRun):
    moments = page.contents(digits).moments
    assert (moments[0].step, moments[-1].step) == ("step 0", "step 2,000")
    assert len(moments) == 8


def test_copies_are_counted_against_the_images_held_out(tmp_path: Path):
    """A generator that copies: every sample lies on a training image."""
    run = synthetic_run.write(tmp_path / "run")
    saved.write_pictures(run.folder, {**run.pictures, "distance": np.zeros(240)})
    copied = page.contents(SavedRun.load(run.folder)).copies
    assert copied is not None
    assert "240 of 240 samples (100 %)" in copied.sentences[1]
    honest = page.contents(run).copies
    assert honest is not None
    assert "240 of 240" not in honest.sentences[1]


def test_names_cannot_write_markup(tmp_path: Path):
    run = synthetic_run.write(tmp_path / "run", warnings=(EVIL,), classes=(EVIL, "b"))
    about = saved.read_json(run.folder, saved.ABOUT)
    about["data"]["name"] = EVIL
    about["command"] = EVIL
    saved.write_json(run.folder, saved.ABOUT, about)
    text = page.page(SavedRun.load(run.folder))
    assert "<script" not in text
    assert "{{ 7*7 }}" in text


def test_numbers_that_are_not_finite_leave_a_gap(tmp_path: Path):
    run = synthetic_run.write(tmp_path / "run")
    told = json.loads((run.folder / saved.RUN).read_text())
    told["history"][3]["critic"] = None
    told["measures"]["frechet"] = None
    (run.folder / saved.RUN).write_text(json.dumps(told))
    told = page.contents(SavedRun.load(run.folder))
    assert "Fréchet distance" not in [row.name for row in told.measures]
    assert "nan" not in "".join(drawn.svg for drawn in [*told.progress, *told.game])


@pytest.mark.parametrize("file", ["run.json", "about.json", "pictures.npz", "samples/step-200.npz"])
def test_a_run_that_is_not_whole_is_refused(tmp_path: Path, file: str):
    run = synthetic_run.write(tmp_path / "run")
    whole = (run.folder / file).read_bytes()
    (run.folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=file.rpartition("/")[2]):
        SavedRun.load(run.folder)


def test_a_sheet_holds_its_images_with_clear_gaps():
    x = np.full((5, 2, 2), 7, dtype=np.uint8)
    drawn = figures.sheet(x, 3)
    assert drawn.shape == (5, 8, 4)
    assert drawn[:2, :2, :3].min() == 7
    assert drawn[2, :, 3].max() == 0  # between the rows
    assert drawn[3:, 6:, 3].max() == 0  # where a sixth would stand


def test_points_outside_the_picture_are_counted():
    centres = np.array([[1.0, 0.0], [-1.0, 0.0]])
    x = np.array([[1.0, 0.0], [0.0, 0.9], [3.0, 0.0], [0.0, -9.0]])
    assert charts.beyond(x, centres, 0.1) == 2
    assert len(re.findall("M ", charts.points(x, centres, 0.1, "k"))) >= 2


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(each_run: SavedRun, opened, width: int):
    shown = opened(each_run, width)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(BEYOND, width) == []
    assert shown.told == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_text_is_smaller_than_can_be_read(digits: SavedRun, opened, width: int):
    assert min(opened(digits, width).evaluate(SIZES)) >= 9.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_light_and_dark(digits: SavedRun, opened, scheme: str):
    paper = opened(digits, 1280, scheme).evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 600) == (scheme == "light")


def test_tiny_pictures_are_enlarged_with_hard_edges(digits: SavedRun, opened):
    shown = opened(digits, 1280)
    assert shown.evaluate("getComputedStyle(document.querySelector('.sheets img')).imageRendering") == "pixelated"
    assert shown.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
