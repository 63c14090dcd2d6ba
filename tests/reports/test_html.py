"""Does the page say what the audit found, and can it be read, by anyone, at any width?"""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from reports import figures, summary, words
from reports.pages import base
from reports.pages.audit import belief
from reports.pages.audit import page as html
from reports.record import Audit
from tests.reports import synthetic
from tests.reports.looks import BEYOND, SIZES

EVIL = "<script>alert('x')</script>&\"{{ 7*7 }}"
CASES = {
    "usual": {},
    "one of each": {"models": ("net",), "threats": ("linf:8/255",), "attacks": ("apgd",)},
    "many": {
        "models": ("resnet50", "wide_resnet_34_10_trades_awp_extra_data", "vit"),
        "threats": ("linf:2/255", "linf:4/255", "linf:8/255", "l2:0.5", "l1:12"),
        "attacks": tuple(synthetic.KINDS),
        "found": {"pgd": 0.5, "apgd": 0.6, "apgd_t": 0.5, "square": 1.0},
        "endless": 0.05,
    },
    "a verdict": {"attacks": ("fgsm", "verdict"), "doubted": 0.1, "certify": 40},
    "a thousand classes": {"classes": [f"a class with a long name, {k}" for k in range(1000)], "models": ("net",)},
    "colour": {"shape": (3, 12, 12)},
    "no channel": {"shape": (9, 7)},
    "tabular": {"shape": (13,), "classes": ["no", "yes"]},
    "no curves": {"curves": False},
    "nothing broken": {"strength": 0.0},
    "everything broken": {"strength": np.inf},
    "other norms": {"threats": ("l1:12", "l0:5")},
    "one example": {"n": 1},
    "only noise": {"attacks": ("uniform_noise", "gaussian_noise")},
    "hostile names": {"models": (EVIL, "m" * 120), "classes": [EVIL + str(k) for k in range(10)]},
}


@pytest.fixture(scope="module", params=CASES)
def audit(request, tmp_path_factory) -> Audit:
    return synthetic.write(tmp_path_factory.mktemp("audits") / "audit", **{"n": 130, **CASES[request.param]})


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Audit:
    return synthetic.write(tmp_path_factory.mktemp("audits") / "audit", n=130)


def written(tmp_path: Path, **changed) -> Audit:
    return synthetic.write(tmp_path / "audit", **{"n": 130, "models": ("m",), **changed})


