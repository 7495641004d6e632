"""What the real workflow would do, before anything has run."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.support import HOME, TINY
from tests.support.workflow import planned, snakemake

STAGES = ("download", "preprocess", "pretrain", "transfer", "explain")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--configfile", HOME / "config" / "mini.yaml"),
        ("--configfile", *(HOME / "config" / name for name in ("mini.yaml", "factors.yaml"))),
        ("--configfile", *(HOME / "config" / name for name in ("paper.yaml", "confirm.yaml"))),
        ("--configfile", *(HOME / "config" / name for name in ("paper.yaml", "released.yaml"))),
        ("--configfile", HOME / "config" / "samples.yaml"),
        ("--configfile", HOME / "config" / "trials.yaml"),
        ("--configfile", HOME / "config" / "trials-pairs.yaml"),
        (
            "--configfile",
            *(HOME / "config" / name for name in ("trials.yaml", "trials-share.yaml")),
        ),
        ("--profile", HOME / "profiles" / "slurm"),
    ],
    ids=[
        "demo",
        "mini",
        "factors",
        "confirm",
        "released",
        "samples",
        "trials",
        "trials-pairs",
        "trials-share",
        "paper",
    ],
)
def test_every_scale_dry_runs_from_an_empty_folder_and_writes_nothing(tmp_path, arguments):
    jobs = planned(tmp_path, *arguments)
    assert {"download", "preprocess", "pretrain", "transfer", "table"} <= set(jobs)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "target",
    [
        "pretrain/rgb-dem/decur/comon-50/seed-0/weights.safetensors",
        "transfer/rgb-dem/decurr/default/seed-0/cells.json",
        "shards/geonrv/card.json",
    ],
)
def test_a_target_that_the_config_does_not_have_is_named_without_a_traceback(tmp_path, target):
    done = snakemake(tmp_path, "--dry-run", f"results/demo/{target}", check=False)
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert f"No rule to produce results/demo/{target}" in told and "Traceback" not in told


def test_the_slurm_profile_asks_for_four_a100_and_a_task_on_each_a_pretraining(tmp_path):
    profile = ("--profile", HOME / "profiles" / "slurm")
    output = snakemake(tmp_path, "--dry-run", "--printshellcmds", *profile).stdout
    blocks = re.findall(r"^rule pretrain:\n(.*?)\n\[", output, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    assert all("gpu=4, gpu_model=a100" in block for block in blocks)
    assert all("tasks=4, tasks_per_gpu=1, mpi=srun" in block for block in blocks)
    launch = "srun --kill-on-bad-exit --ntasks=4 --cpus-per-task=8 decur pretrain --requeue"
    assert all(launch in block for block in blocks)
    assert all("slurm_extra=--signal=USR1@300" in block for block in blocks)
    for stage in ("transfer", "explain"):
        blocks = re.findall(rf"^rule {stage}:\n(.*?)\n\[", output, flags=re.MULTILINE | re.DOTALL)
        assert blocks
        assert all(f"decur {stage} --requeue " in block for block in blocks)
        assert all("slurm_extra=--signal=USR1@300" in block for block in blocks)


def test_the_rule_graph_of_the_readme_is_that_of_the_paper_scale(tmp_path):
    config = ("--configfile", HOME / "config" / "paper.yaml")
    drawn = snakemake(tmp_path, "--rulegraph", "mermaid-js", *config).stdout
    names = {
        node: re.sub(r"^table_.*", "table", rule)
        for node, rule in re.findall(r"(id\d+)\[(\w+)\]", drawn)
    }
    edges = {(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", drawn)}
    shown = (HOME / "README.md").read_text().partition("```mermaid")[2].partition("```")[0]
    assert set(re.findall(r"(\w+) --> (\w+)", shown)) == edges


def test_stages_are_named_targets_with_a_word_of_explanation(tmp_path):
    listed = snakemake(tmp_path, "--list-target-rules").stdout
    for stage in STAGES:
        assert re.search(rf"^{stage}_all \(.+\)$", listed, flags=re.MULTILINE)
    assert re.search(r"^tables \(.+\)$", listed, flags=re.MULTILINE)


@pytest.mark.slow
def test_tables_collated_before_the_results_are_in_do_not_pass_for_done(tmp_path):
    snakemake(tmp_path, "--configfile", TINY, "--", "config")
    decur = [sys.executable, "-m", "decur.cli"]
    for verb in ("tables", "report"):
        subprocess.run([*decur, verb, "results/tiny"], cwd=tmp_path, check=True)
    jobs = planned(tmp_path, "--configfile", TINY)
    empty = tmp_path / "empty"
    empty.mkdir()
    whole = planned(empty, "--configfile", TINY)
    assert jobs["pretrain"] == whole["pretrain"] > 0
    assert jobs["table"] == whole["table"] > 0


def test_lint_finds_nothing_but_missing_containers(tmp_path):
    found = snakemake(tmp_path, "--lint", check=False)
    findings = set(re.findall(r"^ +\* (.*)$", found.stdout + found.stderr, flags=re.MULTILINE))
    assert findings == {"Specify a conda environment or container for each rule.:"}


def test_a_wrong_config_ends_in_one_line(tmp_path):
    tree = yaml.safe_load(TINY.read_text())
    tree["scenarios"]["sar-optical"]["pretrain"]["dim_common"] = 33
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    failed = snakemake(tmp_path, "--dry-run", "--configfile", "bad.yaml", check=False)
    assert failed.returncode != 0
    assert re.search(
        r"bad\.yaml: scenarios\.sar-optical\.pretrain: dim_common \(33\) must not exceed",
        failed.stdout + failed.stderr,
    )
