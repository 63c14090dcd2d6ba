"""The command `advgan train perturber` and the attack `generated:RUN`: what they write, say and refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import attacks
from attacks import Access, Goal, InputError, Victim
from reports import cli
from reports.generated import FromRun, parted
from reports.options import attack_from_text, described, named_attacks
from reports.perturbing import page
from reports.record import Audit
from reports.training.saved import SavedRun
from tests.reports.commands import Advgan, Ended
from tests.reports.test_train_command import advgan, bytes_of, full_disk, pixels, run_json

__all__ = ["advgan"]

NET = """
import os, signal, torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=3, stop_at=None):
        super().__init__()
        self.stop_at, self.calls = stop_at, 0
        self.last = nn.Linear(64, classes)

    def forward(self, x):
        self.calls += len(x) == 8
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return self.last(x.flatten(1))

def make(classes=3, stop_at=None):
    torch.manual_seed(0)
    return Net(classes, stop_at)

def other():
    torch.manual_seed(1)
    return Net()

def stopping(): return make(stop_at=4)
def ten(): return make(10)
def two(): return make(2)
def bare(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
def wide(): return nn.Linear(5, 3)
def numb():
    net = make()
    net.forward = lambda x: nn.functional.one_hot(x.flatten(1).detach().argmax(1) % 3, 3).float()
    return net
"""

SMALL = ["--width", "4", "--depth", "1", "--batch", "8", "--steps", "6", "--every", "2"]
ASKED = ["--model", "net.py:make", "--data", "ok.npz", "--threat", "linf:0.3", *SMALL]


def labelled_by_the_net() -> np.ndarray:
    """Labels that the net gives, so that every example counts."""
    torch.manual_seed(0)
    last = torch.nn.Linear(64, 3)
    return last(torch.from_numpy(pixels(60)).flatten(1) / 255).argmax(1).numpy()


@pytest.fixture
def here(advgan: Advgan) -> Advgan:
    Path("net.py").write_text(NET)
    np.savez("ok.npz", x=pixels(60), y=labelled_by_the_net())
    return advgan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a perturber, one towards class 2 and a gan are."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "net.py").write_text(NET)
    np.savez(folder / "ok.npz", x=pixels(60), y=labelled_by_the_net())
    runs = {
        "run": ["perturber", *ASKED, "--transfer", "net.py:other"],
        "to2": ["perturber", *ASKED, "--target", "2"],
        "one": ["perturber", *ASKED, "--universal", "--gan-weight", "0"],
        "plus": ["perturber", *ASKED, "--network", "features", "--layer", "last", "--transfer", "net.py:other"],
        "gan": ["gan", "--data", "ok.npz", "--network", "mlp", "--width", "8", "--batch", "8", "--steps", "2"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, options in runs.items():
            with pytest.raises(SystemExit) as ended:
                cli.main(["train", *options, "--out", name])
            assert not ended.value.code
    return folder


@pytest.fixture
def trained(here: Advgan, made: Path) -> Advgan:
    for name in ("run", "to2", "one", "plus", "gan"):
        shutil.copytree(made / name, name)
    return here


def about(folder: str) -> dict:
    return json.loads(Path(folder, "about.json").read_text())


def refused(ended: Ended, said: str) -> None:
    assert ended.status == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


# What is written


def test_a_run_writes_its_folder_prints_a_table_and_what_to_type_next(here: Advgan):
    ended = here("train", "perturber", *ASKED, "--out", "run")
    assert (ended.status, ended.err) == (0, "")
    assert "PGD-20" in ended.out
    assert "noise as long" in ended.out
    assert "--attack generated:run" in ended.out
    told = run_json()
    assert told["config"]["what"] == "perturber"
    assert {"success", "success_8bit", "examples_per_second"} <= set(told["measures"])
    assert "every 5th example of each class" in told["config"]["data"]["source"]


def test_success_counts_held_out_examples_that_are_right_and_of_another_class_than_the_target(trained: Advgan):
    """The labels are the net's own answers, so all 12 held out are right."""
    assert about("run")["data"]["held_out"] == 12
    assert about("run")["results"]["compared"][0]["of"] == 12
    labels = labelled_by_the_net()
    held = np.argsort(labels, kind="stable")[2::5]
    assert about("to2")["results"]["compared"][0]["of"] == int((labels[held] != 2).sum())


def test_what_the_page_counts_is_what_training_measured(trained: Advgan):
    for name in ("run", "to2", "one", "plus"):
        row = about(name)["results"]["compared"][0]
        assert row["fooled"] / row["of"] == pytest.approx(run_json(name)["measures"]["success"])


def test_transfer_is_of_each_models_own_right_examples(trained: Advgan):
    for name in ("run", "plus"):
        found = about(name)["results"]["transfer"]
        assert found["models"] == ["make", "other"]
        own = found["rows"][0]
        assert own["fooled"][1] / own["of"][1] == pytest.approx(run_json(name)["measures"]["transfer"])
        assert own["of"][1] < 12  # the labels are not the other's


def test_the_command_on_the_page_makes_the_same_perturber_again(trained: Advgan):
    words = about("to2")["command"].replace("\\\n", " ").split()
    assert trained(*words[1:-1], "again", "--every", "2").status == 0
    assert bytes_of("to2") == bytes_of("again")


def test_ctrl_c_saves_and_resuming_changes_nothing(trained: Advgan):
    options = [word if word != "net.py:make" else "net.py:stopping" for word in ASKED]
    ended = trained("train", "perturber", *options, "--transfer", "net.py:other", "--out", "cut")
    assert ended.status == 130
    assert "Go on with: advgan train perturber --resume cut" in ended.err
    assert "unfinished" in Path("cut/report.html").read_text()
    assert "Training stopped before its end, at step" in trained("show", "cut").out
    Path("net.py").write_text(NET.replace("stop_at=4)", "stop_at=None)"))
    assert trained("train", "perturber", "--resume", "cut").status == 0
    assert bytes_of("cut") != b""
    ours, whole = (torch.frombuffer(bytearray(bytes_of(name)[-4000:]), dtype=torch.uint8) for name in ("cut", "run"))
    assert torch.equal(ours, whole)


def test_each_kind_of_run_is_resumed_by_its_own_command(trained: Advgan):
    refused(trained("train", "perturber", "--resume", "gan"), "advgan train gan --resume gan")
    refused(trained("train", "gan", "--resume", "run"), "advgan train perturber --resume run")


def test_a_full_disk_ends_with_status_2_and_leaves_nothing(here: Advgan):
    with full_disk(1024):
        ended = here("train", "perturber", *ASKED, "--out", "new")
    refused(ended, "disk is full")
    assert not Path("new").exists()


def test_the_page_escapes_names_and_is_the_same_for_the_same_run(trained: Advgan):
    assert page.page(SavedRun.load("run")) == Path("run/report.html").read_text()
    evil = about("run")
    evil["data"]["name"] = "<script>alert(1)</script>"
    Path("run/about.json").write_text(json.dumps(evil))
    assert "<script" not in page.page(SavedRun.load("run"))


def test_the_page_says_what_else_it_was_trained_for_than_to_fool(trained: Advgan):
    def said(name: str) -> list[str]:
        return [text for text in page.contents(SavedRun.load(name)).meaning if "nothing but to fool" in text]

    assert "untouched to a critic and to be short (gan_weight 1, hinge_weight 1)" in said("run")[0]
    assert "also trained to be short (hinge_weight 1)" in said("one")[0]
    told = run_json("one")
    told["config"]["hinge_weight"] = 0.0
    Path("one/run.json").write_text(json.dumps(told))
    assert said("one") == []


def test_show_prints_the_table_of_a_perturber(trained: Advgan):
    ended = trained("show", "one")
    assert ended.status == 0
    assert "PGD-20" in ended.out


# Bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threat", "linf:0"], "eps is 0"),
        (["--threat", "l0:3"], "l0"),
        (["--threat", "linf"], "NORM:EPS"),
        (["--target", "7"], "no target class '7'"),
        (["--universal", "--per-class"], "Give one of the two"),
        (["--universal", "--target", "any"], "any class"),
        (["--loss", "marginal"], "Did you mean 'margin'"),
        (["--gan-weight", "-1"], "gan_weight"),
        (["--loss", "feature_cosine", "--layer", "gone"], "no layer 'gone'"),
        (["--network", "vit"], "vit"),
        (["--network", "features"], "name it"),
        (["--network", "features", "--layer", "lost"], "Did you mean 'last'"),
        (["--steps", "0"], "steps"),
        (["--every", "0"], "--every"),
        (["--model", "net.py:two"], "model"),
        (["--transfer", "net.py:ten"], "different numbers of classes"),
        (["--transfer", "net.py:make"], "trained against"),
        (["--resume", "nowhere"], "no folder nowhere"),
        (["--data", "gone.npz"], "no file"),
        (["--device", "tpu"], "no device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_are_refused(here: Advgan, options: list[str], said: str):
    out = [] if "--resume" in options else ["--out", "new"]
    refused(here("train", "perturber", *ASKED, *options, *out), said)
    assert not Path("new").exists()


@pytest.mark.parametrize(("model", "said"), [("net.py:wide", "cannot take inputs"), ("net.py:numb", "gradient")])
def test_a_model_that_cannot_be_trained_against_is_refused(here: Advgan, model: str, said: str):
    refused(here("train", "perturber", "--model", model, *ASKED[2:], "--out", "new"), said)


def test_a_model_of_ones_own_needs_data_and_they_need_a_threat(here: Advgan):
    refused(here("train", "perturber", "--model", "net.py:make"), "needs --data")
    refused(here("train", "perturber", "--model", "net.py:make", "--data", "ok.npz"), "needs --threat")


# As an attack


@pytest.mark.parametrize(
    ("rest", "folder", "options"),
    [
        ("run", "run", ""),
        ("run:tries=4", "run", "tries=4"),
        ("a:b,c", "a:b,c", ""),
        ("a:b,c:tries=2", "a:b,c", "tries=2"),
        ("C:/runs/x", "C:/runs/x", ""),
        ("x:tries=2/y:tries=3", "x:tries=2/y", "tries=3"),
    ],
)
def test_a_folders_name_may_hold_colons_and_commas(rest: str, folder: str, options: str):
    assert parted(rest) == (folder, options)


def test_a_folder_that_is_there_is_taken_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("x:tries=2").mkdir()
    assert parted("x:tries=2") == ("x:tries=2", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("generated:", "names no folder"),
        ("generated:nowhere", "nowhere"),
        ("generated:gan", "gan"),
        ("generated:run:tries=0", "tries"),
        ("generated:run:tries=x", "tries"),
        ("generated:run:steps=3", "no option of generated 'steps'"),
        ("generated:one:tries=2", "the same at each try"),
    ],
)
def test_text_that_names_no_generator_is_refused(trained: Advgan, text: str, said: str):
    with pytest.raises(InputError, match=said):
        attack_from_text(text)


def test_a_damaged_generator_is_refused(trained: Advgan):
    file = Path("run/generator.safetensors")
    file.write_bytes(file.read_bytes()[:300])
    refused(trained("audit", *AUDIT, "-a", "generated:run"), "generator.safetensors")


AUDIT = ["-m", "net.py:make", "-d", "ok.npz", "-t", "linf:0.3", "--no-curves", "--out", "audit"]


def test_an_audit_describes_the_generator_and_tells_which_examples_it_was_trained_on(trained: Advgan):
    assert trained("audit", *AUDIT, "-a", "generated:run:tries=2", "-a", "fgsm").status == 0
    done = Audit.load("audit")
    told = done.about["configuration"]["attacks"]["generated:run:tries=2"]
    assert (told["run"], told["trained_for"], told["attack"]["tries"]) == ("run", "linf:0.3", 2)
    assert len(told["sha256"]) == 64
    texts = [doubt["text"] for doubt in done.about["doubts"]]
    assert any("was trained on 48 of 60 of these examples" in text for text in texts)
    assert not any("was trained for" in text for text in texts)
    assert "--attack generated:run:tries=2" in Path("audit/report.html").read_text()


def test_examples_that_it_has_not_seen_are_not_said_to_be_known(trained: Advgan):
    np.savez("new.npz", x=255 - pixels(60), y=labelled_by_the_net())
    options = [word if word != "ok.npz" else "new.npz" for word in AUDIT]
    assert trained("audit", *options, "-a", "generated:run").status == 0
    assert not any("was trained on" in doubt["text"] for doubt in Audit.load("audit").about["doubts"])


def test_another_eps_is_said_and_another_norm_refused(trained: Advgan):
    assert trained("audit", *AUDIT, "-t", "linf:0.1", "-a", "generated:run").status == 0
    doubts = [each for each in Audit.load("audit").about["doubts"] if "was trained for" in each["text"]]
    assert [each["threat"] for each in doubts] == ["linf:0.1"]
    refused(trained("audit", *AUDIT, "--overwrite", "-t", "l2:1", "-a", "generated:run"), "linf")


def test_a_generator_for_other_inputs_or_classes_is_refused(trained: Advgan):
    options = [word if word != "net.py:make" else "net.py:ten" for word in AUDIT]
    refused(trained("audit", *options, "-a", "generated:run"), "trained for 3 classes")
    refused(trained("audit", "-t", "linf:0.3", "-a", "generated:run", "-m", "digits:standard"), "classes")


def test_one_that_reads_a_layer_is_counted_its_look_and_told_of_where_the_model_is_another(
    trained: Advgan,
):
    for model, strange in (("make", 0), ("other", 1)):
        options = [word if word != "net.py:make" else f"net.py:{model}" for word in AUDIT]
        assert trained("audit", *options, "--overwrite", "-a", "generated:plus").status == 0
        done = Audit.load("audit")
        assert sum("reads the layer last" in each["text"] for each in done.about["doubts"]) == strange
        told = done.about["configuration"]["attacks"]["generated:plus"]["reads"]
        assert (told["layer"], told["shape"], len(told["sha256"])) == ("last", [3], 64)
        rows = done.rows
        assert set(rows["queries"][rows["correct"]]) == {3}
    options = ["--overwrite", *(word if word != "net.py:make" else "net.py:bare" for word in AUDIT)]
    refused(trained("audit", *options, "-a", "generated:plus"), "There is no layer 'last'. Known: 0, 1")


def test_it_runs_in_cascades_and_against_a_victim_that_reveals_decisions_alone(trained: Advgan):
    attack = attack_from_text("generated:run:tries=2")
    assert isinstance(attack, FromRun)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    x = torch.from_numpy(pixels(20)).float()[:, None] / 255
    victim, goal = Victim(model, Access.DECISION), Goal(torch.from_numpy(labelled_by_the_net()[:20]))
    alone = attacks.run(attack, victim, x, goal, "linf:0.3")
    both = attacks.run(attacks.Cascade((attack, attacks.CATALOG["uniform_noise"]())), victim, x, goal, "linf:0.3")
    assert not bool((alone.fooled & ~both.fooled).any())
    assert int(alone.backwards.sum()) == 0
    assert described(attack)["sha256"] == attack.sha256
    assert list(named_attacks(["generated:run", "fgsm"])) == ["generated:run", "fgsm"]
