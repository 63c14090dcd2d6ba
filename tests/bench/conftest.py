"""What every benchmark shares: two threads, and a book that its figures are written in."""

from collections.abc import Iterator

import pytest
import torch
from record import Book

THREADS = 2
BOOK = pytest.StashKey[Book]()


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def book(pytestconfig: pytest.Config) -> Book:
    return pytestconfig.stash.setdefault(BOOK, Book())


def pytest_terminal_summary(config: pytest.Config) -> None:
    torch.set_num_threads(THREADS)
    config.stash.setdefault(BOOK, Book()).show()
