"""The worked examples of docs/, executed on a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

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
from decur.planning.costs import pretrain_cost
from decur.pretrain.loop import train_run
from decur.weights import branch_weights, load_backbone, read_weights

chosen = PretrainSettings.model_validate_json(sys.argv[1])
weights = train_run(chosen, Path(sys.argv[2]), Path("run"))
net = load_backbone(branch_weights(read_weights(weights)[0], 1), arch=chosen.arch, in_chans=3)
cost = pretrain_cost(chosen, {"train": 1000}, 1)
print(json.dumps({"features": net.feature_dim, "hours": cost.cpu + cost.gpu}))
"""

PIPELINE = """
from pathlib import Path
from decur.artifacts.paths import Paths
from decur.config import explain_settings, load_config, pretrain_settings, transfer_settings
from decur.config.experiments import chosen_experiments, explain_runs, pretrain_runs, transfer_runs
from decur.download.run import download
from decur.explain.run import explain
from decur.preprocess.run import preprocess
from decur.pretrain.loop import train_run
from decur.tables.run import write_experiment
from decur.transfer.run import transfer

config = load_config("own.yaml")
chosen, paths = chosen_experiments({}, config), Paths("results", config.scale)
experiments = list(chosen.values())
shards = Path("shards")
for name, settings in config.datasets.items():
    download(name, settings, Path("raw-own", name))
    preprocess(name, settings, Path("raw-own", name), shards / name)
for run in pretrain_runs(experiments, config):
    settings = pretrain_settings(config, run)
    train_run(settings, shards / settings.dataset, Path(paths.weights(str(run))).parent)
for run, cells in transfer_runs(experiments, config).items():
    settings, weights = transfer_settings(config, run, cells), Path(paths.weights(str(run)))
    transfer(settings, cells, weights, shards, Path(paths.transfer(str(run))))
for run, name in explain_runs(experiments, config):
    settings, weights = explain_settings(config, run, name), Path(paths.weights(str(run)))
    out = Path(paths.explain(str(run), name))
    out.parent.mkdir(parents=True, exist_ok=True)
    explain(name, settings, weights, shards / settings.pretrain.dataset, out)
for name, experiment in chosen.items():
    write_experiment(name, experiment, config, paths)
"""


