"""Grids beyond one machine: the profiles, a Slurm of one node, and Kubernetes by a stand-in."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from made.checkouts import copied
from made.grids import grid_checkout, write_grid
from made.places import ROOT

GRID = [sys.executable, "-m", "saliency_sanity", "grid", "grids/small.yaml"]
NEEDED = ("slurmctld", "slurmd", "munged")
PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SMALL = {
    "notebook": "02_cascading_randomization",
    "profile": "smoke",
    "parameters": {
        **{"model": "cnn", "weights": "none", "image_count": 4, "group": 2},
        **{"methods": ["gradient", "input"], "choices": ["gradient"], "metrics": ["spearman_abs"]},
    },
    "cases": {
        "garments": {"images": "fashion_mnist"},
        "lost": {"images": "path/to/nowhere"},
    },
    "grid": {},
}


def whole_checkout(folder: Path, **content) -> Path:
    """What a run needs of this repository, and a grid of two cells, the last of which fails."""
    copied(folder, "notebooks", "config", "data", "workflow", "profiles", "lib")
    copied(folder, "_config.yml", "requirements.lock")
    return write_grid(folder, **SMALL | content)


def run(folder: Path, *words: str, beside: tuple[str, ...] = (), **variables: str) -> str:
    """Run the grid, one cell of which fails, and return what was said."""
    said = subprocess.run(
        [*beside, *GRID, *words],
        cwd=folder,
        env=os.environ | {"PATH": PATH} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1, said.stdout + said.stderr
    return said.stdout + said.stderr


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table of the grid by its path, the summary's among them."""
    small = folder / "results" / "grids" / "small"
    found = {str(path.relative_to(small)): path for path in small.rglob("*.parquet")}
    return {name: pd.read_parquet(path) for name, path in sorted(found.items())}


def failures(folder: Path) -> dict[str, str]:
    written = folder / "results" / "grids" / "small" / "failures.json"
    return {item["cell"]: item["reason"] for item in json.loads(written.read_text())}


def assert_same_tables(found: Path, local: Path) -> None:
    expected = tables(local)
    got = tables(found)
    assert got.keys() == expected.keys()
    for name, table in expected.items():
        assert len(table) or name.endswith("-refused.parquet"), name
        pd.testing.assert_frame_equal(got[name], table, check_exact=True, obj=name)


@pytest.mark.skipif(
    any(shutil.which(name, path=PATH) is None for name in NEEDED),
    reason="no Slurm here; on Debian and Ubuntu: apt-get install slurm-wlm munge",
)
@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="Snakemake's Slurm executor is not installed; pip install -e '.[cluster]'",
)
def test_the_tables_of_a_slurm_run_are_those_of_a_local_one(tmp_path):
    """On the cluster two jobs make the maps of each cell and a third the table, here it is one."""
    local = whole_checkout(tmp_path / "local")
    run(local, "--cores", "2")
    slurm = whole_checkout(tmp_path / "slurm", shards=2)
    said = run(
        slurm,
        *("--snakemake-profile", "profiles/slurm", "--", "--slurm-status-command", "squeue"),
        *("--slurm-init-seconds-before-status-checks", "5"),
        beside=(str(ROOT / "tests" / "made" / "one_node_slurm.sh"),),
    )
    assert said.count("has been submitted with SLURM jobid") == 5, "the failing cell has no third"
    assert "SLURM status is: 'FAILED'" in said
    assert "1 of 2 cells done" in said
    assert_same_tables(slurm, local)
    (failure,), (elsewhere,) = failures(local).items(), failures(slurm).items()
    assert failure[0] == elsewhere[0] == "02_cascading_randomization-lost"
    assert elsewhere[1].removeprefix("shard 1/2: ") == failure[1]
    assert "path/to/nowhere" in failure[1]


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="Snakemake's generic executor is not installed; pip install -e '.[cluster]'",
)
def test_the_kubernetes_scripts_start_jobs_and_see_how_they_end(tmp_path):
    """No cluster is needed, and none is shown to work: kubectl is a stand-in."""
    local = grid_checkout(tmp_path / "local", grid={"name": ["bad", "plain"]})
    run(local, "--cores", "1")

    pods = grid_checkout(tmp_path / "pods", grid={"name": ["bad", "plain"]})
    copied(pods, "profiles")
    kubectl, jobs = tmp_path / "bin" / "kubectl", tmp_path / "jobs"
    for folder in (kubectl.parent, jobs):
        folder.mkdir()
    kubectl.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' '{ROOT}/tests/made/kubectl.py' \"$@\"\n"
    )
    kubectl.chmod(0o755)
    run(
        pods,
        *("--snakemake-profile", "profiles/kubernetes"),
        PATH=f"{kubectl.parent}{os.pathsep}{PATH}",
        JOBS=str(jobs),
    )
    assert_same_tables(pods, local)
    assert failures(pods) == failures(local)
    assert list(failures(pods)) == ["one-name=bad"]

    manifests = [yaml.safe_load(path.read_text()) for path in jobs.glob("*/job.yaml")]
    assert len(manifests) == 2
    for job in manifests:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert job["spec"]["activeDeadlineSeconds"] == 240 * 60
        assert container["resources"] == {
            "requests": {"cpu": 1, "memory": "4096M"},
            "limits": {"memory": "4096M"},
        }
        assert Path(container["command"][-1]).is_absolute(), "pods start in a folder of their own"
