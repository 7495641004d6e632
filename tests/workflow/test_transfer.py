"""The cells of a run in one job, through the real workflow: forced, deleted, and one by one."""

import re

import pytest
import yaml

from tests.support import HOME, TINY
from tests.support.workflow import planned, snakemake

RUN = "rgb-dem/decur/default/seed-0"
FOLDER = f"results/tiny/transfer/{RUN}"
RECORD = f"{FOLDER}/cells.json"
TABLE = "results/tiny/tables/own.csv"
PANEL = {
    "label": "RGB",
    "scenario": "rgb-dem",
    "dataset": "geonrw",
    "modalities": "rgb",
    "protocols": ["knn", "logistic"],
    "metrics": ["dominant_class"],
}
OWN = {
    "title": "T",
    "caption": "C",
    "rows": [{"label": "DeCUR", "method": "decur"}],
    "panels": [PANEL],
}


def write_config(folder, **changes):
    tree = yaml.safe_load(TINY.read_text())
    scenarios = {"rgb-dem": tree["scenarios"]["rgb-dem"]}
    fewer = {"experiments": [], "own_experiments": {"own": OWN}, "methods": ["decur"]}
    fewer |= {"scenarios": scenarios}
    (folder / "fewer.yaml").write_text(yaml.safe_dump(tree | fewer | changes))
    return "--configfile", "fewer.yaml"


def evaluated(folder):
    """The cells that the last transfer job did not keep."""
    log = (folder / f"results/tiny/logs/transfer/{RUN}.log").read_text()
    return set(re.findall(rf"^{RUN} (\S+): ", log, flags=re.MULTILINE))


@pytest.fixture
def done(tmp_path):
    """A folder in which the workflow has made one table of one run."""
    snakemake(tmp_path, TABLE, *write_config(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_metrics_that_were_deleted_are_missed_and_made_again_alone(done):
    config = write_config(done)
    cells = evaluated(done)
    assert len(cells) > 1
    path = sorted((done / FOLDER).rglob("metrics.json"))[0]
    first, whole = path.parent.relative_to(done / FOLDER), path.read_bytes()
    path.unlink()
    failed = snakemake(done, TABLE, "--forcerun", TABLE, *config, check=False)
    assert failed.returncode != 0
    (line,) = [s for s in failed.stderr.splitlines() if s.startswith("decur: error")]
    assert f"{path}: is missing" in line and f"delete {done / RECORD}" in line
    (done / RECORD).unlink()
    snakemake(done, TABLE, *config)
    assert evaluated(done) == {str(first)}
    metrics = yaml.safe_load(path.read_text())["metrics"]
    assert metrics == yaml.safe_load(whole)["metrics"]
    assert "Nothing to be done" in snakemake(done, TABLE, *config).stderr
    snakemake(done, TABLE, "--forcerun", "transfer", *config)
    assert evaluated(done) == cells


@pytest.mark.slow
def test_jobs_per_cell_and_jobs_per_run_go_on_from_the_same_metrics(tmp_path):
    apart = write_config(tmp_path, transfer_together=False)
    snakemake(tmp_path, TABLE, *apart)
    snakemake(tmp_path, RECORD, *write_config(tmp_path))
    assert evaluated(tmp_path) == set()
    write_config(tmp_path, transfer_together=False)
    assert "transfer" not in planned(tmp_path, TABLE, *apart)


@pytest.mark.parametrize("config", ["demo", "paper"])
def test_what_a_profile_says_of_transfer_reaches_every_job(tmp_path, config):
    asked = ("--set-resources", "transfer:mem_mb=123", "--set-threads", "transfer=2")
    given = ("--configfile", HOME / "config" / f"{config}.yaml", *asked)
    told = snakemake(tmp_path, "transfer_all", "--dry-run", *given).stdout
    jobs = re.findall(r"^rule transfer:\n(.*?)\n\[", told, flags=re.MULTILINE | re.DOTALL)
    assert jobs and all("threads: 2" in job and "mem_mb=123" in job for job in jobs)
    wanted = "cells.json" if config == "demo" else "metrics.json"
    assert all(re.search(rf"output: \S+/{re.escape(wanted)}\n", job) for job in jobs)
