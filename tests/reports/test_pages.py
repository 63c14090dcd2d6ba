"""Can each page be read: by anyone, with any names in it, at any width, on paper, and without anything else?"""

import io
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from reports import figures, zoo
from reports.comparing import changes
from reports.comparing import page as comparison_page
from reports.probing import job
from reports.probing.asked import Asked
from reports.sources.data import from_arrays
from tests.reports import looks, small_perturber, synthetic, synthetic_run

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>&\"'{{ 7*7 }}"
NAMES = (EVIL, *(f"class {k} of a name that is long" for k in range(9)))


class Written(NamedTuple):
    folder: Path


def audit(folder: Path) -> None:
    doubtful = {"attacks": ("uniform_noise", "fgsm", "pgd", "verdict"), "doubted": 0.1, "certify": 40}
    synthetic.write(folder, n=130, models=("net", EVIL), classes=list(NAMES), **doubtful)


def run_of_images(folder: Path) -> None:
    synthetic_run.write(folder, shape=(3, 12, 12), classes=NAMES, warnings=(EVIL,))


def run_of_points(folder: Path) -> None:
    synthetic_run.write_points(folder)


def comparison(folder: Path) -> None:
    names = {"n": 130, "models": ("net", EVIL), "classes": list(NAMES)}
    a = synthetic.write(folder.parent / f"{folder.name}-{EVIL.replace('/', '')[:60]}", **names)
    weaker = {"pgd": 0.7, "apgd": 0.7, "square": 0.6}
    b = synthetic.write(folder.parent / f"{folder.name}-b", accuracy=0.9, found=weaker, attacks=tuple(weaker), **names)
    folder.mkdir()
    (folder / "report.html").write_text(comparison_page.page(changes.compare(a, b)), encoding="utf-8")


def probe(folder: Path) -> None:
    x, y = (part[:30].numpy() for part in zoo.held_out())
    data = from_arrays(x, y, classes=list(NAMES))
    asked = Asked("l2:1.0", draws=2, side=40, walk=120)
    job.probe({EVIL: zoo.load()["digits_robust"]}, data, asked, folder, examples=30)


def universal_perturber(folder: Path) -> None:
    small_perturber.write(folder, "--universal", "--target", "3", classes=NAMES, victim=EVIL, warning=EVIL)


def perturber_per_class(folder: Path) -> None:
    small_perturber.write(folder, "--per-class", "--gan-weight", "0", classes=NAMES, victim=EVIL)


def perturber_of_vectors(folder: Path) -> None:
    small_perturber.write(folder, "--network", "features", "--layer", "1", classes=NAMES, victim=EVIL, shape=(30,))


PAGES: dict[str, Callable[[Path], None]] = {  # each writes report.html into a folder that is not there yet
    "audit": audit,
    "run of images": run_of_images,
    "run of points": run_of_points,
    "comparison": comparison,
    "probe": probe,
    "universal perturber": universal_perturber,
    "perturber for each class": perturber_per_class,
    "perturber of vectors": perturber_of_vectors,
}


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("pages") / "page"
    PAGES[request.param](folder)
    return Written(folder)


def text_of(page: Written) -> str:
    return (page.folder / "report.html").read_text(encoding="utf-8")


# Without a browser


def test_a_page_needs_nothing_but_itself(page: Written):
    text = text_of(page)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert not re.findall(r"<(?:script|link(?! rel=\"icon\")|iframe)\b|url\((?!#)|@import", text)


def test_ids_stand_once_and_every_link_leads_to_one(page: Written):
    ids = re.findall(r'\bid="([^"]+)"', text_of(page))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text_of(page))) <= set(ids)


def test_each_section_stands_in_the_contents_in_its_order(page: Written):
    contents = re.search(r"<nav.*?</nav>", text_of(page), re.DOTALL)
    assert contents is not None
    sections = re.findall(r'<section id="([^"]+)"', text_of(page))
    assert re.findall(r'href="#([^"]+)"', contents[0]) == sections
    assert len(sections) >= 5


# In a browser


