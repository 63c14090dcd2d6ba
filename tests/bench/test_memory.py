"""How much memory an audit and a data set need at their peak; that does not depend on how many examples there are."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from record import Book

FEW, MANY = 1_000, 10_000
TOLERANCE = 1.05
BATCH = 250  # the few are several batches too, so that both runs reach the peak of one batch
SHARED = Path(__file__).parents[3] / "shared" / "data"

MODEL_FILE = f"""
import sys

sys.path.insert(0, {str(Path(networks.__file__).parent)!r})
from networks import tiny_cnn
"""

# The peak is asked of the process itself: what the system tells a parent includes the parent's own size at the fork.
MEASURED = """
import atexit, os, pathlib, runpy, sys

def write_peak(to=sys.argv[1], process=os.getpid()):
    if os.getpid() == process:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        pathlib.Path(to).write_text(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

atexit.register(write_peak)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def npz_file(folder: Path) -> str:
    x, labels = digits()
    np.savez(folder / "digits.npz", x=x, y=labels)
    return str(folder / "digits.npz")


def parquet_file(folder: Path) -> str:
    x, labels = digits()
    pd.DataFrame({"image": [{"bytes": png(each)} for each in x], "label": labels}).to_parquet(folder / "digits.parquet")
    return str(folder / "digits.parquet")


def mnist_test_set(folder: Path) -> str:
    if not (SHARED / "mnist_test.npz").exists():
        pytest.skip("peer: ../shared/data/mnist_test.npz is not there")
    return str(SHARED / "mnist_test.npz")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """x [MANY, 28, 28] uint8 noise and labels [MANY] int64, all of them the class that tiny_cnn is sure of."""
    x = np.random.default_rng(0).integers(0, 256, (MANY, 28, 28), dtype=np.uint8)
    labels = np.zeros(MANY, dtype=np.int64)
    labels[::10] = np.arange(MANY // 10) % 10
    return x, labels


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc/self/status")
@pytest.mark.parametrize("data", [npz_file, parquet_file, mnist_test_set], ids=lambda data: data.__name__)
def test_peak_memory_does_not_grow_with_the_examples(data, tmp_path: Path, benchmark, book: Book):
    spec = data(tmp_path)
    (tmp_path / "model_file.py").write_text(MODEL_FILE)
    model = f"{tmp_path}/model_file.py:tiny_cnn"
    if data is mnist_test_set:
        model = f"{SHARED}/models.py:advertorch_cln"
    few = peak_of_audit(model, spec, FEW, tmp_path)
    many = benchmark.pedantic(peak_of_audit, (model, spec, MANY, tmp_path), rounds=1)
    book.add(
        suite="memory",
        measured=f"peak of advgan audit, fgsm, {data.__name__.replace('_', ' ')}, {MANY} examples",
        unit="MiB",
        repeats=1,
        ours=many,
        reference=few,
        reference_is=f"the same at {FEW} examples",
        ratio=many / few,
        bar=TOLERANCE,
    )
    assert many <= TOLERANCE * few


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc/self/status")
def test_peak_memory_of_a_data_set_does_not_grow_with_it(tmp_path: Path, book: Book):
    (tmp_path / "model_file.py").write_text(MODEL_FILE)
    few, many = (
        peak_of_set(f"{tmp_path}/model_file.py:tiny_cnn", npz_file(tmp_path), n, tmp_path) for n in (FEW, MANY)
    )
    book.add(
        suite="memory",
        measured=f"peak of advgan dataset, fgsm, parquet in shards of {BATCH}, {MANY} examples",
        unit="MiB",
        repeats=1,
        ours=many,
        reference=few,
        reference_is=f"the same at {FEW} examples",
        ratio=many / few,
        bar=TOLERANCE,
    )
    assert many <= TOLERANCE * few


def peak_of_audit(model: str, data: str, examples: int, folder: Path) -> float:
    """MiB."""
    return peak_of("audit", model, data, examples, folder, "--no-curves")


def peak_of_set(model: str, data: str, examples: int, folder: Path) -> float:
    """MiB."""
    return peak_of("dataset", model, data, examples, folder, "--shard", str(BATCH))


def peak_of(word: str, model: str, data: str, examples: int, folder: Path, *more: str) -> float:
    """MiB."""
    command = shutil.which("advgan", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the command advgan is not installed beside this Python: pip install -e .")
    options = ["--model", model, "--data", data, "--threat", "linf:0.1", "--attack", "fgsm", *more]
    options += ["--examples", str(examples), "--batch-size", str(BATCH), "--out", str(folder / f"{word}{examples}")]
    peak = folder / f"peak{examples}"
    subprocess.run([sys.executable, "-c", MEASURED, str(peak), command, word, *options], check=True)
    return int(peak.read_text()) / 1024
