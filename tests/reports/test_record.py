"""Is what an audit writes whole, the same twice, and gone where it was not finished?"""

import errno
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from attacks.errors import InputError
from reports import record, spool, text, writer
from reports.pages.audit import page as html
from reports.record import Audit
from reports.writer import Writer
from tests.reports import synthetic

SMALL = {"n": 40, "models": ("m",), "threats": ("linf:8/255", "l2:1.0"), "attacks": ("fgsm", "apgd")}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "timings.parquet")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def one_batch(**changed):
    batch = {
        "ids": np.array([3, 1, 2]),
        "labels": np.array([0, 1, 2]),
        "clean_prediction": np.array([0, 1, 1]),
        "correct": np.array([True, True, False]),
        "fooled": np.array([False, True, True]),
        "adversarial_prediction": np.array([0, 2, 1]),
        "size": np.array([np.inf, 0.1, 0.0]),
        "margin": np.array([-1.0, 0.5, 0.2]),
        "queries": np.array([10, 4, 1]),
        "backwards": np.array([9, 3, 0]),
        "passes": np.array([-1, 7, 1]),
        "x_adv": np.arange(12, dtype=np.float32).reshape(3, 4) / 16,
        "seconds": 0.5,
    }
    return {**batch, **changed}


ABOUT = {"configuration": {"attacks": {}, "models": {}, "threats": [], "data": "d", "seed": 0, "device": "cpu"}}
ABOUT["configuration"]["batch_size"] = 3
ABOUT |= {"versions": {}, "data": {"n": 3, "shape": [4], "classes": ["a", "b", "c"], "bounds": [0.0, 1.0]}}
ABOUT |= {"models": {"m": {"sha256": "00", "parameters": 1}}}


def test_an_audit_is_read_back_as_it_was_written(tmp_path):
    written = synthetic.write(tmp_path / "audit", **SMALL)
    read = Audit.load(tmp_path / "audit")
    assert read.about == written.about == json.loads((tmp_path / "audit/audit.json").read_text())
    pd.testing.assert_frame_equal(read.rows, written.rows)
    pd.testing.assert_frame_equal(read.curves, written.curves)
    assert all(np.array_equal(read.gallery[name], written.gallery[name]) for name in record.GALLERY)


def test_the_rows_have_the_columns_and_types_that_are_promised(tmp_path):
    audit = synthetic.write(tmp_path / "audit", **SMALL)
    assert list(audit.rows.columns) == ["model", "threat", "attack", *(record.ROW.names or ())]
    schema = pq.read_schema(tmp_path / "audit/rows.parquet")
    assert str(schema.field("model").type).startswith("dictionary")
    assert str(schema.field("size").type) == "double"
    assert str(schema.field("id").type) == "int64"
    assert len(audit.rows) == 40 * 2 * 2


def test_the_same_adds_twice_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        synthetic.write(tmp_path / name, **SMALL)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_the_batch_size_changes_no_byte(tmp_path):
    for size in (7, 40):
        synthetic.write(tmp_path / str(size), batch_size=size, **SMALL)
    assert contents(tmp_path / "7") == contents(tmp_path / "40")


def test_rows_and_inputs_are_ordered_by_id_however_they_came(tmp_path):
    with Writer(tmp_path / "audit") as writer:
        writer.add("m", "linf:0.5", "apgd", **one_batch())
        audit = writer.finish(ABOUT)
    assert audit.rows["id"].tolist() == [1, 2, 3]
    ids, x = audit.adversarial("m", "linf:0.5", "apgd")
    assert ids.tolist() == [1, 2]
    assert np.array_equal(x, one_batch()["x_adv"][[1, 2]])


def test_clock_times_stand_in_the_timings_alone(tmp_path):
    audit = synthetic.write(tmp_path / "audit", **SMALL)
    assert set(audit.timings.columns) == {"model", "threat", "attack", "seconds"}
    assert audit.timings["threat"].tolist().count("linf:inf") == 1
    assert b"started_at" in pq.read_schema(tmp_path / "audit/timings.parquet").metadata
    assert not any(b"started" in data or b'seconds":' in data for data in contents(tmp_path / "audit").values())


