"""What may go wrong under an audit: nothing is lost, nothing is wrong, and it is said what is to be done."""

import errno
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advgan import checkpoint
from attacks.errors import InputError
from reports import memory, unfinished
from reports.audit import audit
from reports.engines import Local
from reports.record import Audit
from reports.resume import locked
from reports.unfinished import kept, place_of
from tests.reports import toy
from tests.reports.toy import contents


def run(out: Path, model: nn.Module | None = None, **options: Any) -> Audit:
    asked: dict[str, Any] = {"threats": ["linf:0.05"], "attacks": ["pgd:steps=3"], "curves": False, "shard": 8}
    asked |= options
    return audit({"toy": model or toy.model()}, toy.data(), out=out, **asked)


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    run(tmp_path / "whole")
    return contents(tmp_path / "whole")


class StopsError(Exception):
    pass


def stopped(out: Path, shards: int = 3, **options: Any) -> None:
    """An audit that ends after so many shards."""

    class Stopping(Local):
        def run(self, job: Any, here: Any, todo: Any, done: Any) -> None:
            super().run(job, here, todo[:shards], done)
            raise StopsError

    with pytest.raises(StopsError):
        run(out, engine=Stopping(), **options)
    assert kept(out) == shards


# -- going on --


def test_going_on_does_nothing_again_and_ends_with_the_same_bytes(tmp_path: Path, whole: dict[str, bytes]):
    stopped(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in place_of(tmp_path / "out").glob("*/shard-*")}
    told: list[tuple[int, int, str]] = []
    done: list[int] = []

    class Watched(Local):
        def run(self, job: Any, here: Any, todo: Any, done_: Any) -> None:
            done.extend(span.number for span in todo)
            assert {path: path.stat().st_mtime_ns for path in before} == before
            super().run(job, here, todo, done_)

    run(tmp_path / "out", engine=Watched(), progress=lambda *a: told.append(a))
    assert done == [3, 4]
    assert told[0] == (24, 40, "3 of 5 shards are there")
    assert told[-1][:2] == (40, 40)
    assert contents(tmp_path / "out") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_an_audit_that_is_there_as_asked_is_left_and_returned(tmp_path: Path):
    first = run(tmp_path / "out")
    before = (tmp_path / "out/timings.parquet").read_bytes()
    again = run(tmp_path / "out", shard=3, batch_size=2)
    assert again.about == first.about
    assert (tmp_path / "out/timings.parquet").read_bytes() == before


def test_an_audit_of_other_data_of_the_same_name_is_not_taken_for_it(tmp_path: Path):
    run(tmp_path / "out")
    with pytest.raises(InputError, match=r"data\.n: 40 there, 39 asked"):
        run(tmp_path / "out", examples=39)
    x, y = (np.concatenate(parts) for parts in zip(*toy.data().read(40, 40), strict=True))
    from reports.sources.data import from_arrays

    other = from_arrays(x[::-1].copy(), y[::-1].copy(), name="toy")
    with pytest.raises(InputError, match=r"data\.sha256"):
        audit({"toy": toy.model()}, other, ["linf:0.05"], ["pgd:steps=3"], tmp_path / "out", curves=False)


