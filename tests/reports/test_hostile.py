"""Input that was made to do harm, or came to harm: it ends in our own error, runs nothing, and writes nothing.

What is tried and what is lost stands in the README's fault table.
"""

import contextlib
import json
import os
import pickle
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reports.dataset
from attacks.errors import InputError
from reports.audit import audit
from reports.dataset.verify import verify
from reports.record import Audit
from reports.sources import data, models
from reports.sources.data import from_arrays
from reports.sources.weights import read_weights
from tests.reports import hostile
from tests.reports.commands import Advgan

pytestmark = pytest.mark.filterwarnings(
    r"ignore:`torch\.jit\.(script|save)` is deprecated:FutureWarning",
    r"ignore:`torch\.jit\.(script|save)` is deprecated:DeprecationWarning",
)
SEEDS = range(25)


def read(spec: str) -> None:
    for _ in data.load(spec).batches(None, 4):
        pass


def read_images(path: Path) -> None:
    """The file as the only image of its class."""
    folder = path.parent / "classes" / "only"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / "image.png")
    read(str(path.parent / "classes"))


def ran(spec: str) -> None:
    (model,) = models.load(spec).values()
    with contextlib.suppress(RuntimeError):  # a program may be whole and not fit: an audit says so
        model(hostile.X)


LOADERS: dict[str, Callable[[Path], object]] = {
    "w.safetensors": read_weights,
    "w.pt": read_weights,
    "n.pt": lambda path: ran(f"torchscript:{path}"),
    "n.pt2": lambda path: ran(f"export:{path}"),
    "n.onnx": lambda path: ran(f"onnx:{path}"),
    "a.npz": lambda path: read(str(path)),
    "c.npz": lambda path: read(str(path)),
    "p.parquet": lambda path: read(str(path)),
    "t.csv": lambda path: read(str(path)),
    "t.json": lambda path: read(str(path.with_suffix(".csv"))),
    "s.tar": lambda path: read(str(path)),
    "i.png": read_images,
}
ZIPPED = ("w.pt", "n.pt", "n.pt2", "a.npz", "c.npz")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hostile.whole_files(tmp_path_factory.mktemp("whole"))


def refused(load: Callable[[Path], object], path: Path) -> bool:
    """Whether it ends in our own error; any other fails the test."""
    try:
        load(path)
    except InputError:
        return True
    return False


# -- damage --


def test_every_kind_of_file_is_read_when_it_is_whole(whole: dict[str, Path], tmp_path: Path):
    assert set(LOADERS) == set(whole)
    for name, load in LOADERS.items():
        shutil.copytree(whole[name].parent, tmp_path / name)
        assert not refused(load, tmp_path / name / name), name


def test_hundreds_of_damaged_files_end_in_our_own_error(whole: dict[str, Path], tmp_path: Path):
    """Bytes cut, flipped and overwritten; in archives every second one inside, with sums that are right."""
    counts = {}
    for name, load in LOADERS.items():
        content, path = whole[name].read_bytes(), tmp_path / name
        shutil.copy(whole["t.csv"], tmp_path / "t.csv")
        counts[name] = 0
        for seed in SEEDS:
            inside = name in ZIPPED and seed % 2
            path.write_bytes((hostile.damaged_within if inside else hostile.damaged)(content, seed))
            counts[name] += refused(load, path)
        (tmp_path / "t.json").unlink(missing_ok=True)
    assert sum(counts.values()) >= 200, counts
    assert min(counts.values()) >= 3, counts
    assert {path.name for path in tmp_path.iterdir()} <= {*LOADERS, "classes"}


@pytest.mark.parametrize("name", LOADERS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), kept=st.integers(0, 64))
def test_whatever_bytes_a_file_is_made_of_it_is_read_or_refused(
    whole: dict[str, Path], name: str, content: bytes, kept: int
):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(whole["t.csv"], folder)
        path = Path(folder) / name
        path.write_bytes(whole[name].read_bytes()[:kept] + content)
        refused(LOADERS[name], path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**14), 10**14) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
