"""The command: what it prints, what it writes, and with which status it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from reports import cli
from tests.reports.commands import Advgan

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="peer: the folder of outside models and data is not here")

NET = """
import os, signal, torch
from torch import nn

class Net(nn.Module):
    def __init__(self, after):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.after = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), after

    def forward(self, x):
        return self.after(self.net(x))

def good(): return Net(lambda z: z)
def probabilities(): return Net(lambda z: z.softmax(1))
def pair(): return Net(lambda z: (z, z))
def one_logit(): return Net(lambda z: z[:, :1])
def wide(): return Net(lambda z: z[:, None])
def nan(): return Net(lambda z: z / 0 * 0)
def two(): return Net(lambda z: z[:, :2])
def nothing(): return None

def stopped(signals=[]):
    def stop(z):
        signals.append(1)
        if len(signals) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return z
    return Net(stop)
"""

ALWAYS = ["--model", "net.py:good", "--data", "ok.npz", "--threat", "linf:0.1", "--attack", "fgsm", "--no-curves"]


@pytest.fixture
def advgan(command: Advgan) -> Advgan:
    """Run the command in a folder of its own, where net.py and ok.npz are."""
    Path("net.py").write_text(NET)
    x = np.random.default_rng(0).integers(0, 256, (12, 6, 6), dtype=np.uint8)
    np.savez("ok.npz", x=x, y=np.arange(12) % 3)
    Path("run").mkdir()
    return command


def audit_json(folder: str = "out") -> dict:
    return json.loads(Path(folder, "audit.json").read_text())


def test_an_audit_writes_its_folder_and_prints_its_table(advgan: Advgan):
    ended = advgan("audit", *ALWAYS, "--out", "out")
    assert ended.status == 0
    assert ended.err == ""
    assert "good" in ended.out
    assert "out/report.html" in ended.out
    assert {p.name for p in Path("out").iterdir()} >= {"audit.json", "rows.parquet", "report.html", "adversarial"}
    told = audit_json()
    assert told["configuration"]["models"] == {"good": "net.py:good"}
    assert told["configuration"]["data"] == "ok.npz"
    assert told["models"]["good"]["n"] == 12
    assert len(pd.read_parquet("out/rows.parquet")) == 12


def test_the_digits_are_audited_where_nothing_else_is_named(advgan: Advgan):
    ended = advgan("audit", "--attack", "fgsm", "--examples", "20", "--no-curves")
    assert ended.status == 0
    told = audit_json("advgan-audit")
    assert list(told["models"]) == ["digits_standard", "digits_robust"]
    assert list(told["models"]["digits_robust"]["threats"]) == ["linf:0.1", "linf:0.2", "l2:0.5", "l2:1.0"]
    assert advgan("show").out == ended.out.partition("Written to")[0]


def test_without_attacks_the_usual_ones_are_run(advgan: Advgan):
    short = [*ALWAYS[:6], "--examples", "2", "--no-curves"]
    assert advgan("audit", *short, "--out", "out").status == 0
    ran = audit_json()["configuration"]["attacks"]
    assert list(ran) == ["fgsm", "pgd", "apgd", "square", "verdict", "uniform_noise", "gaussian_noise"]
    assert ran["square"]["queries"] >= 500
    assert ran["verdict"]["effort"] == "standard"


def test_an_effort_alone_runs_the_verdict_and_the_noise(advgan: Advgan):
    assert advgan("audit", *ALWAYS[:6], "--effort", "quick", "--no-curves", "--out", "out").status == 0
    ran = audit_json()["configuration"]["attacks"]
    assert list(ran) == ["verdict", "uniform_noise", "gaussian_noise"]
    assert ran["verdict"]["effort"] == "quick"
    rows = pd.read_parquet("out/rows.parquet")
    assert set(rows.stage[rows.attack == "verdict"]) <= {0, 1}


def test_an_effort_beside_attacks_adds_the_verdict_to_them(advgan: Advgan):
    assert advgan("audit", *ALWAYS, "--effort", "standard", "--out", "out").status == 0
    assert list(audit_json()["configuration"]["attacks"]) == ["fgsm", "verdict"]
    ended = advgan("audit", *ALWAYS, "--attack", "verdict:rounds=3", "--effort", "quick", "--out", "again")
    assert ended.status == 2
    assert "Give one of the two" in ended.err


def test_the_verdict_is_left_out_or_refused_where_it_is_not_made_for_the_norm(advgan: Advgan):
    l0 = [*ALWAYS[:4], "--threat", "l0:2", "--examples", "2", "--no-curves", "--out", "out"]
    assert "verdict" in advgan("audit", *l0).err
    assert "verdict" not in audit_json()["configuration"]["attacks"]
    ended = advgan("audit", *l0, "--overwrite", "--effort", "quick")
    assert ended.status == 2
    assert "made for linf, l2 and l1" in ended.err


def test_usual_attacks_that_do_not_suit_are_left_out_and_said_to_be(advgan: Advgan):
    ended = advgan("audit", *ALWAYS[:4], "--threat", "l0:2", "--examples", "2", "--no-curves", "--out", "out")
    assert ended.status == 0
    assert "apgd and square:queries=500 and verdict left out" in ended.err
    assert "square" not in audit_json()["configuration"]["attacks"]


def test_certificates_are_asked_for_and_shown(advgan: Advgan):
    ended = advgan("audit", *ALWAYS, "--certify", "5", "--out", "out")
    assert ended.status == 0
    assert "How far to believe it" in ended.out
    assert audit_json()["models"]["good"]["threats"]["linf:0.1"]["bracket"]["n_tried"] == 5
    assert "--certify 5" in Path("out/report.html").read_text()


def test_several_models_are_audited_side_by_side(advgan: Advgan):
    Path("other").mkdir()
    Path("other/net.py").write_text(NET)
    assert advgan("audit", "-m", "other/net.py:good", *ALWAYS, "--out", "out").status == 0
    assert audit_json()["configuration"]["models"] == {"good": "other/net.py:good", "good_2": "net.py:good"}


def test_weights_are_loaded(advgan: Advgan):
    save_file({"net.1.weight": torch.zeros(3, 36), "net.1.bias": torch.tensor([0.0, 2.0, 0.0])}, "w.safetensors")
    assert advgan("audit", *ALWAYS, "--weights", "w.safetensors", "--out", "out").status == 0
    assert audit_json()["models"]["good"]["correct"] == 4
    assert audit_json()["configuration"]["weights"] == "w.safetensors"


def test_one_example_is_enough(advgan: Advgan):
    assert advgan("audit", *ALWAYS, "--examples", "1", "--out", "out").status == 0
    assert audit_json()["data"]["n"] == 1


def test_fewer_examples_than_asked_for_are_all_taken_and_said_to_be(advgan: Advgan):
    ended = advgan("audit", *ALWAYS, "--examples", "100", "--out", "out")
    assert ended.status == 0
    assert "has 12 examples, fewer than the 100" in ended.err


def test_fail_under_makes_the_status_1_where_robust_accuracy_is_below_it(advgan: Advgan):
    assert advgan("audit", *ALWAYS, "--fail-under", "0", "--out", "a").status == 0
    ended = advgan("audit", *ALWAYS, "--fail-under", "1", "--out", "b")
    assert ended.status == 1
    assert "below --fail-under 1" in ended.err
    robust = audit_json("b")["models"]["good"]["threats"]["linf:0.1"]["robust_accuracy"]
    assert advgan("audit", *ALWAYS, "--fail-under", str(robust), "--out", "c").status == 0


def test_images_in_folders_are_audited_at_one_size(advgan: Advgan):
    for k, side in enumerate((6, 9, 12)):
        Path("photos", str(k)).mkdir(parents=True)
        Image.fromarray(np.full((side, side), 90, dtype=np.uint8)).save(f"photos/{k}/0.png")
    arguments = [*ALWAYS[:2], "--data", "photos", *ALWAYS[4:]]
    ended = advgan("audit", *arguments, "--out", "run/out")
    assert ended.status == 2
    assert "--image-size 6" in ended.err
    assert advgan("audit", *arguments, "--image-size", "6", "--out", "out").status == 0
    assert audit_json()["data"]["shape"] == [1, 6, 6]


def test_show_prints_a_saved_audit(advgan: Advgan):
    told = advgan("audit", *ALWAYS, "--out", "out").out.partition("Written to")[0]
    assert advgan("show", "out").out == told
    ended = advgan("show", "run")
    assert ended.status == 2
    assert "audit" in ended.err


def test_the_version_and_the_help_are_printed(advgan: Advgan):
    assert advgan("--version").out.startswith("advgan ")
    told = advgan("audit", "--help")
    assert told.status == 0
    for option in ("--model", "--data", "--threat", "--attack", "--fail-under", "--image-size", "--no-curves"):
        assert option in told.out


# -- bad input: status 2, one message, nothing left --


def with_x(x: np.ndarray, y: np.ndarray | None = None) -> Callable[[], None]:
    return lambda: np.savez("ok.npz", x=x, y=np.arange(len(x)) % 3 if y is None else y)


def with_bytes(name: str, contents: bytes) -> Callable[[], None]:
    return lambda: [Path(name).write_bytes(contents), None][1]


def with_code() -> None:
    torch.save({"net.1.bias": Path("w.pt")}, "w.pt")


def with_misfit() -> None:
    save_file({"fc.bias": torch.zeros(3)}, "w.safetensors")


def with_bad_image() -> None:
    Path("photos/cat").mkdir(parents=True)
    Path("photos/cat/0.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")


def nothing() -> None:
    pass


OK = np.full((6, 6, 6), 0.5)


@pytest.mark.parametrize(
    ("prepare", "arguments", "said"),
    [
        (with_x(OK * 510), [], "runs from 255 to 255"),
        (with_x(OK - 3), [], "runs from -2.5 to -2.5"),
        (with_x(OK * np.nan), [], "NaN or inf"),
        (with_x(OK * np.inf), [], "NaN or inf"),
        (with_x(OK[:0]), [], "is empty"),
        (with_x(OK, np.arange(6)), [], "labels must be 0 to 2"),
        (with_x(OK, np.arange(6) - 1), [], "negative"),
        (with_x(OK, np.arange(6) / 2), [], "y is float64"),
        (with_x(np.zeros((6, 5, 5))), [], "cannot take inputs [b, 1, 5, 5]"),
        (with_bytes("ok.npz", b"PK\x03\x04 cut off"), [], "not a whole npz file"),
        (with_bytes("bad.parquet", b"PAR1 cut off"), ["--data", "bad.parquet"], "not a whole parquet file"),
        (with_bad_image, ["--data", "photos"], "is not an image that can be read"),
        (nothing, ["--model", "net.py:probabilities"], "returns probabilities"),
        (nothing, ["--model", "net.py:pair"], "returns tuple"),
        (nothing, ["--model", "net.py:one_logit"], "one logit per row"),
        (nothing, ["--model", "net.py:wide"], "logits [12, K] are needed"),
        (nothing, ["--model", "net.py:nan"], "NaN or inf"),
        (nothing, ["--model", "net.py:two"], "labels must be 0 to 1"),
        (nothing, ["--model", "net.py:nothing"], "returns NoneType"),
        (nothing, ["--model", "net.py:godo"], "Did you mean 'good'"),
        (nothing, ["--model", "nett.py:good"], "no file nett.py"),
        (nothing, ["--model", "digit"], "Did you mean 'digits'"),
        (nothing, ["--model", "net.py:good", "--model", "net.py:good"], "is there twice"),
        (nothing, ["--data", "okk.npz"], "Did you mean ok.npz"),
        (nothing, ["--data", "digit"], "Did you mean 'digits'"),
        (nothing, ["--threat", "linf:-0.1"], "must be a number of at least 0"),
        (nothing, ["--threat", "linf:nan"], "must be a number of at least 0"),
        (nothing, ["--threat", "linf"], "names no eps"),
        (nothing, ["--threat", "linv:0.1"], "Did you mean 'linf'"),
        (nothing, ["--attack", "fgms"], "Did you mean 'fgsm'"),
        (nothing, ["--attack", "pgd:step=3"], "Did you mean 'steps'"),
        (nothing, ["--attack", "pgd:steps=x"], "is not a whole number"),
        (nothing, ["--effort", "high"], "'quick', 'standard'"),
        (nothing, ["--weights", "gone.pt"], "no file of weights gone.pt"),
        (with_code, ["--weights", "w.pt"], "pickled code"),
        (with_misfit, ["--weights", "w.safetensors"], "missing net.1.weight, net.1.bias; unexpected fc.bias"),
        (with_bytes("w.safetensors", b"cut off"), ["--weights", "w.safetensors"], "not a whole safetensors file"),
        (nothing, ["--examples", "0"], "--examples is 0"),
        (nothing, ["--batch-size", "0"], "--batch-size is 0"),
        (nothing, ["--seed", "-1"], "seed is -1"),
        (nothing, ["--fail-under", "40"], "a share from 0 to 1"),
        (nothing, ["--device", "cuda:99"], "was asked for"),
        (nothing, ["--device", "tpu"], "There is no device"),
        (nothing, ["--image-size", "8"], "--image-size is for images"),
        (nothing, ["--examples", "many"], "valid int"),
        (nothing, ["--modle", "x"], "No such option"),
        (nothing, ["--out", "ok.npz"], "is a file"),
        (nothing, ["--out", "."], "exists"),
    ],
)
def test_bad_input_ends_with_status_2_and_leaves_nothing(
    advgan: Advgan, prepare: Callable[[], None], arguments: list[str], said: str
):
    prepare()
    before = sorted(Path().rglob("*"))
    replaced = {arguments[k] for k in range(0, len(arguments), 2)}
    kept = [word for k in range(0, 8, 2) if ALWAYS[k] not in replaced for word in ALWAYS[k : k + 2]]
    ended = advgan("audit", *kept, "--no-curves", *([] if "--out" in replaced else ["--out", "run/out"]), *arguments)
    assert ended.status == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert [p for p in sorted(Path().rglob("*")) if "__pycache__" not in p.parts] == before


def test_what_is_lacking_is_asked_for(advgan: Advgan):
    assert "needs --data" in advgan("audit", "--model", "net.py:good").err
    assert "Did you mean 'digits:robust'" in advgan("audit", "--model", "digits_robust").err
    assert "needs --threat" in advgan("audit", "--model", "net.py:good", "--data", "ok.npz").err
    assert "belongs to one --model" in advgan("audit", *ALWAYS, "-m", "digits", "--weights", "w.pt").err


def test_an_audit_that_is_there_is_replaced_only_where_asked(advgan: Advgan):
    assert advgan("audit", *ALWAYS, "--out", "out").status == 0
    before = Path("out/audit.json").read_text()
    ended = advgan("audit", *ALWAYS, "--seed", "1", "--out", "out")
    assert ended.status == 2
    assert "--overwrite" in ended.err
    assert Path("out/audit.json").read_text() == before
    assert advgan("audit", *ALWAYS, "--seed", "1", "--out", "out", "--overwrite").status == 0
    assert audit_json()["configuration"]["seed"] == 1
    assert advgan("audit", *ALWAYS, "--out", "run", "--overwrite").status == 0


def test_a_folder_that_is_not_an_audit_is_never_replaced(advgan: Advgan):
    Path("run/thesis.tex").write_text("years of work")
    assert advgan("audit", *ALWAYS, "--out", "run", "--overwrite").status == 2
    assert Path("run/thesis.tex").read_text() == "years of work"


def test_a_failed_replacement_leaves_the_old_audit(advgan: Advgan):
    assert advgan("audit", *ALWAYS, "--out", "out").status == 0
    arguments = ["--model", "net.py:stopped", *ALWAYS[2:], "--out", "out", "--overwrite"]
    assert advgan("audit", *arguments).status == 130
    assert list(audit_json()["models"]) == ["good"]


def test_ctrl_c_ends_with_status_130_and_leaves_nothing(advgan: Advgan):
    ended = advgan("audit", "--model", "net.py:stopped", *ALWAYS[2:], "--out", "run/deep/out")
    assert ended.status == 130
    assert ended.err == "advgan: stopped; nothing was written.\n"
    assert list(Path("run").iterdir()) == []


def test_a_full_disk_ends_with_status_2_and_leaves_nothing(advgan: Advgan):
    """Files may not grow beyond 1 KB here, which the system reports as it does a full disk."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)); "
        "from reports.cli import main; main(sys.argv[1:])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", limited, "audit", *ALWAYS, "--out", "run/out"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "disk is full" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(Path("run").iterdir()) == []


def test_a_bug_of_ours_is_not_hidden(advgan: Advgan, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("reports.audit.audit", broken)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["audit", *ALWAYS, "--out", "run/out"])


def test_interrupts_are_ours_to_handle():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@needs_shared
@pytest.mark.parametrize(
    ("model", "data", "threat"),
    [("advertorch_adv", "mnist_test.npz", "linf:0.3"), ("resnet20", "cifar10_jpeg_test.parquet", "linf:1/255")],
)
def test_outside_models_are_audited_on_outside_data(advgan: Advgan, model: str, data: str, threat: str):
    arguments = ["--model", f"{SHARED}/models.py:{model}", "--data", SHARED / data, "--threat", threat]
    ended = advgan("audit", *arguments, "--attack", "fgsm", "--examples", "20", "--no-curves", "--out", "out")
    assert ended.status == 0
    told = audit_json()["models"][model]
    assert told["correct"] >= 14
    assert 0 <= told["threats"][threat]["robust"] <= told["correct"]
