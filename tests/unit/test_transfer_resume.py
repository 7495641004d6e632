"""The cells of a run in one job: what the next job keeps, and what it makes again."""

import json
import shutil

import pytest

from decur import datasets
from decur.artifacts.paths import Cell, Paths
from decur.artifacts.provenance import fingerprint
from decur.artifacts.transferred import check_transferred
from decur.config import Transfer, TransferSettings
from decur.datasets import Dataset
from decur.errors import DecurError
from decur.pretrain.loop import train_run
from decur.transfer import run as stage
from tests.support.pretraining import settings as pretrain_settings

RUN = "sar-optical/decur/default/seed-1"
CELLS = [
    Cell("pairs", "sar", "linear"),
    Cell("pairs", "sar", "knn"),
    Cell("pairs", "sar+optical", "fine-tune", 50),
    Cell("pairs", "optical", "probe"),
]


def settings(**changes):
    head = {"optimizer": "adamw", "lr": 0.01, "epochs": 1}
    tree = {"task": "classification", "crop": 16, "batch_size": 12, "predictions": 2}
    recipe = Transfer.model_validate({**tree, "linear": head, "fine_tune": head, **changes})
    other = recipe.model_copy(update={"batch_size": 6})
    pretrained = pretrain_settings(epochs=1)
    return TransferSettings(run=RUN, pretrain=pretrained, recipes={"pairs": recipe, "other": other})


@pytest.fixture
def job(shards_root, tmp_path, monkeypatch):
    """A job that evaluates cells with `resume`, and returns those that it did not keep."""
    facts = Dataset("pairs", "Pairs", (), "none", "none", classes=("a", "b", "c"))
    monkeypatch.setattr(datasets, "facts", lambda name, card: facts)
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    evaluate, done = stage.evaluate_cell, []

    def counted(inputs):
        done.append(inputs.cell)
        return evaluate(inputs)

    def run(chosen=None, cells=CELLS, fail_at=None):
        done.clear()

        def failing(inputs):
            if inputs.cell == fail_at:
                raise KeyboardInterrupt
            return counted(inputs)

        monkeypatch.setattr(stage, "evaluate_cell", failing)
        stage.transfer(chosen or settings(), cells, weights, shards_root.parent, out, resume=True)
        return set(done)

    out = tmp_path / "transfer"
    run.out, run.record, run.done = out, out / "cells.json", done
    run.metrics = lambda cell: out / str(cell) / "metrics.json"
    return run


def snakemake_starts_a_job(job):
    """Snakemake deletes what a job declares before it runs."""
    job.record.unlink(missing_ok=True)


def test_the_record_lists_every_cell_with_the_fingerprint_of_its_metrics(job):
    assert job() == {*CELLS}
    record = json.loads(job.record.read_text())
    assert record["run"] == RUN
    assert record["cells"] == {str(cell): fingerprint(job.metrics(cell)) for cell in CELLS}
    assert record["provenance"]["inputs"].keys() == {"pairs", "weights.safetensors"}


def test_an_interrupted_job_goes_on_cell_by_cell(job):
    with pytest.raises(KeyboardInterrupt):
        job(fail_at=CELLS[2])
    left = {cell for cell in CELLS if job.metrics(cell).is_file()}
    assert left and not job.record.exists()
    kept = {cell: job.metrics(cell).read_bytes() for cell in left}
    assert job() == {*CELLS} - left
    assert {cell: job.metrics(cell).read_bytes() for cell in left} == kept
    assert json.loads(job.record.read_text())["cells"].keys() == {str(cell) for cell in CELLS}


def test_metrics_of_jobs_without_a_record_are_taken_over(job):
    """As earlier versions, and workflows with one job per cell, have left them."""
    job()
    snakemake_starts_a_job(job)
    shutil.rmtree(job.out / ".decur")
    assert job() == set()
    assert job.record.is_file()


def test_a_finished_job_that_is_asked_for_again_makes_everything_anew(job):
    """What `snakemake --forcerun transfer` asks for, also if it is interrupted."""
    job()
    snakemake_starts_a_job(job)
    with pytest.raises(KeyboardInterrupt):
        job(fail_at=CELLS[2])
    again = {*job.done}
    assert again and again.isdisjoint(job())
    snakemake_starts_a_job(job)
    assert job() == {*CELLS}


def test_changed_settings_make_cells_anew(job):
    job()
    snakemake_starts_a_job(job)
    assert job(settings(batch_size=6)) == {*CELLS}


def test_settings_of_how_a_job_runs_or_of_other_datasets_keep_cells(job):
    with pytest.raises(KeyboardInterrupt):
        job(fail_at=CELLS[2])
    left = {cell for cell in CELLS if job.metrics(cell).is_file()}
    chosen = settings()
    pretrained = chosen.pretrain.model_copy(update={"checkpoint_steps": 7})
    recipes = {"pairs": chosen.recipes["pairs"]}
    changed = chosen.model_copy(update={"pretrain": pretrained, "recipes": recipes})
    assert job(changed) == {*CELLS} - left


def test_a_cell_more_leaves_the_others_as_they_are(job):
    job(cells=CELLS[:2])
    snakemake_starts_a_job(job)
    assert job() == {*CELLS[2:]}


@pytest.mark.parametrize("key", ["inputs", "decur", "packages"])
def test_other_inputs_or_versions_make_a_cell_anew(job, key):
    job()
    snakemake_starts_a_job(job)
    path = job.metrics(CELLS[1])
    found = json.loads(path.read_text())
    found["provenance"][key] = {} if key != "decur" else "0.0.1"
    path.write_text(json.dumps(found))
    assert job() == {CELLS[1]}


@pytest.mark.parametrize("name", ["metrics.json", "labels.txt", "predictions"])
def test_what_was_deleted_is_made_again(job, name):
    job()
    snakemake_starts_a_job(job)
    path = job.out / str(CELLS[0]) / name
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert job() == {CELLS[0]}
    assert path.exists()


def test_damaged_metrics_are_not_ours_to_replace(job):
    job()
    snakemake_starts_a_job(job)
    job.metrics(CELLS[0]).write_text("{")
    with pytest.raises(DecurError, match="was not written by decur, or was changed"):
        job()


def test_deleted_metrics_are_missed_only_where_a_record_lists_them(job):
    paths = {str(cell): job.metrics(cell) for cell in CELLS}
    check_transferred(job.record, paths)
    job(cells=CELLS[:2])
    check_transferred(job.record, paths)
    job.metrics(CELLS[0]).unlink()
    with pytest.raises(DecurError, match=r"metrics\.json: .*cells\.json"):
        check_transferred(job.record, paths)
    check_transferred(job.record, {str(c): job.metrics(c) for c in CELLS[1:]})


def test_the_record_lies_in_the_folder_of_the_run():
    paths = Paths("results", "demo")
    assert paths.transferred(RUN) == f"{paths.transfer(RUN)}/{stage.TRANSFERRED}"