SECTIONS = st.sampled_from(
    [
        "configuration",
        "versions",
        "data",
        "model",
        "runs",
        "layout",
        "shards",
        "files",
        "layout.shape",
        "layout.classes",
    ]
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from reports import cli

    folder = tmp_path_factory.mktemp("finished") / "set"
    with pytest.raises(SystemExit) as ended:
        cli.main(["dataset", "-n", "8", "-a", "fgsm", "-t", "linf:0.1", "-o", str(folder)])
    assert not ended.value.code
    return folder


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(section=SECTIONS, value=json_values)
def test_a_manifest_with_anything_in_it_is_read_or_refused(finished: Path, section: str, value: object):
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(finished, Path(folder) / "set")
        about = json.loads((copy / "manifest.json").read_text())
        outer, _, inner = section.partition(".")
        if inner:
            about[outer][inner] = value
        else:
            about[outer] = value
        (copy / "manifest.json").write_text(json.dumps(about))
        for load in (reports.dataset.open, verify):
            refused(load, copy)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("shards", [10**12]),
        ("shards", [-1]),
        ("shards", [1.5]),
        ("shards", [10**8] * 9),
        ("shards", ["1"]),
        ("layout", {"shape": [10**9] * 3}),
        ("layout", {"shape": [0, 8, 8]}),
        ("layout", {"classes": []}),
        ("layout", {"classes": [{}]}),
        ("data", {"examples": 10**15}),
        ("data", {"shape": "all"}),
        ("configuration", {"shard": 0}),
        ("runs", [{"threat": "linf:0.1", "attack": "fgsm"}]),
        ("runs", [{"threat": "../..", "attack": "fgsm", "name": "x"}]),
        ("files", {"a": 1}),
    ],
)
def test_a_manifest_with_absurd_counts_is_refused_by_the_command(
    command: Advgan, finished: Path, section: str, value: object
):
    shutil.copytree(finished, "set")
    about = json.loads(Path("set", "manifest.json").read_text())
    about[section] = {**about[section], **value} if isinstance(value, dict) and section != "files" else value
    Path("set", "manifest.json").write_text(json.dumps(about))
    ended = command("dataset", "verify", "set")
    assert ended.status == 2
    assert "damaged or made up" in ended.err


def test_a_manifest_that_names_files_elsewhere_fails_and_reads_none_of_them(command: Advgan, finished: Path):
    shutil.copytree(finished, "set")
    Path("secret").write_text("secret")
    about = json.loads(Path("set", "manifest.json").read_text())
    about["files"]["../secret"] = "0" * 64
    Path("set", "manifest.json").write_text(json.dumps(about))
    ended = command("dataset", "verify", "set")
    assert ended.status == 1
    assert "lies outside the set's folder" in ended.out


# -- code --


class Code:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self):
        return (os.mkdir, ("ran",))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Path]) -> Iterator[Path]:
    """A folder of its own, with copies of the files; nothing may have been run in it or written beside it."""
    folder = tmp_path / "outer" / "inner"
    shutil.copytree(next(iter(whole.values())).parent, folder)
    monkeypatch.chdir(folder)
    before = sorted(path for path in tmp_path.rglob("*") if not path.is_relative_to(folder))
    yield folder
    assert not Path("ran").exists()
    assert sorted(path for path in tmp_path.rglob("*") if not path.is_relative_to(folder)) == before


@pytest.mark.parametrize("kind", ["bare pickle", "torch.save", "in a state dict", "legacy"])
def test_a_checkpoint_that_would_run_code_is_refused(here: Path, kind: str):
    path = here / "w.pt"
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Code()))
    else:
        content = {"weight": Code()} if kind == "in a state dict" else Code()
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    with pytest.raises(InputError):
        read_weights(path)
    with pytest.raises(InputError):
        models.load(f"torchscript:{path}")
    with pytest.raises(InputError):
        models.load(f"export:{path}")


