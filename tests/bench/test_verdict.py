"""Does the verdict leave no more rows than AutoAttack, for a hundredth of the passes, and where gradients are hidden?

AutoAttack's runs take hours; they are kept in tests/bench/.cache (`kept.py`) and are not repeated.
"""

from collections.abc import Iterator

import autoattack_peer as peer
import pytest
from beside import Line, Pair, geometric, measured, table
from masking import MASKING
from outside import SHARED
from record import Book
from rich.table import Table

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the peer's own
    pytest.mark.skipif(not SHARED.exists(), reason="the outside weights and images are not here"),
    pytest.mark.skipif(peer.installed() is None, reason=f"{peer.PEER} is not installed (extra: bench)"),
]

GROUND_TRUTH = Pair("kw_mnist_01", "linf:0.1", twin=500, certify=1000)
PAIRS = [  # as many rows as one core can put AutoAttack to in some hours
    GROUND_TRUTH,
    Pair("kw_mnist_01", "linf:0.15"),
    Pair("kw_mnist_01", "l2:1.5"),
    Pair("kw_mnist_01", "l1:8"),
    Pair("resnet2b", "linf:2/255", twin=500, certify=100),
    Pair("resnet2b", "linf:12/255"),
    Pair("resnet2b", "l2:0.25"),
    Pair("resnet2b", "l1:3"),
    Pair("advertorch_cln", "linf:0.1", 500),
    Pair("advertorch_cln", "linf:0.2"),
    Pair("advertorch_cln", "l2:1.5", 500),
    Pair("advertorch_adv", "linf:0.3", 500),
    Pair("ddn_mnist", "linf:0.2", 500),
    Pair("ddn_mnist", "l2:1.5", 500),
    Pair("resnet20", "linf:1/255", 500),
    Pair("resnet20", "linf:1/1020", 250),
    Pair("resnet20", "l2:0.05", 250),
    Pair("resnet32", "linf:1/1020", 250),
    *(Pair(name, each.threat, 1000 if each.passes == 1 else 250) for name, each in MASKING.items()),
]
MANY = 0.2  # of the rows, left by AutoAttack
FEWER = (100, 30)  # times, forwards and gradients: the mean where many are left
LEAST_FEWER = (20, 10)  # on any such pair
FEWER_WHERE_FEW = (10, 10)
FEWER_WHERE_MASKED = (3, 3)
DOUBTED = 0.5  # of the rows left standing


class Lines(dict[Pair, Line]):
    """Each pair is measured when it is first asked for."""

    def __missing__(self, pair: Pair) -> Line:
        self[pair] = measured(pair)
        return self[pair]

    def all(self, masks: bool) -> list[Line]:
        return [self[pair] for pair in PAIRS if pair.masks == masks]


