"""Whether the examples run as they stand, and say what they are there to say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAID = {
    "adversarial_training.py": "after round-3",
    "audit_my_model.py": "report.html",
    "attack_in_evaluation_loop.py": "right on clean inputs",
    "write_an_attack.py": "cosine ascent",
}


def test_every_example_is_tested():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs_in_an_empty_folder(name: str, tmp_path: Path):
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert SAID[name] in ended.stdout


@pytest.mark.parametrize("name", SAID)
def test_an_example_is_short(name: str):
    assert len((ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()) < 60
