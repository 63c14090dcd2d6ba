"""Every adversarial input that an audit claims, read back from disk in a fresh process, is one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from reports.audit import audit
from reports.sources import data, models

SHARED = Path(__file__).parents[3] / "shared" / "data"
CHECK = """
import json, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from reports.sources import models

folder, spec, clean = Path(sys.argv[1]), sys.argv[2], np.load(sys.argv[3])
model = next(iter(models.load(spec).values()))
rows, claims = pd.read_parquet(folder / "rows.parquet"), 0
for name, about in json.loads((folder / "audit.json").read_text())["models"].items():
    for text, threat in about["threats"].items():
        for attack, did in threat["attacks"].items():
            with np.load(folder / did["file"], allow_pickle=False) as saved:
                ids, x_adv = saved["id"], saved["x"]
            of = rows[(rows.model == name) & (rows.threat == text) & (rows.attack == attack)]
            assert sorted(of.id[of.fooled]) == sorted(ids)
            delta = (x_adv.astype(np.float64) - clean["x"][ids].astype(np.float64)).reshape(len(ids), -1)
            size = {
                "linf": lambda d: np.abs(d).max(1, initial=0),
                "l2": lambda d: np.sqrt((d**2).sum(1)),
                "l1": lambda d: np.abs(d).sum(1),
            }[threat["norm"]](delta)
            assert (size <= float(eval(text.split(":")[1]))).all(), (text, attack, size.max())
            assert ((x_adv >= 0) & (x_adv <= 1)).all()
            labels = torch.from_numpy(clean["y"][ids])
            for part in (1, 7, len(ids)):
                with torch.no_grad():
                    said = torch.cat([model(x).argmax(1) for x in torch.from_numpy(x_adv).split(max(1, part))])
                assert (said != labels).all(), (text, attack, part)
            claims += len(ids)
print(json.dumps(claims))
"""


def claims_hold(folder: Path, spec: str, clean: Path) -> int:
    """How many claims there are; fails where one does not hold."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(folder), spec, str(clean)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["standard", "robust"])
def test_claims_about_the_digits_hold_in_a_fresh_process(tmp_path: Path, name: str):
    threats = ["linf:0.1", "linf:0.3", "linf:8/255", "l2:0.5", "l2:1.5", "l1:2.5"]
    dataset = data.load("digits")
    found = audit(
        models.load(f"digits:{name}"),
        dataset,
        threats,
        ["fgsm", "pgd", "apgd", "gaussian_noise"],
        tmp_path / "audit",
        examples=60,
        curves=False,
    )
    batch = next(dataset.batches(60, 60))
    np.savez(tmp_path / "clean.npz", x=batch.x.numpy(), y=batch.labels.numpy())
    claims = claims_hold(tmp_path / "audit", f"digits:{name}", tmp_path / "clean.npz")
    assert claims == np.asarray(found.rows["fooled"], dtype=bool).sum() > 100


@pytest.mark.parametrize(
    ("model", "threats"), [("advertorch_cln", ["linf:0.1", "l2:1.5"]), ("kw_mnist_01", ["linf:0.2", "l1:12"])]
)
def test_claims_about_outside_models_hold_in_a_fresh_process(tmp_path: Path, model: str, threats: list[str]):
    if not SHARED.is_dir():
        pytest.skip("the outside models and images (../shared) are not here")
    spec, dataset = f"{SHARED / 'models.py'}:{model}", data.load(str(SHARED / "mnist_test.npz"))
    audit(models.load(spec), dataset, threats, ["pgd:steps=10", "apgd:steps=10"], tmp_path / "audit", examples=48)
    batch = next(dataset.batches(48, 48))
    np.savez(tmp_path / "clean.npz", x=batch.x.numpy(), y=batch.labels.numpy())
    assert claims_hold(tmp_path / "audit", spec, tmp_path / "clean.npz") > 20


def test_the_digits_lie_on_the_8_bit_grid_as_scikit_learn_has_them():
    batch = next(data.load("digits").batches(None, 599))
    pixels = load_digits(return_X_y=True)[0]
    levels = {tuple(row) for row in np.round(np.asarray(pixels) * 255 / 16).astype(int)}
    assert {tuple(np.round(x.numpy().ravel() * 255).astype(int)) for x in batch.x} <= levels