def test_names_stay_text(page: Written, opened):
    shown = opened(page, 1280)
    assert shown.evaluate("document.querySelectorAll('script, img[onerror], img[src=x]').length") == 0
    assert shown.told == []


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_asked_for_nothing_complained_about_and_nothing_sticks_out(page: Written, opened, width: int):
    shown = opened(page, width)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(looks.BEYOND, width) == []
    assert shown.told == []


@pytest.mark.parametrize("width", [390, 1280])
def test_what_scrolls_by_itself_can_be_reached_with_the_keyboard(page: Written, opened, width: int):
    assert opened(page, width).evaluate(looks.UNREACHED) == []


def test_the_keyboard_goes_through_all_that_can_be_used_and_it_is_seen_where_it_is(page: Written, opened):
    shown = opened(page, 1280)
    expected = shown.evaluate(looks.USED)
    reached = []
    for _ in range(expected):
        shown.keyboard.press("Tab")
        reached.append(shown.evaluate(looks.FOCUSED))
    assert len({place for place, _ in reached}) == expected
    assert all(seen for _, seen in reached)


def test_pictures_are_there_and_in_words(page: Written, opened):
    shown = opened(page, 1280)
    assert shown.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt.trim())")
    assert shown.evaluate(looks.SILENT) == []


def test_tables_say_what_their_rows_and_columns_are(page: Written, opened):
    shown = opened(page, 1280)
    assert shown.evaluate("document.querySelectorAll('main table, main dl').length") >= 2
    assert shown.evaluate(looks.HEADLESS) == []


def test_headings_go_down_one_step_at_a_time(page: Written, opened):
    levels = opened(page, 1280).evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_all_text_has_the_contrast_of_wcag_aa(page: Written, opened, width: int, scheme: str):
    assert opened(page, width, scheme).evaluate(looks.FAINT) == []


BAD = """<main style="background: #fff"><p style="color: #888">faint</p><svg><text>1</text></svg>
<table><thead><tr><th>no scope</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>
<div style="overflow-x: auto; width: 50px"><div style="width: 90px">wide</div></div>
<details><summary>folded</summary><p>away</p></details></main>"""


def test_each_look_finds_what_it_looks_for(opened, tmp_path: Path):
    (tmp_path / "report.html").write_text(f"<!doctype html><body>{BAD}</body>")
    shown = opened(Written(tmp_path), 390)
    for look in (looks.UNREACHED, looks.SILENT, looks.HEADLESS, looks.FAINT):
        assert len(shown.evaluate(look)) == 1
    shown.evaluate("document.querySelector('details').open = false")
    assert len(shown.evaluate(looks.HIDDEN_ON_PAPER)) == 2
    assert shown.evaluate(looks.USED) == 1
    assert shown.evaluate(looks.FOCUSED)[1] is False


def test_on_paper_nothing_is_cut_off_or_folded(page: Written, opened):
    shown = opened(page, 794)  # A4
    shown.emulate_media(media="print")
    assert shown.evaluate("document.documentElement.scrollWidth") <= 794
    assert shown.evaluate(looks.HIDDEN_ON_PAPER) == []
    assert len(shown.pdf(format="A4")) > 20_000


# How large


def test_an_audit_of_a_thousand_examples_is_under_eight_megabytes(tmp_path: Path):
    threats = ("linf:2/255", "linf:4/255", "linf:8/255", "l2:0.5")
    done = synthetic.write(tmp_path / "audit", n=1000, shape=(3, 32, 32), threats=threats, gallery=6)
    assert (done.folder / "report.html").stat().st_size < 8e6


def test_large_pictures_are_reduced_so_that_many_of_them_stay_small():
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert 72 * len(figures.png(figures.reduced(noise))) < 7e6
    assert figures.reduced(noise).shape == (112, 112, 3)
    assert np.array_equal(figures.reduced(noise[:150, :40]), noise[:150, :40])
    assert np.array_equal(figures.reduced(np.full((301, 20), 7, np.uint8)), np.full((100, 6), 7))


def test_the_picture_of_a_page_is_not_blank(page: Written, opened):
    import matplotlib.image

    pixels = matplotlib.image.imread(io.BytesIO(opened(page, 1280).screenshot()), format="png")
    assert pixels.std() > 0.05