def test_an_npz_of_objects_is_refused(here: Path):
    np.savez("a.npz", x=np.array([Code(), None], dtype=object), y=np.zeros(2, int))
    with pytest.raises(InputError, match="pickled objects"):
        read("a.npz")


def test_a_torchscript_program_that_reads_or_writes_files_is_refused(here: Path):
    code = b"class M(Module):\n  def forward(self, x):\n    return ops.inductor.open(x)\n"
    hostile.within(here / "n.pt", {"code/__torch__/more.py": code})
    with pytest.raises(InputError, match=r"calls ops\.inductor\.open"):
        models.load("torchscript:n.pt")

    sneaky = [b"    return getattr(torch, '\\x73ave')(x, 'ran')\n", b"    return (ops. # more\n    inductor.open(x))\n"]
    for line in sneaky:
        hostile.within(
            here / "n.pt", {"code/__torch__/more.py": code.replace(b"    return ops.inductor.open(x)\n", line)}
        )
        with pytest.raises(InputError, match="is not run"):
            models.load("torchscript:n.pt")

    class Writes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.from_file("ran", True, 4)

    class Saves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.save(x, "ran")
            return x

    for program in (Writes(), Saves()):
        torch.jit.save(torch.jit.script(program), "n.pt")
        with pytest.raises(InputError, match="may read or write files"):
            models.load("torchscript:n.pt")


def exported_with(here: Path, change: Callable[[dict], None]) -> None:
    about = hostile.program(here / "n.pt2")
    change(about)
    hostile.within(here / "n.pt2", {"models/model.json": json.dumps(about).encode()})


def target(text: str) -> Callable[[dict], None]:
    return lambda about: about["graph_module"]["graph"]["nodes"][0].update(target=text)


def shape(text: str) -> Callable[[dict], None]:
    def change(about: dict) -> None:
        values = about["graph_module"]["graph"]["tensor_values"]
        next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": text, "hint": None}}

    return change


def argument(value: dict) -> Callable[[dict], None]:
    return lambda about: about["graph_module"]["graph"]["nodes"][0]["inputs"][0].update(arg=value)


def spec(text: str) -> Callable[[dict], None]:
    def change(about: dict) -> None:
        root = about["graph_module"]["module_call_graph"][0]["signature"]
        root["in_spec"] = root["in_spec"].replace("builtins.tuple", text, 1)

    return change


def renamed(about: dict) -> None:
    """An argument whose name is a piece of Python, which ends in the code that is made of the graph."""
    text = json.dumps(about).replace('"input"', "\"input=__import__('os').mkdir('ran')\"")
    about.clear()
    about.update(json.loads(text))


@pytest.mark.parametrize(
    "change",
    [
        target("torch.os.mkdir"),
        target("torch.hub.load"),
        target("torch.ops.aten.from_file.default"),
        target("torch.ops.inductor.resize_storage_bytes_.default"),
        target("torch._C._cuda_init"),
        target("#evil:thing"),
        target("builtins.eval"),
        target("_operator.attrgetter.__init__"),
        target("_operator.call"),
        target("torch.ops.aten.__class__.default"),
        target("torch.ops.aten.relu.__init__"),
        argument({"as_operator": "torch.os.mkdir"}),
        argument({"as_string": "__import__('os').mkdir('ran')"}),
        spec("__enum__"),
        spec("\\u005f\\u005fenum\\u005f\\u005f"),
        spec("collections.defaultdict"),
        shape("__import__('os').mkdir('ran')"),
        shape("eval(chr(49))"),
        shape("Symbol('s0').func.__init__"),
        shape("s0 if s0 else exit()"),
        renamed,
    ],
)
def test_an_exported_program_that_reaches_beyond_its_operators_is_refused(here: Path, change: Callable[[dict], None]):
    exported_with(here, change)
    with pytest.raises(InputError, match="is not run"):
        models.load("export:n.pt2")


