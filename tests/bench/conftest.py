"""What every benchmark shares: how many threads and repeats, and a book that its figures are written in."""

import ctypes
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# Threads that wait must sleep: spinning, they take the processor from whatever else runs and all timings go tenfold.
# OpenMP reads this when torch is first imported, so that nothing may import it above this line.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from record import Book
    from rich.table import Table

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

BOOK = pytest.StashKey["Book"]()
TABLES = pytest.StashKey[list["Table"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=2, help="threads that torch may use (2)")
    parser.addoption("--repeats", type=int, default=15, help="how often each timing is repeated (15)")
    parser.addoption(
        "--seeds", type=int, help="runs of each game on a mixture, from seed 0 (5 of ours, 2 of the others)"
    )


@pytest.fixture(autouse=True)
def threads(pytestconfig: pytest.Config) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(pytestconfig.getoption("threads"))
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def freed_memory_kept() -> None:
    """Freed memory stays with the process, for all contenders alike.

    glibc hands what lies free at the heap's top back to the system, and the next pass faults it in again, page by
    page: nothing or a quarter of a pass's time, by the luck of what lies above it.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)


@pytest.fixture
def repeats(pytestconfig: pytest.Config) -> int:
    return pytestconfig.getoption("repeats")


@pytest.fixture
def book(pytestconfig: pytest.Config) -> "Book":
    from record import Book

    return pytestconfig.stash.setdefault(BOOK, Book())


@pytest.fixture(scope="session")
def tables(pytestconfig: pytest.Config) -> list["Table"]:
    """What is put here is printed at the end."""
    return pytestconfig.stash.setdefault(TABLES, [])


def pytest_terminal_summary(config: pytest.Config) -> None:
    if BOOK in config.stash:
        config.stash[BOOK].show()
    for table in config.stash.get(TABLES, []):
        from rich.console import Console

        Console(width=200).print(table)
