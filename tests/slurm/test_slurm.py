"""The workflow on a real SLURM of two nodes with pretend GPUs."""

import json
from pathlib import Path

import pytest
import yaml

from tests.slurm.conftest import HERE, HOME, PROFILE, run

TINY = HERE.parent / "workflow" / "tiny.yaml"
RUN = "results/tiny/pretrain/sar-optical/decur/default/seed-0"

pytestmark = pytest.mark.slurm


def loss_terms(log: Path) -> list[dict[str, float]]:
    """The loss terms of every step."""
    terms = ("loss", "intra1", "intra2", "common", "unique")
    return [{t: line[t] for t in terms} for line in map(json.loads, log.read_text().splitlines())]


def test_two_nodes_train_what_one_process_does(cluster: Path, tmp_path: Path) -> None:
    """And a job has the cores that it asks for, were they more than this machine's.

    With small steps, since what comes of the order of float32 sums, which differs, grows with them.
    """
    tree = yaml.safe_load(TINY.read_text())
    tree["scenarios"]["sar-optical"]["pretrain"] |= {"lr": 1e-5, "lr_1d": 1e-5}
    config = tmp_path / "small-steps.yaml"
    config.write_text(yaml.safe_dump(tree, sort_keys=False))
    nodes, alone = tmp_path / "nodes", tmp_path / "alone"
    for folder in (nodes, alone):
        folder.mkdir()
    target = ("--configfile", config, "--", f"{RUN}/weights.safetensors")
    printed = run(nodes, "--profile", PROFILE, "--set-threads", "pretrain=3", *target)
    assert "threads: 3" in printed
    run(alone, "--cores", 2, *target)
    two, one = (loss_terms(folder / RUN / "log.jsonl") for folder in (nodes, alone))
    assert len(two) == 24
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_the_demo_runs_through_slurm(cluster: Path, tmp_path: Path) -> None:
    run(tmp_path, "--profile", PROFILE, "--configfile", HOME / "config" / "demo.yaml")
    tables = {p.stem: p.read_text() for p in (tmp_path / "results/demo/tables").glob("*.md")}
    assert tables.keys() >= {"table1", "table2", "table3", "factors"}
    assert not any("Incomplete" in text for text in tables.values())
