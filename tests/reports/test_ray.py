"""An audit on a Ray cluster of two nodes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from attacks.errors import InputError
from reports.audit import audit
from reports.engines import Local
from reports.record import Audit
from reports.sources.both import load_both
from tests.reports.toy import contents

ray = pytest.importorskip("ray", reason="no ray: it comes with the extra 'scale'")
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"
)

LOAD = partial(load_both, ["digits:standard"], None, "digits", None, None)
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    yield made
    ray.shutdown()
    made.shutdown()


def run(out: Path, engine: Any, **options: Any) -> Audit:
    models, data = LOAD()
    asked: dict[str, Any] = {"examples": 120, "shard": 10, "curves": False, **options}
    return audit(models, data, ["linf:0.1", "l2:0.5"], ["pgd:steps=20", "gaussian_noise"], out, engine=engine, **asked)


def test_with_a_node_killed_on_the_way_every_row_is_that_of_a_local_audit(tmp_path: Path, cluster: Any):
    from reports.cluster import OnRay

    second = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    told: list[str] = []
    killed: list[int] = []

    def kill_the_second(done: int, total: int, what: str) -> None:
        told.append(what)
        if what.startswith("2 workers") and not killed:
            killed.append(done)
            cluster.remove_node(second, allow_graceful=False)

    found = run(tmp_path / "ray", OnRay(LOAD, cluster.address), progress=kill_the_second)
    local = run(tmp_path / "local", Local())
    assert killed
    assert killed[0] < 120 * 4
    assert found.rows.equals(local.rows)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert all(text.endswith("examples/s") for text in told)


def test_what_a_model_does_wrong_on_a_node_comes_home_as_what_it_is(tmp_path: Path, cluster: Any):
    from reports.cluster import OnRay

    ray.init(address=cluster.address, log_to_driver=False)
    robust = partial(load_both, ["digits:robust"], None, "digits", None, None)
    with pytest.raises(InputError, match="digits_standard is another in a worker"):
        run(tmp_path / "out", OnRay(robust, cluster.address))
    assert list(tmp_path.iterdir()) == []
