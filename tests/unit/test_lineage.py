"""Where every product is from: a road from scenes to tables, and what happens to it afterwards."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from decur.artifacts.lineage import (
    AS_RECORDED,
    CHANGED,
    MISSING,
    SAME_SIZE,
    changed,
    lineage,
    render,
)
from decur.artifacts.paths import Cell, Paths, Run
from decur.artifacts.provenance import file_checksum, fingerprint, git_commit
from decur.artifacts.timing import JobTimer
from decur.cli import main
from decur.config import explain_settings, parse_config, pretrain_settings, transfer_settings
from decur.config.experiments import Experiment
from decur.download.run import download
from decur.errors import DecurError
from decur.explain.run import explain
from decur.preprocess.run import preprocess
from decur.pretrain.loop import train_run
from decur.scenes.stand_ins import tar
from decur.tables.run import write_experiment
from decur.transfer.run import transfer
from tests.support.geonrw import write_tile
from tests.support.samples import flip_bit

RUN = Run("rgb-dem", "decur")
CELLS = [Cell("geonrw", name, "probe") for name in ("rgb", "dem")]
CONFIG = parse_config(
    {
        "scale": "small",
        "methods": ["decur"],
        "seeds": [0],
        "experiments": [],
        "datasets": {
            "geonrw": {
                "source": "scenes",
                "pixels": 16,
                "scenes": {"train": 24, "test": 16, "seed": 7},
            }
        },
        "scenarios": {
            "rgb-dem": {
                "modalities": {"rgb": "rgb", "dem": "dem"},
                "pretrain": {
                    "dataset": "geonrw",
                    "arch": "tiny",
                    "crop": 16,
                    "epochs": 1,
                    "batch_size": 12,
                    "dim": 16,
                    "dim_common": 8,
                },
            }
        },
        "transfer": {},
    }
)
ROWS = [{"label": "DeCUR", "method": "decur"}]
PANEL = {
    "scenario": "rgb-dem",
    "dataset": "geonrw",
    "protocols": ["probe"],
    "metrics": ["common"],
}
PANELS = [{**PANEL, "label": name, "modalities": name} for name in ("rgb", "dem")]
EXPERIMENTS = {
    name: Experiment.model_validate(
        {"title": name, "caption": "", "kind": kind, "rows": ROWS, "panels": PANELS}
    )
    for name, kind in (("table", "table"), ("histogram", "alignment"))
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a scale that went from scenes to a table and a figure."""
    paths = Paths(str(tmp_path_factory.mktemp("results")), "small")
    raw, shards = Path(paths.raw("geonrw")), Path(paths.shards("geonrw"))
    download("geonrw", CONFIG.datasets["geonrw"], raw)
    preprocess("geonrw", CONFIG.datasets["geonrw"], raw, shards)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "4711")
        patch.setenv("SLURM_RESTART_COUNT", "2")
        weights = train_run(pretrain_settings(CONFIG, RUN), shards, Path(paths.pretrain(str(RUN))))
    recipes = transfer_settings(CONFIG, RUN, CELLS)
    transfer(recipes, CELLS, weights, shards.parent, Path(paths.transfer(str(RUN))))
    explained = Path(paths.explain(str(RUN), "alignment"))
    explain("alignment", explain_settings(CONFIG, RUN, "alignment"), weights, shards, explained)
    for name, experiment in EXPERIMENTS.items():
        write_experiment(name, experiment, CONFIG, paths)
    return Path(paths.root)


@pytest.fixture
def moved(made: Path, tmp_path: Path) -> Path:
    """The same results in another place, to be changed."""
    return shutil.copytree(made, tmp_path / "elsewhere" / "renamed")


def paths_of(root: Path) -> Paths:
    return Paths(str(root.parent), root.name)


def states(link, found=None) -> dict[str, str]:
    """The state of everything in a chain, by name."""
    found = {} if found is None else found
    found[link.name] = link.state
    for part in link.inputs:
        states(part, found)
    return found


MANIFEST, CARD = "raw/geonrw/manifest.json", "shards/geonrw/card.json"
WEIGHTS = f"pretrain/{RUN}/weights.safetensors"
METRICS = [f"transfer/{RUN}/{cell}/metrics.json" for cell in CELLS]
ALIGNMENT = f"explain/{RUN}/alignment.csv"
CHAINS = {
    "tables/table.csv": {*METRICS, WEIGHTS, CARD, MANIFEST},
    "tables/table.md": {*METRICS, WEIGHTS, CARD, MANIFEST},
    "tables/histogram.json": {ALIGNMENT, WEIGHTS, CARD, MANIFEST},
    "figures/histogram.png": {ALIGNMENT, WEIGHTS, CARD, MANIFEST},
    METRICS[0]: {WEIGHTS, CARD, MANIFEST},
    ALIGNMENT: {WEIGHTS, CARD, MANIFEST},
    WEIGHTS: {CARD, MANIFEST},
    CARD: {MANIFEST},
    "shards/geonrw": {MANIFEST},
    MANIFEST: set(),
    "raw/geonrw": set(),
}


