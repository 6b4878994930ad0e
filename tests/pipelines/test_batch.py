"""Pipelines that run batches: on a Dask cluster of processes of this machine, and requests to other clusters.

Registration is stood in for by something quick, and a script gets a cluster that was started once for all tests.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from rrl_register.batch import running
from rrl_register.batch.dask_local import local_cluster

FOLDER = Path(__file__).resolve().parents[2] / "pipelines"
STAND_IN = '''
"""What stands in for a registration on workers."""
from rrl_register.batch import Outcome


def register_scene(scene, folder, threads):
    for suffix in (".tif", ".json"):
        (folder / (scene.id + suffix)).write_text(f"{scene.fixed.name} {scene.moving.name}")
    return Outcome(scene.id, "ok")
'''


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("stand_in") / "stand_in_for_pipelines.py"
    path.write_text(STAND_IN)
    sys.path.insert(0, str(path.parent))
    with local_cluster(1) as started:
        yield started
    sys.path.remove(str(path.parent))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(FOLDER))  # as Python does for a script
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a script in this process; returns its exit code."""

    def start(name: str, arguments: str, **replaced: Any) -> int:
        module = load(name)
        for attribute, value in replaced.items():
            monkeypatch.setattr(module, attribute, value)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments.split()])
        return module.main()

    return start


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pairs, a table and STAC items of them, which is the working directory."""
    for name in ("a_fixed.tif", "a_moving.tif", "b_fixed.tif", "b_moving.tif"):
        (tmp_path / name).touch()
    lines = ["id,fixed,moving", *(f"{name},{name}_fixed.tif,{name}_moving.tif" for name in "ab")]
    (tmp_path / "scenes.csv").write_text("\n".join(lines))
    (tmp_path / "items.json").write_text(
        json.dumps({"type": "FeatureCollection", "features": [item(name) for name in "ab"]})
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def item(name: str) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Point", "coordinates": [8.0, 47.0]},
        "bbox": [8.0, 47.0, 8.0, 47.0],
        "properties": {"datetime": "2026-05-03T00:00:00Z"},
        "links": [],
        "assets": {key: {"href": f"{name}_{key}.tif"} for key in ("fixed", "moving")},
    }


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("register_folder", ". -o out --local 1"),
        ("register_stac", "items.json -o out --local 1 --fixed-asset fixed --moving-asset moving"),
        ("register_slurm", "scenes.csv -o out --local 1"),
        ("register_kubernetes", "--local 1 scenes.csv -o out"),
    ],
)
def test_a_script_runs_a_batch_on_processes_of_this_machine(
    script: str,
    arguments: str,
    images: Path,
    cluster: Any,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked: list[int] = []
    stand_in = __import__("stand_in_for_pipelines")
    monkeypatch.setattr(running, "register_scene", stand_in.register_scene)
    assert run(script, arguments, local_cluster=lambda n: asked.append(n) or nullcontext(cluster)) == 0
    assert asked == [1]
    assert capfd.readouterr().out == "out/summary.json\n"
    assert (images / "out" / "b.tif").read_text() == "b_fixed.tif b_moving.tif"


def test_without_a_cluster_a_folder_is_run_by_the_local_pool(
    images: Path, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("register_folder", ". -o out --moving {id}_gone.tif") == 2
    assert "No file matches --moving {id}_gone.tif" in capfd.readouterr().err


def test_failures_keep_the_exit_code_of_the_batch(
    images: Path, cluster: Any, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    (images / "scenes.csv").write_text("id,fixed,moving\na,gone.tif,a_moving.tif\n")
    assert run("register_slurm", "scenes.csv -o out --local 1", local_cluster=lambda n: nullcontext(cluster)) == 4
    assert "does not see the file" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("script", "module"), [("register_slurm", "dask_jobqueue"), ("register_kubernetes", "dask_kubernetes.operator")]
)
def test_what_starts_the_cluster_is_named_where_it_is_missing(
    script: str,
    module: str,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert run(script, "scenes.csv -o out") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert f"pip install {module.split('.')[0].replace('_', '-')}" in error


@pytest.mark.filterwarnings("ignore:Port 8787 is already in use")
def test_slurm_jobs_ask_for_what_was_said(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("dask_jobqueue")
    assert run("register_slurm", "--show --scenes-per-job 4 --memory 8GiB --queue long --walltime 02:00:00") == 0
    script = capfd.readouterr().out
    for part in ("#SBATCH -p long", "#SBATCH --cpus-per-task=4", "#SBATCH -t 02:00:00", "--nworkers 4", "--nthreads 1"):
        assert part in script
    assert run("register_slurm", "--show --gpu --scenes-per-job 4") == 0
    script = capfd.readouterr().out
    assert "#SBATCH --gres=gpu:1" in script
    assert "--resources GPU=1" in script
    assert "--nthreads 1" in script


def test_pods_share_a_volume_and_are_found_by_the_service() -> None:
    cluster = yaml.safe_load((FOLDER / "register_kubernetes.yaml").read_text())
    worker, scheduler = cluster["spec"]["worker"]["spec"], cluster["spec"]["scheduler"]
    (container,) = worker["containers"]
    assert scheduler["service"]["selector"]["dask.org/cluster-name"] == cluster["metadata"]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in worker["volumes"]}
    assert scheduler["spec"]["containers"][0]["image"] == container["image"]
    assert container["args"][container["args"].index("--nthreads") + 1] == "1"


def test_kubernetes_takes_the_pods_of_the_file(
    images: Path, cluster: Any, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = pytest.importorskip("dask_kubernetes.operator")
    takes = inspect.signature(operator.KubeCluster)
    asked: dict[str, Any] = {}

    class Pods(nullcontext[Any]):
        def scale(self, workers: int) -> None:
            asked["workers"] = workers

    def start(**settings: Any) -> Pods:
        takes.bind(**settings)
        asked.update(settings)
        return Pods(cluster)

    monkeypatch.setattr(operator, "KubeCluster", start)
    assert run("register_kubernetes", "--workers 3 gone.csv -o out") == 2
    assert asked == {"workers": 3, "namespace": None, "custom_cluster_spec": str(FOLDER / "register_kubernetes.yaml")}
