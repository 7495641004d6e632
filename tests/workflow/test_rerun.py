"""What Snakemake itself would run again after a change of the configuration: real dry runs.

Nothing is computed: the products are empty files that Snakemake is told are up to date.
"""

import json
import re
import shutil

import pytest
import yaml

from decur.config import parse_config
from tests.support import TINY
from tests.support.workflow import planned, snakemake

TABLE = {
    "title": "T",
    "caption": "C",
    "rows": [{"label": "DeCUR", "method": "decur"}],
    "panels": [
        {
            "label": "both",
            "scenario": "own",
            "dataset": "harbour",
            "modalities": "photo+heat",
            "protocols": ["linear"],
            "metrics": ["miou"],
        }
    ],
}
SCENES = {"scenario": "rgb-dem", "dataset": "geonrw", "modalities": "rgb+dem"}


def tree():
    """A run on a user's folders and one on scenes, for a table and an explainer."""
    tiny = yaml.safe_load(TINY.read_text())
    pretrain = tiny["scenarios"]["rgb-dem"]["pretrain"]
    return {
        "scale": "small",
        "methods": ["decur"],
        "seeds": [0],
        "own_experiments": {
            "table": TABLE,
            "histogram": TABLE | {"kind": "alignment", "panels": [TABLE["panels"][0] | SCENES]},
        },
        "datasets": {
            "geonrw": tiny["datasets"]["geonrw"],
            "harbour": {
                "source": "folders",
                "pixels": 24,
                "folders": {
                    "modalities": {
                        name: {"folder": name, "bands": [name]} for name in ("photo", "heat")
                    },
                    "masks": "masks",
                    "classes": ["land", "water"],
                },
            },
        },
        "scenarios": {
            "own": {
                "modalities": {"photo": "image", "heat": "measured"},
                "pretrain": pretrain | {"dataset": "harbour"},
            },
            "rgb-dem": {"modalities": {"rgb": "rgb", "dem": "dem"}, "pretrain": pretrain},
        },
        "transfer": {"harbour": tiny["transfer"]["geonrw"] | {"sliding": {"window": [16, 16]}}},
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder that passes for one in which the workflow has run to its end."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "config.yaml").write_text(yaml.safe_dump(tree()))
    for name in ("photo", "heat", "masks"):
        (folder / name).mkdir()
        (folder / name / "a.png").write_text(name)
    manifest = "results/small/raw/harbour/manifest.json"
    snakemake(folder, manifest, "--configfile", "config.yaml")
    told = snakemake(folder, "--configfile", "config.yaml", "--dry-run").stdout
    for line in re.findall(r"^ +output: (.*)$", told, flags=re.MULTILINE):
        for name in line.split(", "):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    for name, settings in parse_config(tree()).datasets.items():
        card = folder / "results/small/shards" / name / "card.json"
        origin = {"settings": settings.model_dump(mode="json")}
        card.write_text(json.dumps({"quarantined": 0, "provenance": origin}))
    snakemake(folder, "--configfile", "config.yaml", "--touch", "--forceall")
    return folder


def jobs_after(done, *edits):
    """The jobs of a dry run after a change of the configuration, given as keys and values."""
    edited = tree()
    for keys, value in edits:
        *above, last = keys.split(".")
        node = edited
        for key in above:
            node = node.setdefault(key, {})
        node[last] = value
    (done / "edited.yaml").write_text(yaml.safe_dump(edited))
    return planned(done, "--configfile", "edited.yaml")


OWN, FOLDERS = "scenarios.own.pretrain", "datasets.harbour.folders"


@pytest.mark.parametrize(
    "edits",
    [
        [(f"{OWN}.checkpoint_steps", 7), (f"{OWN}.monitor_steps", 3)],
        [(f"{OWN}.recompute", "block"), (f"{OWN}.compile", "all"), (f"{OWN}.cuda_graph", True)],
        [("datasets.harbour.pieces", 4), ("datasets.harbour.bad_samples", "skip")],
        [(f"{FOLDERS}.title", "Harbour"), (f"{OWN}.knn", {"labels": "mask"})],
        [("transfer.harbour.sliding.batch", 2), (f"{FOLDERS}.masks", "moved")],
    ],
    ids=["checkpoints", "memory-and-speed", "pieces", "title-and-knn", "moved-folder"],
)
def test_after_a_change_of_how_jobs_run_nothing_is_to_be_done(done, edits):
    if not (done / "moved").exists():
        shutil.copytree(done / "masks", done / "moved")
    assert jobs_after(done, *edits) == {}


@pytest.mark.parametrize(
    ("keys", "value", "jobs"),
    [
        (f"{OWN}.lr", 0.5, {"pretrain": 1, "transfer": 1, "table": 1}),
        (
            "datasets.harbour.pixels",
            32,
            {"preprocess": 1, "pretrain": 1, "transfer": 1, "table": 1},
        ),
        ("transfer.harbour.linear.lr", 0.5, {"transfer": 1, "table": 1}),
        ("explain.alignment.batches", 3, {"explain": 1, "table": 1}),
        (
            f"{FOLDERS}.masks",
            "heat",
            {"download": 1, "preprocess": 1, "pretrain": 1, "transfer": 1, "table": 1},
        ),
    ],
    ids=["pretrain", "dataset", "transfer", "explain", "another-folder"],
)
def test_after_a_change_of_results_the_dependent_jobs_run_and_no_others(done, keys, value, jobs):
    found = jobs_after(done, (keys, value))
    always = {"report": 1, "all": 1}
    if keys != f"{FOLDERS}.masks":  # which the record of the configuration does not name
        always |= {"config": 1}
    assert found.pop("total") == sum(found.values())
    assert found == jobs | always
