"""The rehearsal of the paper's scale: the same jobs, and some of each kind are run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from decur.artifacts.paths import Cell, Run
from decur.config import EXPLAINERS
from decur.planning.pending import Job, dry_run
from tests.support import HOME
from tests.support.rehearsal import CONFIGS, ROOT, TARGETS
from tests.support.workflow import snakemake


def jobs(folder: Path, *configs: Path, targets: tuple[str, ...] = ()) -> list[Job]:
    """The jobs of a dry run from an empty folder."""
    base = ("--snakefile", HOME / "workflow" / "Snakefile", "--directory", folder)
    return dry_run([*map(str, (*targets, *base, "--configfile", *configs))]).jobs


def kinds(found: list[Job]) -> dict[str, set[str]]:
    """The rules, methods, protocols and explainers of jobs; rules of tables under one name."""
    marks = [job.wildcards for job in found]
    return {
        "rules": {re.sub("^table_.*", "table", job.rule) for job in found},
        "methods": {Run.parse(mark["run"]).method for mark in marks if "run" in mark},
        "protocols": {Cell.parse(mark["cell"]).protocol for mark in marks if "cell" in mark},
        "explainers": {mark["kind"] for mark in marks if "kind" in mark},
        "datasets": {mark["dataset"] for mark in marks if "dataset" in mark},
    }


@pytest.mark.slow
def test_the_rehearsal_has_the_jobs_of_the_paper(tmp_path: Path) -> None:
    paper, rehearsal = (
        sorted((job.rule, sorted(job.wildcards.items())) for job in jobs(tmp_path, *configs))
        for configs in (CONFIGS[:1], CONFIGS)
    )
    assert rehearsal == paper
    assert len(paper) > 300


@pytest.mark.slow
def test_the_part_that_is_run_below_has_one_of_each_kind(tmp_path: Path) -> None:
    part, whole = (kinds(jobs(tmp_path, *CONFIGS, targets=t)) for t in (TARGETS, ()))
    whole["rules"].remove("report")  # needs all results: the test makes it of what is there
    assert part == whole
    assert part["explainers"] == set(EXPLAINERS)


@pytest.mark.slow
def test_one_of_each_kind_runs_from_archives_to_the_report(tmp_path: Path) -> None:
    decur = [sys.executable, "-m", "decur.cli"]
    subprocess.run([*decur, "stand-ins"], cwd=tmp_path, check=True)
    snakemake(tmp_path, "--keep-going", "--configfile", *CONFIGS, "--", *TARGETS)
    assert all((tmp_path / target).is_file() for target in TARGETS)
    for verb in ("tables", "report"):
        subprocess.run([*decur, verb, str(ROOT)], cwd=tmp_path, check=True)
    assert (tmp_path / ROOT / "report.html").is_file()
    cards = [*(tmp_path / ROOT / "shards").glob("*/card.json")]
    assert [json.loads(card.read_text())["quarantined"] for card in cards] == [0] * 5
