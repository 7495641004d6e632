"""`decur status` on results of every state: none, half made, at work, failed, damaged."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from decur.artifacts.paths import Paths
from decur.artifacts.records import Manifest
from decur.artifacts.timing import JobRecord
from decur.cli import main
from decur.cluster.lock import claim
from decur.config import parse_config
from decur.planning.status import STAGES, look, status
from tests.support import HOME, TINY

RUN = "sar-optical/decur/default/seed-0"
CELL = "bigearthnet/sar+optical/linear/labels-100"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """The results of a workflow that has written its configuration and nothing else."""
    paths = Paths(str(tmp_path / "results"), "tiny")
    config = parse_config(yaml.safe_load(TINY.read_text()), "tiny")
    root = Path(paths.root)
    root.mkdir(parents=True)
    Path(paths.config()).write_text(config.model_dump_json())
    shutil.copy(HOME / "config" / "experiments.yaml", paths.experiments())
    return paths


def file(path: str, text: str = "") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return Path(path)


def job(seconds: float, gpus: int) -> JobRecord:
    return JobRecord(started="2026-01-01", seconds=seconds, host="n1", device="A100", gpus=gpus)


def states(paths: Paths, stage: str) -> Counter[str]:
    return Counter(p.state for p in look(Path(paths.root)) if p.item.stage == stage)


def one(paths: Paths, stage: str, name: str):
    return next(p for p in look(Path(paths.root)) if (p.item.stage, p.item.name) == (stage, name))


def test_all_that_is_planned_waits_at_first(paths):
    found = look(Path(paths.root))
    assert {p.state for p in found} == {"waiting"}
    assert {p.item.stage for p in found} == {*STAGES}
    assert states(paths, "download") == {"waiting": 3}
    assert one(paths, "transfer", f"{RUN}/{CELL}").hours == 0


def test_done_items_count_their_hours(paths):
    Manifest(dataset="geonrw", job=job(1800, 0)).write(Path(paths.manifest("geonrw")))
    weights = file(paths.weights(RUN))
    metadata = {"job": job(7200, 4).model_dump_json(), "provenance": "{}"}
    save_file({"x": np.zeros(1)}, weights, metadata=metadata)
    assert states(paths, "download") == {"done": 1, "waiting": 2}
    run = one(paths, "pretrain", RUN)
    assert (run.state, run.hours, run.gpu_hours) == ("done", 2, 8)
    assert one(paths, "download", "geonrw").hours == 0.5


def test_hours_without_a_job_record_are_those_of_the_benchmark(paths):
    Manifest(dataset="geonrw").write(Path(paths.manifest("geonrw")))
    benchmark = file(paths.benchmark("download", "geonrw"), "s\tmax_rss\n3600.0\t5\n")
    assert one(paths, "download", "geonrw").hours == 1
    for broken in ("", "s\n", "s\nno number\n", "\0"):
        benchmark.write_text(broken)
        assert one(paths, "download", "geonrw").hours == 0


def test_a_job_that_ended_without_its_output_has_failed(paths):
    log = file(paths.log("pretrain", RUN), "step 1\ndecur: error: no room\x1b[0m\nsrun: killed\n")
    found = one(paths, "pretrain", RUN)
    assert (found.state, found.line) == ("failed", "decur: error: no room[0m")
    log.write_text("step 1\nKilled\n\n")
    assert one(paths, "pretrain", RUN).line == "Killed"
    log.write_bytes(b"\xff\xfe\n" + b"x" * 100_000 + b"\nlast\n")
    assert one(paths, "pretrain", RUN).line == "last"


def test_a_failed_piece_is_a_failure_of_its_dataset(paths):
    file(paths.log("preprocess", "geonrw.pieces/2-of-8"), "decur: error: quota\n")
    assert one(paths, "preprocess", "geonrw").line == "decur: error: quota"


def test_jobs_of_a_snakemake_at_work_run_until_they_report_an_error(paths, owner_file):
    log = file(paths.log("transfer", RUN), "cell 1\n")
    assert one(paths, "transfer", f"{RUN}/{CELL}").state == "failed"
    claim(Path(paths.claim()))
    os.utime(log, (time.time() + 1,) * 2)
    assert one(paths, "transfer", f"{RUN}/{CELL}").state == "running"
    log.write_text("decur: error: no shards\n")
    os.utime(log, (time.time() + 1,) * 2)
    assert one(paths, "transfer", f"{RUN}/{CELL}").state == "failed"
    os.utime(log, (1, 1))  # of an earlier attempt
    log.write_text("cell 1\n")
    os.utime(log, (1, 1))
    assert one(paths, "transfer", f"{RUN}/{CELL}").state == "failed"


def test_a_run_whose_process_lives_runs_without_snakemake_too(paths, owner_file):
    claim(Path(paths.pretrain(RUN)) / "owner.json")
    assert one(paths, "pretrain", RUN).state == "running"


def test_a_run_whose_process_is_gone_does_not(paths, owner_file):
    path = Path(paths.pretrain(RUN)) / "owner.json"
    code = "import sys; from decur.cluster.lock import Path, claim; claim(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert one(paths, "pretrain", RUN).state == "waiting"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"files": "many"}', "\0"])
def test_damaged_records_have_failed(paths, text):
    file(paths.manifest("geonrw"), text)
    file(paths.weights(RUN), text)
    assert one(paths, "pretrain", RUN).state == "failed"
    assert one(paths, "download", "geonrw").state in (
        "failed",
        "done" if text == "{}" else "failed",
    )
    assert main(["status", paths.root]) == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"scale": 1}'])
def test_with_a_damaged_configuration_what_is_there_counts(paths, text):
    file(paths.config(), text)
    Manifest(dataset="geonrw").write(Path(paths.manifest("geonrw")))
    file(paths.log("explain", f"{RUN}/tsne"), "decur: error: x\n")
    file(paths.log("tables", "config"))
    found = {(p.item.stage, p.item.name): p.state for p in look(Path(paths.root))}
    assert found == {("download", "geonrw"): "done", ("explain", f"{RUN}/tsne"): "failed"}


def test_the_table_sums_up_every_state(paths, capsys):
    file(paths.log("pretrain", RUN), "decur: error: no room\n")
    assert main(["status", paths.root]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"  pretrain {RUN}: decur: error: no room" in lines
    (total,) = (line.split() for line in lines if line.startswith("all "))
    assert sum(map(int, total[1:5])) == int(total[5]) == len(look(Path(paths.root)))


def test_few_of_many_failures_are_shown(paths):
    for seed in range(30):
        file(paths.log("pretrain", f"a/b/c/seed-{seed}"), "Killed\n")
    text = status([Path(paths.root)], 100)
    assert text.count(": Killed") == 20 and "and 10 more" in text


@pytest.mark.parametrize("made", [True, False])
def test_nothing_yet_is_no_error(tmp_path, monkeypatch, capsys, made):
    monkeypatch.chdir(tmp_path)
    if made:
        (tmp_path / "results" / "demo").mkdir(parents=True)
    assert main(["status"]) == 0
    assert main(["status", "results/paper"]) == 0
    assert main(["status", "--configfile", str(HOME / "config" / "demo.yaml")]) == 0
    assert "Nothing has been made" in capsys.readouterr().out


def test_nothing_is_written(paths):
    before = sorted(Path(paths.root).rglob("*"))
    assert main(["status", paths.root]) == 0
    assert sorted(Path(paths.root).rglob("*")) == before
    assert json.loads(Path(paths.config()).read_text())["scale"] == "tiny"