@pytest.mark.parametrize("product", CHAINS)
def test_every_product_of_a_moved_folder_leads_back_to_its_scenes(moved, product):
    chain = lineage(moved / product)
    found = states(chain)
    assert {name for name in found if name != chain.name} == CHAINS[product]
    assert changed(chain) == []
    assert {found[name] for name in CHAINS[product]} <= {AS_RECORDED}
    assert "scenes (train 24, test 16, seed 7)" in render(chain)


def test_the_tree_tells_settings_versions_and_the_job_once(made, capsys):
    assert main(["provenance", str(made / "tables" / "table.csv")]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith("tables/table.csv  [sha256:")
    assert sum(line.startswith("        ") and WEIGHTS in line for line in lines) == 2
    assert (
        text.count("method decur, seed 0") == text.count("SLURM job 4711, restarted 2 times") == 1
    )
    assert "see above" in text and "run rgb-dem/decur/default/seed-0" in text
    assert f"decur 0.1.0 ({git_commit()}), python 3." in text and "torch " in text


def test_products_record_versions_and_the_job_apart(made):
    metrics = json.loads((made / METRICS[0]).read_text())
    with safe_open(made / WEIGHTS, framework="np") as file:
        header = {key: json.loads(value) for key, value in file.metadata().items()}
    card, manifest = (json.loads((made / name).read_text()) for name in (CARD, MANIFEST))
    alignment = json.loads((made / ALIGNMENT).with_suffix(".json").read_text())
    for record in (metrics, header, card, manifest, alignment):
        assert {"started", "seconds", "host", "device", "gpus"} <= record["job"].keys()
        assert record["job"]["device"] == "cpu" and record["job"]["gpus"] == 0
        packages = record["provenance"]["packages"]
        assert packages["python"].startswith("3.") and packages["numpy"] == np.__version__
    assert header["job"]["slurm_job"] == "4711" and "slurm_job" not in metrics["job"]
    checksum = metrics["provenance"]["inputs"]["weights.safetensors"]
    assert checksum == fingerprint(made / WEIGHTS)


def test_a_table_is_the_same_whenever_its_results_were_made(moved):
    before = (moved / "tables" / "table.json").read_bytes()
    path = moved / METRICS[0]
    metrics = json.loads(path.read_text())
    metrics["job"]["seconds"] += 1
    metrics["provenance"]["inputs"]["weights.safetensors"] = "sha256:other"
    path.write_text(json.dumps(metrics))
    write_experiment("table", EXPERIMENTS["table"], CONFIG, paths_of(moved))
    assert (moved / "tables" / "table.json").read_bytes() == before


def edit(path: Path, change) -> None:
    """Change a JSON file in place."""
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree, indent=1))


@pytest.mark.parametrize("name", ["tables/table.csv", METRICS[1], WEIGHTS, CARD, MANIFEST])
def test_what_was_changed_since_is_named_and_fails(moved, capsys, name):
    path = moved / name
    if path.suffix == ".safetensors":
        flip_bit(path, -1)
    elif path.suffix == ".csv":
        path.write_text(path.read_text() + "\n")
    else:
        changes = {
            METRICS[1]: lambda tree: tree["metrics"].update(common=99.0),
            CARD: lambda tree: tree["counts"].update(train=25),
            MANIFEST: lambda tree: tree["provenance"]["inputs"].update({"files and sizes": "x"}),
        }
        edit(path, changes[name])
    table = moved / "tables" / "table.csv"
    assert changed(lineage(table)) == [name]
    assert main(["provenance", str(table)]) == 1
    out, error = capsys.readouterr()
    assert any(name in line and f"[{CHANGED}]" in line for line in out.splitlines())
    assert error.startswith("decur: error: ") and name in error and error.count("\n") == 1


def test_shards_that_were_made_anew_from_other_data_are_told(moved):
    other = CONFIG.datasets["geonrw"].model_copy(update={"pixels": 20})
    preprocess("geonrw", other, moved / "raw" / "geonrw", moved / "shards" / "geonrw")
    found = states(lineage(moved / WEIGHTS))
    assert found[CARD] == CHANGED and found[MANIFEST] == AS_RECORDED