def executed(folder: Path, *arguments: str) -> str:
    """What Python prints with the package of a folder."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def extended(page: str, folder: Path) -> dict:
    """Make a copy of the package and workflow with a page's files; returns a small config.

    The test that the page shows must pass on the copy.
    """
    for name in ("decur", "rules", "workflow", "config"):
        shutil.copytree(HOME / name, folder / name)
    write_files(page, "python", folder)
    write_files(page, "yaml", folder)
    apply_diffs(page, folder)
    (test,) = folder.glob("tests/unit/test_*.py")
    executed(folder, "-m", "pytest", "-q", f"--basetemp={folder}/tmp", str(test))
    config = yaml.safe_load((HOME / "tests/workflow/tiny.yaml").read_text())
    config["scenarios"]["sar-optical"]["pretrain"]["epochs"] = 1
    return config | {"experiments": []}


def planned(config: dict, folder: Path) -> str:
    """The plan of a config, which is then run."""
    (folder / "own.yaml").write_text(yaml.safe_dump(config))
    plan = executed(folder, "-m", "decur", "plan", "--configfile", "own.yaml")
    executed(folder, "-c", PIPELINE)
    return plan


def trained(page: str, shards: Path, folder: Path, **changes: object) -> tuple[dict, list[dict]]:
    """What is said of a run by the package as a page changes it, and the log of its steps.

    The page's own test passes in that package.
    """
    shutil.copytree(HOME / "decur", folder / "decur")
    write_files(page, "python", folder)
    apply_diffs(page, folder)
    chosen = settings(optimizer="adamw", lr=0.002).model_dump(mode="json") | changes
    executed(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    printed = executed(folder, "-c", CHECK, json.dumps(chosen), str(shards))
    log = (folder / "run/log.jsonl").read_text().splitlines()
    return json.loads(printed.splitlines()[-1]), [json.loads(line) for line in log]


@pytest.mark.slow
def test_the_method_of_the_page_trains(shards_root, tmp_path):
    said, log = trained("add-method.md", shards_root, tmp_path / "copy", method="uniform")
    assert len(log) == 6 and said["hours"] > 0
    assert all(line["loss"] == pytest.approx(line["alignment"] + line["uniformity"], rel=1e-4)
               for line in log)  # fmt: skip


@pytest.mark.slow
def test_the_backbone_of_the_page_trains(shards_root, tmp_path):
    said, log = trained("add-backbone.md", shards_root, tmp_path / "copy", arch="patchnet")
    assert said["features"] == 64 and len(log) == 6 and said["hours"] > 0


@pytest.mark.parametrize(
    ("page", "module", "registry"),
    [
        ("add-method.md", "decur/losses/uniform.py", "methods"),
        ("add-backbone.md", "decur/models/patchnet.py", "architectures"),
        ("add-explainer.md", "decur/explain/rank.py", "explainers"),
        ("add-protocol.md", "decur/transfer/protocols/ridge.py", "protocols"),
        ("add-dataset.md", "decur/datasets/streets.py", "datasets"),
    ],
)
def test_a_page_touches_a_module_its_entry_and_its_test(page, module, registry):
    made = {name for name, _ in blocks(page, "python") if not name.endswith(".yaml")}
    changed = {
        name for _, text in blocks(page, "diff") for name in re.findall(r"\+\+\+ (\S+)", text)
    }
    (test,) = (name for name in made if name.startswith("tests/unit/test_"))
    assert made | changed == {module, f"decur/config/{registry}.py", test}


@pytest.mark.slow
def test_the_explainer_of_the_page_is_planned_run_and_shown(tmp_path):
    config = extended("add-explainer.md", tmp_path)
    del config["datasets"]["geonrw"], config["scenarios"]["rgb-dem"]
    del config["datasets"]["bigearthnet"], config["transfer"]
    config["own_experiments"] = yaml.safe_load((tmp_path / "rank.yaml").read_text())
    assert "| explain | 2 |" in planned(config, tmp_path)
    frame = pd.read_csv(tmp_path / "results/tiny/tables/rank.csv")
    assert set(frame["row"]) == {"DeCUR", "Rand. Init."}
    assert set(frame["part"]) == {"common", "unique", "all"}
    assert frame["rank"].between(1, frame["dimensions"]).all()
    assert "| rank |" in (tmp_path / "results/tiny/tables/rank.md").read_text()


@pytest.mark.slow
def test_the_protocol_of_the_page_is_planned_run_and_shown(tmp_path):
    config = extended("add-protocol.md", tmp_path)
    del config["datasets"]["geonrw"], config["scenarios"]["rgb-dem"], config["transfer"]["geonrw"]
    config["own_experiments"] = yaml.safe_load((tmp_path / "ridge.yaml").read_text())
    assert "| transfer | 2 |" in planned(config, tmp_path)
    frame = pd.read_csv(tmp_path / "results/tiny/tables/ridge.csv")
    assert set(frame["protocol"]) == {"ridge"} and (frame["n"] == 1).all()
    assert frame["ours_mean"].between(0, 100).all()


@pytest.mark.slow
def test_the_dataset_of_the_page_is_planned_and_pretrained_on(tmp_path):
    config = extended("add-dataset.md", tmp_path)
    folder = tmp_path / "raw/streets"
    for number in range(24):
        image = np.random.default_rng(number).integers(1, 256, (40, 40, 3), dtype=np.uint8)
        arrays = {"visible": image, "thermal": image[..., 0], "people": image[..., 0] % 2}
        for name, array in arrays.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f"{number:04d}.png")
    (folder / "test.txt").write_text("0001 0002")
    pretrain = config["scenarios"]["rgb-dem"]["pretrain"] | {"dataset": "streets"}
    modalities = {"visible": "image", "thermal": "measured"}
    config["scenarios"] = {"day-night": {"modalities": modalities, "pretrain": pretrain}}
    config["datasets"] = yaml.safe_load((tmp_path / "streets.yaml").read_text())["datasets"]
    config["datasets"]["streets"]["pixels"] = 32
    del config["transfer"]
    plan = planned(config | {"methods": ["decur"]}, tmp_path)
    assert "| pretrain | 1 |" in plan and "Not included" not in plan
    card = json.loads((tmp_path / "shards/streets/card.json").read_text())
    assert card["counts"] == {"test": 2, "train": 22}


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
    pages = ["dataset", "method", "backbone", "experiment", "explainer", "protocol"]
    for page in (*(f"add-{name}" for name in pages), "embed"):
        assert f"(docs/{page}.md)" in readme
