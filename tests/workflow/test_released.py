"""The method `released`: the authors' weights evaluated by our protocols, without pretraining."""

import json
from pathlib import Path

import pytest
import yaml

from decur.weights import export
from tests.support import TINY
from tests.support.workflow import planned, snakemake

ROWS = [
    {"label": "DeCUR", "method": "decur"},
    {"label": "theirs", "method": "released"},
    {
        "label": "DeCUR by released batch norms",
        "method": "decur",
        "protocol": {"linear": "linear-official"},
    },
]
PANEL = {
    "label": "S1+S2",
    "scenario": "sar-optical",
    "dataset": "bigearthnet",
    "modalities": "sar+optical",
    "protocols": ["linear", "fine-tune"],
    "metrics": ["map_micro"],
}
RUNS = "results/tiny/pretrain/sar-optical"


def config(folder: Path, *methods: str, **pretrain: object) -> Path:
    """A config with one small table of our method and the released file, in a folder."""
    tree = yaml.safe_load(TINY.read_text()) | {"methods": [*methods], "experiments": []}
    rows = [row for row in ROWS if row["method"] in methods]
    table = {"title": "T", "caption": "C", "rows": rows, "panels": [PANEL]}
    tree["own_experiments"] = {"theirs": table}
    del tree["scenarios"]["rgb-dem"], tree["datasets"]["geonrw"], tree["transfer"]["geonrw"]
    tree["datasets"]["bigearthnet"]["scenes"] |= {"train": 48, "test": 24}
    for recipe in ("linear", "fine_tune"):
        tree["transfer"]["bigearthnet"][recipe]["epochs"] = 1
    tree["scenarios"]["sar-optical"]["pretrain"] |= {"arch": "resnet18", "epochs": 1} | pretrain
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


@pytest.mark.slow
@pytest.mark.long
def test_a_released_file_is_evaluated_as_the_run_that_it_is_of(tmp_path):
    snakemake(tmp_path, "--configfile", config(tmp_path, "decur"), "--", "pretrain_all")
    run = tmp_path / RUNS / "decur/default/seed-0"
    file = next(f for f in export(run, tmp_path / "joint", format="released") if f.suffix == ".pth")
    both = config(tmp_path, "decur", "released", released=str(file))
    planned_jobs = planned(tmp_path, "--configfile", both)
    assert planned_jobs["pretrain_released"] == 1 and "pretrain" not in planned_jobs
    snakemake(tmp_path, "--configfile", both)

    def metrics(method: str, protocol: str) -> dict[str, float]:
        cell = f"{method}/default/seed-0/bigearthnet/sar+optical/{protocol}/labels-100"
        path = tmp_path / "results/tiny/transfer/sar-optical" / cell / "metrics.json"
        found: dict[str, float] = json.loads(path.read_text())["metrics"]
        return found

    for protocol in ("linear", "fine-tune"):
        assert metrics("released", protocol) == metrics("decur", protocol)
    assert metrics("decur", "linear-official") != metrics("decur", "linear")
    table = (tmp_path / "results/tiny/tables/theirs.md").read_text()
    assert "DeCUR by released batch norms: linear-official in the columns of linear." in table
    assert planned(tmp_path, "--configfile", both) == {}
    file.write_bytes(file.read_bytes() + b" ")
    assert planned(tmp_path, "--configfile", both)["pretrain_released"] == 1


def test_a_published_name_is_downloaded_and_no_pretraining_data_is(tmp_path):
    name = "rn50_ssl4eo-s12_s1_s2c_decur_ep100.pth"
    chosen = config(tmp_path, "released", released=name)
    jobs = planned(tmp_path, "table_theirs", "--configfile", chosen)
    assert jobs["download_weights"] == jobs["pretrain_released"] == 1
    assert jobs["download"] == jobs["preprocess"] == 1  # BigEarthNet's
    assert "pretrain" not in jobs


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (
            "rn50_ssl4eo-s12_s1_s2_decur_ep100.pth",
            "did you mean 'rn50_ssl4eo-s12_s1_s2c_decur_ep100.pth'?",
        ),
        ("there/file.pth", "there/file.pth does not exist, but the run"),
    ],
)
def test_a_file_that_is_not_there_is_named(tmp_path, file, told):
    chosen = config(tmp_path, "released", released=file)
    done = snakemake(tmp_path, "--configfile", chosen, "--dry-run", check=False)
    assert done.returncode
    said = done.stdout + done.stderr
    assert "scenarios.sar-optical.pretrain.released" in said and told in said