def test_an_attack_that_fooled_nothing_leaves_an_empty_file(tmp_path):
    with Writer(tmp_path / "audit") as writer:
        writer.add("m", "linf:0.5", "apgd", **one_batch(fooled=np.zeros(3, bool), correct=np.ones(3, bool)))
        audit = writer.finish(ABOUT)
    ids, x = audit.adversarial("m", "linf:0.5", "apgd")
    assert ids.shape == (0,)
    assert x.shape == (0, 4)


def test_names_that_no_file_can_have_get_one_of_their_own(tmp_path):
    with Writer(tmp_path / "audit") as writer:
        for model in ("../a/b", ".._a_b", "x" * 400):
            writer.add(model, "linf:8/255", "apgd", **one_batch())
        writer.finish({**ABOUT, "models": {}})
    files = sorted(path.name for path in (tmp_path / "audit/adversarial").iterdir())
    assert len(files) == 3
    assert all("/" not in name for name in files)
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]
    assert Audit.load(tmp_path / "audit").adversarial("../a/b", "linf:8/255", "apgd")[0].tolist() == [1, 2]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", [(spool, "_append"), (spool, "_table"), (writer, "write_npz")], ids=lambda at: at[1])
def test_nothing_is_left_behind_when_writing_stops_halfway(tmp_path, monkeypatch, where, error):
    calls, real = [], getattr(*where)

    def fails_later(*arguments):
        calls.append(1)
        if len(calls) > 2:
            raise error
        return real(*arguments)

    monkeypatch.setattr(*where, fails_later)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        synthetic.write(tmp_path / "new" / "audit", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_called_one(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "_append", full)
    with pytest.raises(InputError, match=r"disk is full.*nothing of it was left behind"):
        synthetic.write(tmp_path / "audit", **SMALL)


def test_an_audit_that_fails_leaves_the_one_it_would_have_replaced(tmp_path, monkeypatch):
    synthetic.write(tmp_path / "audit", **SMALL)
    before = contents(tmp_path / "audit")

    def stops(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "write_npz", stops)
    with pytest.raises(KeyboardInterrupt):
        synthetic.write(tmp_path / "audit", overwrite=True, **SMALL)
    assert contents(tmp_path / "audit") == before
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_the_old_audit_stays_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    synthetic.write(tmp_path / "audit", **SMALL)
    before, real = contents(tmp_path / "audit"), Path.rename

    def stops(path, target):
        if path.name.endswith(".part"):
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", stops)
    with pytest.raises(KeyboardInterrupt):
        synthetic.write(tmp_path / "audit", overwrite=True, **SMALL)
    assert contents(tmp_path / "audit") == before
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_overwrite_replaces_an_audit_and_fills_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    synthetic.write(tmp_path / "empty", overwrite=True, **SMALL)
    synthetic.write(tmp_path / "empty", overwrite=True, **{**SMALL, "n": 41})
    assert Audit.load(tmp_path / "empty").about["data"]["n"] == 41
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_folder_that_exists_is_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match=r"exists.*--overwrite"):
        Writer(tmp_path)


@pytest.mark.parametrize(("file", "text"), [("thesis.tex", "years of work"), ("audit.json", '{"vulnerabilities": {}}')])
def test_a_folder_that_is_no_audit_is_never_replaced(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match="not an audit"):
        Writer(tmp_path, overwrite=True)
    assert (tmp_path / file).read_text() == text


