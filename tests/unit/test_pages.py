"""The worked examples of docs/, executed on a copy of the package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from decur.artifacts.paths import Paths
from decur.cli import main
from tests.support import HOME
from tests.support.pages import apply_diffs, blocks, write_files
from tests.support.pretraining import settings
from tests.support.tables import config, put

CHECK = """
import json, sys
from pathlib import Path
from decur.config import PretrainSettings
from decur.pretrain.loop import pretrain
from decur.weights import branch_weights, load_backbone, read_weights

chosen = PretrainSettings.model_validate_json(sys.argv[1])
weights = pretrain(chosen, Path(sys.argv[2]), Path("run"))
net = load_backbone(branch_weights(read_weights(weights)[0], 1), arch=chosen.arch, in_chans=3)
print(json.dumps({"features": net.feature_dim}))
"""


def trained(page: str, shards: Path, folder: Path, **changes: object) -> tuple[dict, list[dict]]:
    """What is said of a run by the package as a page changes it, and the log of its steps."""
    shutil.copytree(HOME / "decur", folder / "decur")
    write_files(page, "python", folder)
    apply_diffs(page, folder)
    chosen = settings(optimizer="adamw", lr=0.002).model_dump(mode="json") | changes
    done = subprocess.run(
        [sys.executable, "-c", CHECK, json.dumps(chosen), str(shards)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    log = (folder / "run/log.jsonl").read_text().splitlines()
    return json.loads(done.stdout.splitlines()[-1]), [json.loads(line) for line in log]


def test_the_method_of_the_page_trains(shards_root, tmp_path):
    _, log = trained("add-method.md", shards_root, tmp_path / "copy", method="uniform")
    assert len(log) == 6
    assert all(line["loss"] == pytest.approx(line["alignment"] + line["uniformity"], rel=1e-4)
               for line in log)  # fmt: skip


def test_the_backbone_of_the_page_trains(shards_root, tmp_path):
    said, log = trained("add-backbone.md", shards_root, tmp_path / "copy", arch="patchnet")
    assert said["features"] == 64 and len(log) == 6


def test_the_experiment_of_the_page_is_collated_from_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("results/demo")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config().model_dump_json())
    write_files("add-experiment.md", "yaml", tmp_path)
    cell = "bigearthnet/sar+optical/linear/labels-100"
    for seed in range(3):
        for variant, value in (("default", 60.0), ("no-projector", 50.0)):
            run = f"sar-optical/decur/{variant}/seed-{seed}"
            put(Paths("results", "demo"), run, cell, map_micro=value + seed)
    ((_, command),) = blocks("add-experiment.md", "sh")
    assert main(command.split()[1:]) == 0
    frame = pd.read_csv(folder / "tables/no-projector.csv").set_index("row")
    assert frame["ours_mean"].loc["DeCUR"] == 61 and frame["n"].loc["Rand. Init."] == 0
    assert frame["ours_mean"].loc["without projector"] == 51


def test_the_readme_leads_to_every_page():
    readme = (HOME / "README.md").read_text()
    for page in ("add-dataset", "add-method", "add-backbone", "add-experiment", "embed"):
        assert f"(docs/{page}.md)" in readme