def test_an_exported_programs_guards_and_pickles_are_not_run(here: Path):
    exported_with(here, lambda about: about.update(guards_code=["__import__('os').mkdir('ran')"]))
    hostile.within(here / "n.pt2", {"data/sample_inputs/model.pt": pickle.dumps(Code())})
    ran("export:n.pt2")
    payload = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}
    hostile.within(
        here / "n.pt2",
        {
            "data/weights/weight_0": pickle.dumps(Code()),
            "data/weights/model_weights_config.json": json.dumps({"config": {"0.weight": payload}}).encode(),
        },
    )
    with pytest.raises(InputError, match="pickled weights or objects"):
        models.load("export:n.pt2")


# -- places --


@pytest.mark.parametrize("place", ["../weights.bin", "/etc/hostname", "link.bin", "sub/../../weights.bin"])
def test_an_onnx_file_whose_data_lies_elsewhere_is_refused(here: Path, place: str):
    (here / "sub").mkdir()
    (here / "link.bin").symlink_to("/etc/hostname")
    hostile.onnx_file(here / "n.onnx", place)
    with pytest.raises(InputError, match="is not in its folder"):
        models.load("onnx:n.onnx")


def test_an_onnx_file_with_its_data_beside_it_is_read(here: Path):
    np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32).tofile("weights.bin")
    hostile.onnx_file(here / "n.onnx", "weights.bin")
    ran("onnx:n.onnx")
    Path("weights.bin").unlink()
    with pytest.raises(InputError, match=r"takes its weights from weights\.bin, which is not there"):
        models.load("onnx:n.onnx")


def test_a_tar_that_climbs_out_of_its_folder_is_read_in_place(here: Path):
    link = tarfile.TarInfo("0.cls")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    device = tarfile.TarInfo("1.png")
    device.type = tarfile.CHRTYPE
    image = hostile.png(hostile.PIXELS[0])
    members = [("../../out.png", image), ("../../out.cls", b"1"), ("/abs.png", image), ("/abs.cls", b"0")]
    hostile.tar(here / "s.tar", [(link, b""), (device, b""), *members])
    assert len(data.load("s.tar")) == 2
    read("s.tar")


def test_an_npz_that_climbs_out_of_its_folder_is_read_in_place(here: Path):
    import zipfile

    with zipfile.ZipFile("a.npz", "a") as archive:
        archive.writestr("../../out.npy", b"out")
        archive.writestr("/abs.npy", b"out")
    read("a.npz")


def test_a_model_or_an_attack_with_path_parts_in_its_name_stays_in_the_audits_folder(here: Path):
    x, y = np.zeros((6, 1, 6, 6), np.uint8), np.arange(6) % 5
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 5))
    done = audit({"../../evil": net, "a/b\\c\0d": net}, from_arrays(x, y), ["linf:0.1"], ["fgsm"], here / "out")
    assert all(path.resolve().is_relative_to(here / "out") for path in (here / "out").rglob("*"))
    assert set(Audit.load(here / "out").about["models"]) == set(done.about["models"])