def test_an_audit_with_a_foreign_file_in_it_is_not_replaced(tmp_path):
    synthetic.write(tmp_path / "audit", **SMALL)
    (tmp_path / "audit/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        Writer(tmp_path / "audit", overwrite=True)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "audit").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Writer(tmp_path / "audit", overwrite=True)


def test_a_writer_that_is_left_unfinished_leaves_nothing(tmp_path):
    with Writer(tmp_path / "audit") as writer:
        writer.add("m", "linf:0.5", "apgd", **one_batch())
    assert list(tmp_path.iterdir()) == []


def test_an_audit_without_rows_is_refused(tmp_path):
    with pytest.raises(InputError, match="no rows"), Writer(tmp_path / "audit") as writer:
        writer.finish(ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_an_example_added_twice_is_noticed(tmp_path):
    with Writer(tmp_path / "audit") as writer:
        writer.add("m", "linf:0.5", "apgd", **one_batch(ids=np.array([1, 1, 2])))
        with pytest.raises(ValueError, match="added twice"):
            writer.finish(ABOUT)


def test_columns_of_another_length_are_noticed(tmp_path):
    with pytest.raises(ValueError, match="size has shape"), Writer(tmp_path / "audit") as writer:
        writer.add("m", "linf:0.5", "apgd", **one_batch(size=np.zeros(2)))


def test_numbers_that_are_not_finite_become_none_in_the_json(tmp_path):
    with Writer(tmp_path / "audit") as writer:
        writer.add("m", "linf:0.5", "apgd", **one_batch(correct=np.zeros(3, bool), fooled=np.ones(3, bool)))
        audit = writer.finish({**ABOUT, "versions": {"odd": float("nan"), "array": np.float32(2)}})
    assert audit.about["versions"] == {"odd": None, "array": 2.0}
    assert audit.about["models"]["m"]["threats"]["linf:0.5"]["attacks"]["apgd"]["success_rate"] is None


def _edit(folder: Path, change) -> None:
    about = json.loads((folder / "audit.json").read_text())
    change(about)
    (folder / "audit.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "audit.json").unlink(), "holds no audit.json"),
        (lambda folder: (folder / "audit.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "audit.json").write_text("[]"), "is not an audit's"),
        (lambda folder: _edit(folder, lambda about: about.update(format=99)), "format 99, this version reads 1 and 2"),
        (lambda folder: (folder / "curves.parquet").unlink(), "not a whole audit: curves.parquet"),
        (lambda folder: (folder / "rows.parquet").write_bytes(b"PAR1"), "rows.parquet cannot be read"),
        (lambda folder: (folder / "gallery.npz").write_bytes(b"no archive"), "gallery.npz cannot be read"),
        (lambda folder: next((folder / "adversarial").iterdir()).unlink(), "not a whole audit: adversarial"),
        (lambda folder: _edit(folder, lambda about: about["models"]["m"].update(n=39)), "does not fit together"),
    ],
)
def test_a_harmed_audit_is_refused_with_what_is_wrong(tmp_path, harm, said):
    synthetic.write(tmp_path / "audit", **SMALL)
    harm(tmp_path / "audit")
    with pytest.raises(InputError, match=said):
        Audit.load(tmp_path / "audit")


def test_an_audit_of_format_1_is_read_shown_and_drawn(tmp_path):
    """It has none of the columns, entries and files that came with the verdict."""
    written = synthetic.write(tmp_path / "audit", **SMALL)
    (tmp_path / "audit/certificates.parquet").unlink()
    older = written.rows.drop(columns=list(record.UNSEEN))
    older.to_parquet(tmp_path / "audit/rows.parquet")
    _edit(tmp_path / "audit", lambda about: [about.update(format=1), about["configuration"].pop("certify")])
    read = Audit.load(tmp_path / "audit")
    pd.testing.assert_frame_equal(read.rows.drop(columns=list(record.UNSEEN)), older)
    assert set(read.rows["stage"]) == {-1}
    assert len(read.certificates) == 0
    assert html.contents(read).robustness == html.contents(written).robustness
    Console(file=io.StringIO()).print(text.table(read))


def test_certificates_are_read_back_as_they_were_written(tmp_path):
    synthetic.write(tmp_path / "audit", certify=7, **{**SMALL, "attacks": ("verdict",)})
    read = Audit.load(tmp_path / "audit")
    assert read.certificates["id"].tolist() == [*range(7)] * 2
    assert list(read.certificates.columns) == ["model", "threat", *(record.CERTIFICATE.names or ())]
    told = read.about["models"]["m"]["threats"]
    for threat, group in read.certificates.groupby("threat", observed=True):
        assert told[threat]["bracket"]["certified"]["count"] == group["certified"].sum()


def test_a_gallery_with_pickled_objects_is_refused(tmp_path):
    synthetic.write(tmp_path / "audit", **SMALL)
    with zipfile.ZipFile(tmp_path / "audit/gallery.npz", "w") as archive:
        for name in record.GALLERY:
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.array([None], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"gallery\.npz cannot be read"):
        Audit.load(tmp_path / "audit")
