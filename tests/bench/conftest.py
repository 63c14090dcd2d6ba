"""What every benchmark shares: how many threads and repeats, and a book that its figures are written in."""

from collections.abc import Iterator

import pytest
import torch
from record import Book

BOOK = pytest.StashKey[Book]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=2, help="threads that torch may use (2)")
    parser.addoption("--repeats", type=int, default=15, help="how often each timing is repeated (15)")


@pytest.fixture(autouse=True)
def threads(pytestconfig: pytest.Config) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(pytestconfig.getoption("threads"))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def repeats(pytestconfig: pytest.Config) -> int:
    return pytestconfig.getoption("repeats")


@pytest.fixture
def book(pytestconfig: pytest.Config) -> Book:
    return pytestconfig.stash.setdefault(BOOK, Book())


def pytest_terminal_summary(config: pytest.Config) -> None:
    config.stash.setdefault(BOOK, Book()).show()