def test_html_in_the_names_of_classes_and_models_is_text_in_the_report(here: Path):
    names = [f"<script>alert({k})</script>" for k in range(5)]
    x = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    found = from_arrays(x, np.arange(20) % 5, classes=names)
    audit({"<img src=x onerror=alert(9)>": net}, found, ["linf:0.1"], ["fgsm", "pgd"], here / "out")
    page = (here / "out" / "report.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page


# -- size --


def one_image(content: bytes, kind: str) -> str:
    if kind == "folder":
        Path("bomb", "only").mkdir(parents=True)
        Path("bomb", "only", "image.png").write_bytes(content)
        return "bomb"
    if kind == "parquet":
        pq.write_table(pa.table({"image": [content], "label": [0]}), "bomb.parquet")
        return "bomb.parquet"
    hostile.tar(Path("bomb.tar"), [("0.png", content), ("0.cls", b"0")])
    return "bomb.tar"


@pytest.mark.parametrize("side", [6_000, 60_000])
@pytest.mark.parametrize("kind", ["folder", "parquet", "tar"])
def test_an_image_bomb_is_not_decoded(here: Path, kind: str, side: int):
    with pytest.raises(InputError, match=r"6,000 x 6,000 pixels|3600000000 pixels"):
        read(one_image(hostile.bomb(side), kind))


def test_an_array_that_promises_more_than_there_is_is_refused(here: Path):
    header = b"\x93NUMPY\x01\x00\x76\x00"
    told = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 3, 1000, 1000), }"
    array = header + told.ljust(117) + b"\n"
    labels = header + b"{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n" + bytes(8)
    Path("a.npz").write_bytes(hostile.zipped({"x.npy": array, "y.npy": labels}))
    with pytest.raises(InputError, match="promises"):
        read("a.npz")


def test_a_zip_of_nothing_but_zeros_is_not_unpacked(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reports.sources.limits.SHARE", 1e-5)  # of this machine's memory
    np.savez_compressed("a.npz", x=np.zeros((3000, 3, 100, 100), np.uint8), y=np.zeros(3000, int))
    assert Path("a.npz").stat().st_size < 200_000
    for load in (lambda: read("a.npz"), lambda: models.load("export:a.npz"), lambda: models.load("torchscript:a.npz")):
        with pytest.raises(InputError, match="once it is unpacked"):
            load()


def test_a_tar_member_that_promises_too_much_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch):
    member = tarfile.TarInfo("0.cls")
    member.size = 2**40
    image = Path("s.tar").read_bytes()[:1024]
    Path("a.tar").write_bytes(image + member.tobuf() + bytes(1024))
    with pytest.raises(InputError, match="not a whole tar file"):
        read("a.tar")
    monkeypatch.setattr("reports.sources.tars.MOST_BYTES", 50)
    with pytest.raises(InputError, match=r"says that it has \d+ bytes; at most 50 are read"):
        read("s.tar")


def test_a_parquet_file_of_more_examples_than_anybody_has_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reports.sources.limits.MOST_EXAMPLES", 5)
    for name in ("p.parquet", "s.tar"):
        with pytest.raises(InputError, match="says that it has 6 examples"):
            read(name)


def test_labels_that_are_no_class_numbers_make_no_list_of_classes(here: Path):
    hostile.tar(here / "s.tar", [("0.png", hostile.png(hostile.PIXELS[0])), ("0.cls", b"999999999")])
    with pytest.raises(InputError, match="Renumber"):
        read("s.tar")
    for label in (b"9" * 4000, b"-1", b"1.5", b"\xd9\xa3", b""):
        hostile.tar(here / "s.tar", [("0.png", hostile.png(hostile.PIXELS[0])), ("0.cls", label)])
        with pytest.raises(InputError, match="class numbers from 0"):
            read("s.tar")


# -- the command --


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("torchscript:w.pt", "a.npz"),
        ("export:w.pt", "a.npz"),
        ("onnx:w.pt", "a.npz"),
        ("torchscript:gone", "a.npz"),
        ("export:.", "a.npz"),
        ("hf:.", "a.npz"),
        ("digits:standard", "t.tar"),
        ("digits:standard", "broken.npz"),
        ("digits:standard", "broken.parquet"),
        ("digits:standard", "broken.csv"),
        ("digits:standard", "hf:."),
    ],
)
def test_the_command_ends_with_status_2_and_leaves_nothing_behind(here: Path, capsys, model: str, source: str):
    from reports import cli

    for end in ("npz", "parquet", "csv"):
        Path(f"broken.{end}").write_bytes(hostile.damaged(Path("a.npz").read_bytes()[:300], 1))
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", "-m", model, "-d", source, "-t", "linf:0.1", "-o", "out"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("advgan: ")
    assert not Path("out").exists()