def test_what_was_begun_otherwise_is_refused_with_the_difference(tmp_path: Path, whole: dict[str, bytes]):
    stopped(tmp_path / "out", seed=1)
    with pytest.raises(InputError, match=r"configuration.seed: 1 there, 0 asked[\s\S]*3 finished shards are kept"):
        run(tmp_path / "out")
    assert kept(tmp_path / "out") == 3
    run(tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("harm", ["truncated", "one bit flipped", "gone", "receipt cut short"])
def test_a_damaged_shard_is_found_and_done_again(tmp_path: Path, whole: dict[str, bytes], harm: str):
    stopped(tmp_path / "out")
    path = next(place_of(tmp_path / "out").glob("*/shard-00001.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    {
        "truncated": lambda: path.write_bytes(path.read_bytes()[:-9]),
        "one bit flipped": lambda: path.write_bytes(content),
        "gone": path.unlink,
        "receipt cut short": lambda: path.with_suffix(".json").write_text('{"sha256": "'),
    }[harm]()
    told: list[str] = []
    run(tmp_path / "out", progress=lambda done, total, what: told.append(what))
    assert told[0] == "2 of 5 shards are there"
    assert contents(tmp_path / "out") == whole


def test_the_clock_set_back_changes_nothing(tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    stopped(tmp_path / "out")
    for path in place_of(tmp_path / "out").rglob("*"):
        os.utime(path, (4e9, 4e9))
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 1e8)
    run(tmp_path / "out")
    assert contents(tmp_path / "out") == whole


# -- one folder --


def test_a_second_audit_on_one_folder_is_refused(tmp_path: Path, whole: dict[str, bytes]):
    with locked(place_of(tmp_path / "out"), "it"), pytest.raises(InputError, match=f"another process .*{os.getpid()}"):
        run(tmp_path / "out")
    (place_of(tmp_path / "out") / "lock").write_text("process 1 on a machine that died\n")  # nobody holds it
    run(tmp_path / "out")
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=f"cannot be written .{os.strerror(code)}.*--out"):
        run(tmp_path / "deep/out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0, 2, 5])
def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, after: int
):
    real, shards = checkpoint.write, []

    def fills_up(path: Path, content: bytes) -> None:
        shards.append(path) if path.suffix == ".parquet" else None
        if len(shards) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(unfinished, "write", fills_up)
        if after == 5:  # all shards, and then no room for the audit
            patch.setattr("reports.spool._append", lambda *_: fills_up(Path("x.parquet"), b""))
        with pytest.raises(InputError, match="disk is full") as caught:
            run(tmp_path / "out")
    assert ("Nothing of it was left behind" in str(caught.value)) == (after == 0)
    assert kept(tmp_path / "out") == after
    assert not (tmp_path / "out").exists()
    run(tmp_path / "out")
    assert contents(tmp_path / "out") == whole


# -- the model --


class Odd(nn.Module):
    """The toy model, which does something else to some inputs."""

    def __init__(self, when: Any, then: Any):
        super().__init__()
        self.net, self.when, self.then = toy.model(), when, then

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        hit = self.when(x)
        return self.then(logits, hit) if bool(hit.any()) else logits


def first_pixel(ids: list[int]) -> Any:
    x = toy.data().between(0, 40).x[:, 0, 0]
    wanted = x[ids]
    return lambda x: (x[:, None, 0, 0] == wanted[None]).flatten(2).all(2).any(1)


def nan_there(logits: Tensor, hit: Tensor) -> Tensor:
    return torch.where(hit[:, None], torch.nan, logits)


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"shard": 3, "curves": True, "certify": 20}])
def test_inputs_without_a_finite_answer_are_marked_and_counted_and_never_robust(tmp_path: Path, options: dict):
    ids = [4, 17, 18, 30]
    when = first_pixel(ids)
    assert when(toy.data().between(0, 40).x).nonzero().flatten().tolist() == ids
    found = run(tmp_path / "out", Odd(when, nan_there), attacks=["pgd:steps=3", "verdict:effort=quick"], **options)
    plain = run(tmp_path / "plain", attacks=["pgd:steps=3", "verdict:effort=quick"], **options)
    told = found.about["models"]["toy"]
    assert told["unanswered"] == len(ids)
    assert "unanswered" not in plain.about["models"]["toy"]
    marked = found.rows.query("clean_prediction == -1")
    assert sorted(set(marked["id"])) == ids
    assert set(marked["correct"]) == {False}
    assert set(marked["fooled"]) == {True}
    others = ~plain.rows["id"].isin(ids)
    columns = ["id", "attack", "correct", "fooled", "queries"]
    assert (
        found.rows.loc[found.rows["clean_prediction"] != -1, columns]
        .reset_index(drop=True)
        .equals(plain.rows.loc[others, columns].reset_index(drop=True))
    )
    doubts = [doubt for doubt in found.about["doubts"] if "4 clean inputs (4, 17, 18, 30)" in doubt["text"]]
    assert [doubt["severity"] for doubt in doubts] == ["warning"]
    assert "4 clean inputs" in (tmp_path / "out/report.html").read_text()


def test_a_model_that_raises_midway_ends_it_and_what_is_finished_stays(tmp_path: Path):
    def fall(logits: Tensor, hit: Tensor) -> Tensor:
        raise ZeroDivisionError("a sensor fell off")

    model = Odd(never, fall)

    def after_two(done: int, total: int, what: str) -> None:
        model.when = first_pixel([20]) if done >= 16 else never

    with pytest.raises(InputError, match=r"a sensor fell off[\s\S]*2 finished shards are kept"):
        run(tmp_path / "out", model, progress=after_two)
    model.when = never
    run(tmp_path / "out", model)
    run(tmp_path / "other", model)
    assert contents(tmp_path / "out") == contents(tmp_path / "other")


def never(x: Tensor) -> Tensor:
    return torch.tensor([False])


def test_a_model_that_raises_under_attack_alone_is_named_too(tmp_path: Path):
    seen: list[int] = []

    def late(x: Tensor) -> Tensor:
        seen.append(1)
        return torch.tensor([x.requires_grad and len(seen) > 60])

    def fall(logits: Tensor, hit: Tensor) -> Tensor:
        raise ZeroDivisionError("a sensor fell off")

    with pytest.raises(
        InputError, match=r"The model toy raised ZeroDivisionError: a sensor.*test_audit_faults.py, line"
    ) as e:
        run(tmp_path / "out", Odd(late, fall), attacks=["pgd:steps=200"], shard=40)
    assert "pgd, linf:0.05, on examples 0 to 39" in str(e.value)