def saved(audit: Audit) -> str:
    return (audit.folder / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Every tag that is opened, what is asked of other places, and the order of headings."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# What stands on the page


def test_the_questions_are_answered_in_their_order(usual):
    page = html.page(usual)
    places = [page.index(f'<section id="{name}"') for name in ORDER]
    assert places == sorted(places)


ORDER = ("robust", "attacks", "eps", "classes", "examples", "noise", "cost", "doubts", "setup")


def test_the_headline_is_the_worst_of_all(usual):
    worst = min((t["robust"], name) for name, m in usual.about["models"].items() for t in m["threats"].values())
    title = html.contents(usual).headline.title
    assert worst[1] in title
    assert f"{worst[0]} of 130 images" in title or "none of 130 images" in title


def test_every_share_on_the_page_has_its_count(audit):
    contents = html.contents(audit)
    shares = [standing.share for model in contents.robustness for standing in model.standings]
    shares += [cell.share for table in contents.attacks for row in table.rows for cell in row.cells]
    shares += [row.clean for table in contents.classes for row in table.rows]
    assert all(re.fullmatch(r"[\d,]+ of [\d,]+", share.count) for share in shares)
    assert all(share.percent not in ("0 %", "100 %") or share.fraction in (0, 1) for share in shares)


def test_the_numbers_are_those_of_the_audit(audit):
    for model in html.contents(audit).robustness:
        told = audit.about["models"][model.model]
        clean, *threats = model.standings
        assert clean.share.fraction == told["clean_accuracy"]
        found = [standing.share.fraction for standing in threats if standing.kind == "threat"]
        assert found == [threat["robust_accuracy"] for threat in told["threats"].values()]
        joint = [standing.share.fraction for standing in threats if standing.kind == "all"]
        assert joint in ([], [told["robust_to_all"]["robust_accuracy"]])


def test_with_a_thousand_classes_the_worst_fifteen_are_shown_and_it_is_said(tmp_path):
    audit = written(tmp_path, **CASES["a thousand classes"])
    (table,) = html.contents(audit).classes
    assert len(table.rows) == 15
    assert re.match(r"The 15 least robust of \d+ classes", table.note)
    shown = [row.to_all.fraction or 0.0 for row in table.rows]
    assert shown == sorted(shown)


def test_inputs_that_are_not_images_have_no_pictures_and_it_is_said(tmp_path):
    contents = html.contents(written(tmp_path, shape=(13,)))
    assert contents.gallery == []
    assert "not images (shape 13)" in contents.gallery_note
    assert "input" in contents.headline.title
    assert "image" not in contents.headline.title


def test_where_nothing_broke_the_page_says_so(tmp_path):
    contents = html.contents(written(tmp_path, strength=0.0))
    assert contents.gallery_note == "No example was broken, so there is none to show."
    assert "No attack broke any of those" in contents.headline.detail[0]


def test_without_curves_the_page_says_so(tmp_path):
    assert "run without curves" in html.page(written(tmp_path, curves=False))


def test_noise_is_compared_with_the_strongest_attack(usual):
    for table in html.contents(usual).noise:
        sweeps = summary.sweeps(usual.rows)[table.model]
        for row, sweep in zip(table.rows, sweeps.values(), strict=True):
            assert row.noise == "uniform_noise"
            assert row.attack == sweep.attacks[sweep.strongest]
            assert row.by_attack.fraction == sweep.broken[sweep.strongest].sum() / sweep.correct.sum()


def test_the_page_says_how_far_noise_must_go(usual):
    rows = html.contents(usual).far
    assert len(rows) == len(usual.about["models"]) * len(
        {words.split(t)[0] for t in usual.about["configuration"]["threats"]}
    )
    assert {(row.attack, row.noise, row.times) for row in rows} == {("0.51", "3.06", "6 times as far")}
    assert {row.crossed.count for row in rows} == {"117 of 124"}
    assert html.page(usual).count("31 examples, 3,718 forwards") == len(rows)


def test_without_a_noise_baseline_the_page_says_so(tmp_path):
    assert "takes a noise baseline and an attack" in html.page(written(tmp_path, attacks=("apgd",)))


def test_an_attack_that_alone_broke_something_is_credited(tmp_path):
    (table,) = html.contents(written(tmp_path, found={"square": 1.0, "pgd": 0.5, "apgd": 0.5, "fgsm": 0.5})).attacks
    assert any(cell.alone > 0 for row in table.rows if row.attack == "square" for cell in row.cells)


def test_doubts_about_several_threats_are_said_once(usual):
    same = [{"model": "standard", "threat": t, "severity": "note", "text": "So."} for t in ("linf:0.1", "l2:0.5")]
    assert belief.doubts(same) == [base.Doubt("note", ["standard · L∞ ≤ 0.1", "standard · L2 ≤ 0.5"], "So.")]


def test_the_page_holds_no_seconds_and_no_date(usual):
    text = re.sub(r"data:image[^\"]*|<svg.*?</svg>", "", html.page(usual), flags=re.DOTALL)
    assert not re.search(r"\d\s*(s|sec|seconds)\b|20\d\d-\d\d|\d\d:\d\d:\d\d", text)


def test_the_same_audit_gives_the_same_page(usual):
    assert html.page(usual) == html.page(usual) == saved(usual)


def test_the_page_does_not_depend_on_where_it_lies(usual, tmp_path):
    synthetic.write(tmp_path / "elsewhere", n=130)
    assert (tmp_path / "elsewhere/report.html").read_bytes() == (usual.folder / "report.html").read_bytes()


def test_a_command_line_audit_shows_its_command_quoted():
    from reports import reproduce

    about = {
        "configuration": {
            "models": {"a": "my nets.py:make", "b": "my nets.py:make"},
            "data": "x; rm -rf y.npz",
            "weights": None,
            "threats": ["linf:8/255"],
            "attacks": {"pgd": {"class": "PGD"}, "pgd:steps=7": {"class": "PGD"}},
            "examples": 10,
            "curves": False,
            "seed": 3,
            "device": "cpu",
            "batch_size": 64,
        }
    }
    command = reproduce.command(about)
    assert command is not None
    assert command.count("--model") == 1
    assert "'my nets.py:make'" in command
    assert "--data 'x; rm -rf y.npz'" in command
    assert "--attack pgd:steps=7" in command
    assert "--no-curves" in command
    assert "--seed 3" in command


def test_options_that_differ_from_the_defaults_are_in_the_command():
    from reports import options, reproduce

    for text in ("pgd", "pgd:steps=7", "square:queries=123", "verdict", "verdict:effort=exhaustive"):
        described = options.described(options.attack_from_text(text))
        assert reproduce.attack_text(text.partition(":")[0], described) == text


def test_the_doubtful_is_marked_beside_its_number(tmp_path):
    audit = written(tmp_path, attacks=("fgsm", "pgd", "verdict"), doubted=0.1)
    threats = audit.about["models"]["m"]["threats"]
    warned = [t for t in threats if any(d["threat"] == t and d["severity"] == "warning" for d in audit.about["doubts"])]
    assert len(warned) > 0
    (model,) = html.contents(audit).robustness
    marked = [standing.label for standing in model.standings if standing.doubtful]
    assert marked == [*(words.threat(threat) for threat in warned), f"all {len(threats)} threats"]
    assert saved(audit).count('href="#doubts">doubtful</a></small>') == len(marked)


def test_where_no_warning_concerns_it_nothing_is_marked(tmp_path):
    audit = written(tmp_path, attacks=("fgsm", "pgd", "verdict"), curves=False)
    assert [doubt for doubt in audit.about["doubts"] if doubt["severity"] != "note"] == []
    assert "doubtful" not in re.sub(r"<style>.*?</style>", "", saved(audit), flags=re.DOTALL).replace("with doubts", "")
    assert html.contents(audit).headline.doubtful == ""


def test_the_bracket_stands_beside_the_threat_and_its_ends_are_of_the_same_examples(tmp_path):
    audit = written(tmp_path, attacks=("fgsm", "verdict"), certify=40, threats=("linf:0.02", "linf:0.1"))
    (model,) = html.contents(audit).robustness
    for standing, told in zip(model.standings[1:], audit.about["models"]["m"]["threats"].values(), strict=False):
        low, high = told["bracket"]["certified"]["count"], told["bracket"]["attacked"]["count"]
        assert 0 <= low < high <= 40
        assert standing.bracket is not None
        assert standing.bracket[0] == f"[{words.percent(low, 40)}, {words.percent(high, 40)}]"
        assert standing.bracket[1] == f"{low} and {high} of the first 40"
        assert standing.bracket[0] in saved(audit).replace("\N{NO-BREAK SPACE}", " ")


def test_the_verdict_says_where_examples_fell_and_how_final_that_is(tmp_path):
    audit = written(tmp_path, attacks=("fgsm", "verdict"), threats=("linf:0.02", "linf:0.1"))
    (table,) = html.contents(audit).belief
    assert table.attack == "verdict, effort standard"
    assert all([name for name, _ in row.stages] == ["clean", "look", "rounds"] for row in table.rows)
    assert all(row.final.startswith("The last half of the passes that standing examples got") for row in table.rows)


def test_without_a_verdict_there_is_no_table_about_one(usual):
    assert html.contents(usual).belief == []
    assert [table.spread for table in html.contents(usual).cost] == [None, None]


# How it is made


def test_names_of_models_and_classes_are_escaped(tmp_path):
    page = html.page(synthetic.write(tmp_path / "audit", n=60, **CASES["hostile names"]))
    assert "<script" not in page
    assert "{{ 7*7 }}" in page
    assert "&lt;script&gt;" in page


def test_the_page_asks_nothing_of_other_places(audit):
    page = saved(audit)
    reader = Reader(page)
    asked = [tag.get(name) or "" for _, tag in reader.tags for name in ("src", "href", "xlink:href", "data", "action")]
    assert all(address.startswith(("", "data:", "#")) for address in asked if address)
    assert not [address for address in asked if address and not address.startswith(("data:", "#"))]
    assert "http" not in re.sub(r"data:image[^\"]*", "", page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert not reader.all("script")
    assert not reader.all("iframe")


def test_every_id_on_the_page_is_there_once(audit):
    ids = [attributes["id"] for _, attributes in Reader(saved(audit)).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_picture_has_words_and_every_heading_cell_a_scope(audit):
    reader = Reader(saved(audit))
    assert all(image.get("alt") for image in reader.all("img"))
    assert all(cell.get("scope") in ("row", "col") for cell in reader.all("th"))
    assert all(chart.get("aria-label") for chart in reader.all("div") if chart.get("role") == "img")


def test_an_example_is_drawn_as_it_is():
    import matplotlib.image

    for image in (np.arange(6, dtype=np.uint8).reshape(2, 3) * 50, np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14):
        data = base64.b64decode(figures.png(image).partition(",")[2])
        read = np.round(matplotlib.image.imread(io.BytesIO(data), format="png") * 255)
        assert np.array_equal(read[..., :3] if image.ndim == 3 else read, image)


def test_the_amplified_perturbation_is_never_cut():
    random = np.random.default_rng(0)
    for size in (1e-4, 8 / 255, 0.3, 1.0):
        x = np.full((1, 4, 4), 0.5, np.float32)
        x_adv = x + size * random.uniform(-0.5, 0.5, x.shape)
        change, factor = figures.amplified(x, x_adv)
        assert change.min() >= -1e-9
        assert change.max() <= 1 + 1e-9
        assert np.abs(change - 0.5).max() > 0.4
        assert np.allclose((change - 0.5) / factor, x_adv - x)


def test_no_perturbation_is_plain_grey():
    change, factor = figures.amplified(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)))
    assert factor == 1
    assert (change == 0.5).all()


def test_a_chart_of_many_points_stays_small():
    size = np.random.default_rng(0).lognormal(0, 1, 50_000)
    curve = summary.Curve("m", "l2", "fmn", np.arange(len(size)), np.ones(len(size), bool), size, 1.0, 1.0)
    assert len(figures.curve_chart([(0, curve)], [], "c")) < 60_000


def test_a_chart_can_be_drawn_where_nothing_was_found():
    curve = summary.Curve("m", "l2", "fmn", np.arange(3), np.ones(3, bool), np.full(3, np.inf), 1.0, 1.0)
    assert figures.curve_chart([(0, curve)], [], "c").startswith("<svg")


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(dark):
    style = (base.TEMPLATES / "style.css").read_text()
    light_block, dark_block, _ = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", light_block))
    colours |= dict(re.findall(r"--([\w-]+): (#\w{6})", dark_block)) if dark else {}
    pairs = [("ink", "paper"), ("muted", "paper"), ("muted", "raised"), ("warn", "warn-paper"), ("muted", "note-paper")]
    pairs += [("muted", "warn-paper"), ("warn", "paper")]
    assert all(_contrast(colours[front], colours[back]) >= 4.5 for front, back in pairs)
    lines = [(f"series-{k}", "paper") for k in range(1, 7)] + [("robust", "track"), ("broken", "track")]
    assert all(_contrast(colours[front], colours[back]) >= 3 for front, back in lines)


def _contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# In a browser


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(audit, opened, width):
    page = opened(audit, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BEYOND, width) == []
    assert page.told == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_text_is_smaller_than_can_be_read(usual, opened, width):
    sizes = opened(usual, width).evaluate(SIZES)
    assert min(sizes) >= 9.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_light_and_dark(usual, opened, scheme):
    page = opened(usual, 1280, scheme)
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
    brightness = {name: sum(map(int, re.findall(r"\d+", text)[:3])) for name, text in (("paper", paper), ("ink", ink))}
    assert (brightness["paper"] > 600) == (scheme == "light")
    assert abs(brightness["paper"] - brightness["ink"]) > 250


def test_tiny_pictures_are_enlarged_with_hard_edges(usual, opened):
    page = opened(usual, 1280)
    assert page.evaluate("getComputedStyle(document.querySelector('.strip img')).imageRendering") == "pixelated"
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth === 8)")


def test_every_link_of_the_contents_leads_somewhere(usual, opened):
    broken = (
        "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.getAttribute('href'))).length"
    )
    assert opened(usual, 1280).evaluate(broken) == 0


def test_the_picture_of_the_page_is_not_blank(usual, opened):
    import matplotlib.image

    pixels = matplotlib.image.imread(io.BytesIO(opened(usual, 1280).screenshot()), format="png")
    assert pixels.std() > 0.05