@pytest.fixture(scope="module")
def lines(tables: list[Table]) -> Iterator[Lines]:
    found = Lines()
    yield found
    tables.append(table(list(found.values())))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_what_autoattack_and_the_verdict_leave(pair: Pair, lines: Lines, book: Book):
    line = lines[pair]
    _write_down(line, book)
    if line.twin is not None:
        differing = line.twin.robust != line.published.robust[: pair.twin]
        assert differing.sum() <= max(1, pair.twin // 500)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_verdict_leaves_at_most_one_row_in_a_thousand_beyond_autoattack(pair: Pair, lines: Lines):
    assert _more(lines[pair]) <= max(1, pair.rows // 1000)


def test_the_verdict_leaves_no_more_rows_in_all_and_fewer_where_gradients_are_hidden(lines: Lines):
    more = {masks: sum(_more(line) for line in lines.all(masks)) for masks in (False, True)}
    assert sum(more.values()) <= 0
    assert more[True] < 0


def _more(line: Line) -> int:
    return int(line.verdict.robust.sum()) - int(line.published.robust.sum())


def test_the_verdict_takes_a_hundredth_of_the_passes_where_many_rows_are_left(lines: Lines):
    ratios = [line.fewer for line in lines.all(masks=False) if line.published.robust.mean() >= MANY]
    forwards, gradients = (list(each) for each in zip(*ratios, strict=True))
    assert min(forwards) >= LEAST_FEWER[0]
    assert min(gradients) >= LEAST_FEWER[1]
    assert geometric(forwards) >= FEWER[0]
    assert geometric(gradients) >= FEWER[1]


def test_the_verdict_takes_a_tenth_of_the_passes_where_few_rows_are_left(lines: Lines):
    few = [line for line in lines.all(masks=False) if line.published.robust.mean() < MANY]
    assert all(_at_least(line.fewer, FEWER_WHERE_FEW) for line in few)


def test_the_verdict_takes_a_third_of_the_passes_where_gradients_are_hidden(lines: Lines):
    assert all(_at_least(line.fewer, FEWER_WHERE_MASKED) for line in lines.all(masks=True))


def _at_least(ratios: tuple[float, float], bars: tuple[int, int]) -> bool:
    return all(ratio >= bar for ratio, bar in zip(ratios, bars, strict=True))


@pytest.mark.parametrize("name", MASKING)
def test_the_verdict_leaves_half_a_point_more_than_the_whole_catalogue_at_most(name: str, lines: Lines):
    line = next(lines[pair] for pair in PAIRS if pair.model == name)
    assert line.everything is not None
    assert line.verdict.robust[: len(line.everything)].mean() <= line.everything.mean() + 0.005


def test_the_verdict_finds_on_the_provable_net_what_is_to_be_found_for_75_and_60_passes(lines: Lines):
    verdict = lines[GROUND_TRUTH].verdict
    assert verdict.robust[:500].sum() <= 478  # the README of the outside models
    assert verdict.forwards <= 75
    assert verdict.backwards <= 60


@pytest.mark.parametrize("name", MASKING)
def test_what_the_verdict_leaves_of_models_that_hide_their_gradients_is_doubted(name: str, lines: Lines):
    line = next(lines[pair] for pair in PAIRS if pair.model == name)
    assert line.doubted is None or line.doubted >= DOUBTED


def test_no_certified_row_is_broken(lines: Lines):
    for line in (lines[pair] for pair in PAIRS if pair.certify):
        assert line.certified is not None
        left = line.published.robust & line.verdict.robust
        assert not (line.certified & ~left[: len(line.certified)]).any()


def _write_down(line: Line, book: Book) -> None:
    pair, published, verdict = line.pair, line.published, line.verdict
    parts = [f"clean {published.clean.mean():.2%}", f"left by AutoAttack {published.robust.mean():.2%}"]
    parts += [
        f"gradients a row {published.backwards:.0f} (AutoAttack)",
        f"seconds {published.seconds:.0f} (AutoAttack)",
    ]
    if line.twin is not None:
        parts += [f"left by ours {line.twin.robust.mean():.2%} of {pair.twin}"]
    if line.certified is not None:
        parts += [f"certified {line.certified.mean():.2%} of {pair.certify}"]
    if line.everything is not None:
        parts += [f"left by the whole catalogue {line.everything.mean():.2%} of {len(line.everything)}"]
    parts += [f"left by the verdict {verdict.robust.mean():.2%}, {line.beyond} rows beyond AutoAttack"]
    parts += [f"gradients {verdict.backwards:.1f}, {line.fewer[1]:.1f} times fewer", f"seconds {verdict.seconds:.1f}"]
    if line.doubted is not None:
        parts += [f"doubted {line.doubted:.0%} of those left"]
    book.add(
        suite="verdict",
        measured=f"{pair}, {pair.rows} rows" + (", masks its gradients" if pair.masks else ""),
        unit="forwards a row",
        repeats=1,
        ours=verdict.forwards,
        reference=published.forwards,
        reference_is=f"AutoAttack's, {peer.PEER} {peer.installed()}",
        ratio=line.fewer[0],
        note="; ".join(parts),
    )