def test_a_model_that_hangs_is_given_up_after_the_timeout(tmp_path: Path):
    def hang(logits: Tensor, hit: Tensor) -> Tensor:
        time.sleep(60)
        return logits

    model = Odd(never, hang)

    def after_two(done: int, total: int, what: str) -> None:
        model.when = first_pixel([20]) if done >= 16 else never

    with pytest.raises(InputError, match=r"took more than 3 s \(--timeout\)[\s\S]*2 finished shards are kept"):
        run(tmp_path / "out", model, timeout=3, progress=after_two)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


# -- memory --


class Greedy(nn.Module):
    """Runs out of memory above so many rows."""

    def __init__(self, most: int, error: Exception):
        super().__init__()
        self.net, self.most, self.error, self.largest = toy.model(), most, error, 0

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise self.error
        self.largest = max(self.largest, len(x))
        return self.net(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_batch_and_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    from reports import engines

    monkeypatch.setattr(engines, "usual_batch", lambda shape: 8)  # of the first look
    model = Greedy(1000, error)
    run(tmp_path / "whole", model, shard=40, batch_size=40)
    model.most, model.largest = 13, 0
    run(tmp_path / "out", model, shard=40, batch_size=40)
    assert model.largest == 10
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_where_not_one_example_fits_it_is_said(tmp_path: Path):
    with pytest.raises(InputError, match="Not even one example fits into memory"):
        memory.Sizes(8).each(5, partial(_refuse, torch.OutOfMemoryError("CUDA out of memory.")))


def _refuse(error: Exception, at: slice) -> None:
    raise error


def test_a_size_is_remembered_and_everything_done_once():
    sizes, done = memory.Sizes(64), []

    def do(at: slice) -> None:
        if at.stop - at.start > 10:
            raise MemoryError
        done.extend(range(at.start, at.stop))

    sizes.each(100, do)
    assert done == [*range(100)]
    assert sizes.most == 8


def test_the_batch_grows_until_memory_says_stop():
    from attacks import Victim

    x = toy.data().between(0, 1).x
    victim = Victim(Greedy(100, torch.OutOfMemoryError("CUDA out of memory.")))
    assert memory.found(victim, x, 8, 1024) == 32  # 64 went well; half of it, since an attack holds more than a pass
    assert memory.found(victim, x, 8, 64) == 64
    assert memory.found(victim, x, 8, 4) == 4
    assert memory.found(Victim(Greedy(4, MemoryError())), x, 8, 64) == 8


# -- several processes --


def test_two_workers_give_the_same_bytes(tmp_path: Path, whole: dict[str, bytes]):
    told: list[str] = []
    run(tmp_path / "out", engine=Local(2, toy.both), progress=lambda done, total, what: told.append(what))
    assert contents(tmp_path / "out") == whole
    assert any(text.startswith("2 workers: ") and text.endswith("examples/s") for text in told)


def test_a_lost_worker_is_replaced_and_its_shard_done_again(
    tmp_path: Path, whole: dict[str, bytes], capfd: pytest.CaptureFixture[str]
):
    out, mark = tmp_path / "out", tmp_path / "fell"
    run(out, engine=Local(2, partial(falling, mark)))
    assert mark.exists()
    assert contents(out) == whole
    assert "a worker was lost" in capfd.readouterr().err


def falling(mark: Path) -> tuple[dict[str, nn.Module], Any]:
    """What a worker loads; the first one is killed at its first shard."""
    models, data = toy.both()
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return models, data
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_workers_that_are_lost_again_and_again_end_it(tmp_path: Path):
    with pytest.raises(InputError, match="3 times a worker was lost"):
        run(tmp_path / "out", engine=Local(2, killed_at_once))
    assert list(tmp_path.iterdir()) == []


def killed_at_once() -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_with_another_model_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="is another in a worker"):
        run(tmp_path / "out", nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), engine=Local(2, toy.both))


# -- Ctrl-C --


def test_ctrl_c_twice_keeps_what_is_finished(tmp_path: Path):
    digits = ["audit", "-m", "digits:standard", "-d", "digits", "-t", "linf:0.1", "-a", "pgd:steps=100", "--no-curves"]
    command = [*digits, "-n", "60", "--shard", "4", "--workers", "2", "--out", "out"]
    process = toy.begun(command, tmp_path)
    while process.poll() is None and kept(tmp_path / "out") < 3:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    status, err = toy.ended(process)
    assert status in (130, -signal.SIGINT), err
    assert kept(tmp_path / "out") >= 3
    status, err = toy.ended(toy.begun([*command[:-4], "--out", "out"], tmp_path))
    assert status == 0, err
    toy.ended(toy.begun([*digits, "-n", "60", "--out", "whole"], tmp_path))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