@pytest.mark.parametrize("name", [METRICS[0], WEIGHTS, CARD, MANIFEST])
def test_what_is_no_longer_here_is_told_and_does_not_fail(moved, capsys, name):
    (moved / name).unlink()
    assert main(["provenance", str(moved / "tables" / "table.csv")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if name in line]
    assert lines and all(f"[{MISSING}]" in line for line in lines)


@pytest.mark.parametrize("name", [METRICS[0], WEIGHTS, CARD, MANIFEST])
def test_a_damaged_file_is_an_error_as_a_product_and_a_change_as_an_input(moved, name):
    path = moved / name
    os.truncate(path, 50)
    with pytest.raises(DecurError, match=re.escape(path.name)):
        lineage(path)
    assert changed(lineage(moved / "tables" / "table.csv")) == [name]


def test_what_is_no_product_is_refused_in_one_line(moved, tmp_path):
    stray = tmp_path / "notes.txt"
    stray.write_text("")
    for path in (stray, tmp_path):
        with pytest.raises(DecurError, match=r"is not an artifact; name a table, a figure"):
            lineage(path)
    with pytest.raises(DecurError, match=r"absent\.csv: no such file"):
        lineage(moved / "tables" / "absent.csv")
    (moved / "tables" / "mine.csv").write_text("")
    with pytest.raises(DecurError, match=r"mine\.json"):
        lineage(moved / "tables" / "mine.csv")
    (moved / "tables" / "mine.json").write_text("{}")
    with pytest.raises(DecurError, match=r"mine\.json"):
        lineage(moved / "tables" / "mine.csv")


def test_archives_are_named_and_known_by_their_size(tmp_path):
    write_tile(tmp_path / "tiles", "aachen", "280_5650")
    files = {
        str(path.relative_to(tmp_path / "tiles")): path.read_bytes()
        for path in (tmp_path / "tiles").rglob("*")
        if path.is_file()
    }
    given = tmp_path / "given"
    given.mkdir()
    archive = given / "nrw_dataset.tar.gz"
    archive.write_bytes(tar(files.items()))
    checksum = file_checksum(archive)
    (given / "list").write_text(f"{checksum.removeprefix('sha256:')}  {archive.name}\n")
    chosen = CONFIG.datasets["geonrw"].model_copy(
        update={
            "source": "archive",
            "scenes": None,
            "archives": str(given),
            "checksums": str(given / "list"),
        }
    )
    root = tmp_path / "results" / "small"
    download("geonrw", chosen, root / "raw" / "geonrw")
    preprocess("geonrw", chosen, root / "raw" / "geonrw", root / "shards" / "geonrw")
    ((link,),) = (part.inputs for part in lineage(root / "shards" / "geonrw").inputs)
    assert link.checksum == checksum and link.state == SAME_SIZE
    assert link.facts[0] == f"{archive.stat().st_size} bytes"
    assert link.facts[1].endswith("/nrw_dataset.tar.gz")
    archive.write_bytes(b"other")
    assert len(changed(lineage(root / "raw" / "geonrw"))) == 1
    archive.unlink()
    assert states(lineage(root / "raw" / "geonrw"))[link.name] == MISSING


def test_imagenet_files_are_inputs_of_the_weights(moved, tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "resnet.pth"
    file.write_bytes(b"weights")
    with safe_open(moved / WEIGHTS, framework="np") as weights:
        header = dict(weights.metadata())
    origin = json.loads(header["provenance"])
    origin["settings"]["imagenet"] = str(file)
    origin["inputs"][file.name] = file_checksum(file)
    header["provenance"] = json.dumps(origin)
    save_file({"x": np.zeros(1)}, moved / WEIGHTS, metadata=header)
    assert states(lineage(moved / WEIGHTS))[str(file)] == AS_RECORDED
    file.write_bytes(b"others")
    assert changed(lineage(moved / WEIGHTS)) == [str(file)]
    file.unlink()
    assert states(lineage(moved / WEIGHTS))[str(file)] == MISSING


def test_a_job_that_goes_on_adds_to_the_time_of_the_one_before():
    job = JobTimer()
    job.go_on_from({"started": "2026-01-01T00:00:00+00:00", "seconds": 100.0})
    times = job.times()
    assert times["started"] == "2026-01-01T00:00:00+00:00" and 100 <= times["seconds"] < 110


def test_fingerprints_name_the_content(made):
    card = json.loads((made / CARD).read_text())
    assert fingerprint(made / CARD) == card["checksum"]
    assert fingerprint(made / ALIGNMENT) == file_checksum(made / ALIGNMENT)
    assert fingerprint(made / METRICS[0]) != file_checksum(made / METRICS[0])
