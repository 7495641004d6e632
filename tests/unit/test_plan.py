"""What a target would cost: hand-computed jobs, and the real dry run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from decur.artifacts.paths import Cell, Paths, Run
from decur.cli import main
from decur.config import (
    DatasetSettings,
    PretrainSettings,
    Recipe,
    Transfer,
    TransferSettings,
    explain_settings,
    explain_settings_type,
    parse_config,
    pretrain_settings,
    transfer_settings,
)
from decur.config.explainers import TSNE_MOVE
from decur.planning import costs
from decur.planning.costs import Cost
from decur.planning.pending import Job, Pending, dry_run
from decur.planning.plan import as_table, estimate, plan, stage_of

HOME = Path(__file__).parents[2]
TINY = HOME / "tests" / "workflow" / "tiny.yaml"
MODALITIES = {"sar": "sar", "optical": "optical"}
STEP = Recipe(optimizer="sgd", lr=0.1, epochs=10)


def pretrain(method="decur", **changes):
    fixed = {"scenario": "sar-optical", "method": method, "seed": 0, "modalities": MODALITIES}
    return PretrainSettings(**{"dataset": "ssl4eo-s12", **fixed, **changes})


def transfer(arch="resnet50", **changes):
    recipe = {"task": "classification", "linear": STEP, "fine_tune": STEP, **changes}
    recipes = {"bigearthnet": Transfer(**recipe)}
    return TransferSettings(run="a/b/c/seed-0", pretrain=pretrain(arch=arch), recipes=recipes)


def transferred(protocol, modalities="sar", labels=100.0, **changes):
    cell = Cell("bigearthnet", modalities, protocol, labels)
    counts = {"bigearthnet": {"train": 9000, "val": 3000}}
    cost = costs.transfer_cost(transfer(**changes), [cell], counts, 1)
    return cost.gpu * 3600 * costs.TRANSFER_IMAGES  # images of 224 pixels, trained on


def pending(*jobs, transfers=None, **datasets):
    """Jobs of the tiny scale, with the datasets in place of its own where they are given."""
    tree = yaml.safe_load(TINY.read_text())
    tree["datasets"] |= datasets
    return Pending([*jobs], parse_config(tree), transfers or {})


def test_the_paper_pretrains_for_120_gpu_hours():
    cost = costs.pretrain_cost(pretrain(), {"train": 250_000}, threads=8)
    assert cost.gpu == pytest.approx(120, rel=0.01)
    assert cost.cpu == pytest.approx(8 * cost.gpu)
    # Two ResNet-50s and projectors, 2 x (23.5 + 16.8 + 67.1 + 67.1) million numbers of 4 bytes:
    # weights, and two checkpoints with as much again of the optimiser's.
    assert cost.stored == pytest.approx(2 * 0.1745 * 4, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 1),
        ({"method": "barlow-twins"}, 1 / 2),
        ({"method": "barlow-twins-single"}, 1),
        ({"intra": False}, 1 / 2),
        ({"epochs": 50}, 1 / 2),
        ({"crop": 112}, 1 / 4),
        ({"arch": "mit_b5"}, 11.72 / 4.09),
        ({"dataset": "geonrw"}, 231 / 771),
        ({"method": "random"}, 0),
    ],
)
def test_pretraining_costs_by_its_settings(changes, factor):
    counts = {"train": 1000}
    whole = costs.pretrain_cost(pretrain(), counts, 1).gpu
    assert costs.pretrain_cost(pretrain(**changes), counts, 1).gpu == pytest.approx(factor * whole)


def test_a_small_net_takes_cores_and_no_gpu():
    cost = costs.pretrain_cost(pretrain(arch="tiny", crop=32, epochs=1), {"train": 4200}, 1)
    assert cost.gpu == 0
    assert cost.cpu * 3600 == pytest.approx(4, rel=0.01)  # 4 x 4,200 images at 4,200 a second


@pytest.mark.parametrize(
    ("arguments", "images"),
    [
        ({"protocol": "fine-tune"}, 10 * 9000 + 3000 / 3),
        ({"protocol": "fine-tune", "labels": 1}, 10 * 90 + 3000 / 3),
        ({"protocol": "linear"}, (10 * 9000 + 3000) / 3),
        ({"protocol": "linear", "augment": False}, (9000 + 3000) / 3),
        ({"protocol": "knn"}, (9000 + 3000) / 3),
        ({"protocol": "logistic"}, (9000 + 3000) / 3),
        # Evaluated once more with each modality absent.
        ({"protocol": "fine-tune", "modalities": "sar+optical"}, 2 * (10 * 9000 + 2 * 3000 / 3)),
        ({"protocol": "fine-tune", "crop": 112}, (10 * 9000 + 3000 / 3) / 4),
    ],
)
def test_transfer_costs_by_epochs_labels_and_modalities(arguments, images):
    assert transferred(**arguments) == pytest.approx(images)


def test_data_that_nobody_knows_the_size_of_are_named():
    settings = DatasetSettings(source="samples", folder="x")
    assert costs.preprocess_cost("ombria", settings, 1).unknown == {"ombria"}
    assert costs.pretrain_cost(pretrain(), {}, 1).unknown == {"ssl4eo-s12"}


def test_shards_are_as_large_as_the_readme_says():
    sizes = {"ssl4eo-s12": 264, "bigearthnet": 128, "geonrw": 250, "sun-rgbd": (480, 640)}
    stored = {
        name: costs.preprocess_cost(name, DatasetSettings(pixels=pixels), 1).stored
        for name, pixels in sizes.items()
    }
    assert {name: round(size) for name, size in stored.items()} == {
        "ssl4eo-s12": 1050,
        "bigearthnet": 128,
        "geonrw": 39,
        "sun-rgbd": 22,
    }


def test_pieces_share_the_cost_of_a_dataset_and_the_last_job_checks_them():
    dataset = {"source": "archive", "pixels": 250}
    pieces = [{"dataset": "geonrw", "piece": f"{n}-of-2"} for n in (1, 2)]
    jobs = [Job("preprocess_piece", wildcards, 4) for wildcards in pieces]
    found = pending(*jobs, Job("preprocess", {"dataset": "geonrw"}, 4), geonrw=dataset)
    cost = estimate(found)["preprocess"]
    size = 124_528 * 250 * 250 * 5
    assert cost.stored == pytest.approx(size / 1e9)
    assert cost.cpu * 3600 == pytest.approx(124_528 / 75 + size / costs.CHECK_RATE)
    assert "| preprocess | 3 | 0.49 |  |  | 39 |" in as_table(found)


def test_a_job_costs_by_the_settings_of_its_run_and_cells():
    run, kind = "sar-optical/decur/default/seed-0", "alignment"
    cells = [Cell("bigearthnet", "sar", protocol) for protocol in ("linear", "fine-tune")]
    makes = [Job("download", {"dataset": name}, 1) for name in ("ssl4eo-s12", "bigearthnet")]
    pretrains = Job("pretrain", {"run": run}, 1)
    explains = Job("explain", {"run": run, "kind": kind}, 1)
    together = Job("transfer", {"run": run}, 1)
    single = [Job("transfer", {"run": run, "cell": str(cell)}, 1) for cell in cells]
    transfers = {Run.parse(run): cells}
    whole = pending(*makes, pretrains, explains, together, transfers=transfers)
    config, found = whole.config, estimate(whole)
    train, tested = {"train": 48, "test": 24}, {"train": 200, "val": 30}
    settings = pretrain_settings(config, Run.parse(run))
    assert found["pretrain"] == costs.pretrain_cost(settings, train, 1)
    settings = explain_settings(config, Run.parse(run), kind)
    assert found["explain"] == costs.explain_cost(kind, settings, train, 1)
    settings = transfer_settings(config, Run.parse(run), cells)
    assert found["transfer"] == costs.transfer_cost(settings, cells, {"bigearthnet": tested}, 1)
    apart = estimate(pending(*makes, *single, transfers=transfers))["transfer"]
    assert apart.cpu - found["transfer"].cpu == pytest.approx(costs.SHORT.cpu)


def test_every_rule_that_makes_something_counts_for_a_stage():
    rules = {
        "download": "download",
        "preprocess": "preprocess",
        "preprocess_piece": "preprocess",
        "verify": "verify",
        "pretrain": "pretrain",
        "transfer": "transfer",
        "explain": "explain",
        "config": "tables",
        "table_table1": "tables",
        "report": "tables",
    }
    assert {rule: stage_of(Job(rule, {}, 1)) for rule in rules} == rules


def test_costs_add_up():
    both = Cost(1, 2, 3, 4, frozenset("a")) + Cost(1, 1, 1, 1, frozenset("b"))
    assert both == Cost(2, 3, 4, 5, frozenset("ab"))


@pytest.mark.slow
def test_what_is_done_already_does_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(HOME)
    config = {"configfiles": [str(TINY)], "config": [f"results={tmp_path}"]}
    before = plan(["pretrain_all"], **config)
    assert "| download | 2 |" in before and "| preprocess | 2 |" in before
    paths = Paths(str(tmp_path), "tiny")
    for path in (Path(paths.manifest("geonrw")), Path(paths.card("geonrw"))):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"counts": {"train": 32}}))
    benchmark = Path(paths.benchmark("download", "ssl4eo-s12"))
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\tcpu_time\n9\t7200\n")
    after = plan(["pretrain_all"], **config)
    assert "| download | 1 | 2.00 |" in after and "| preprocess | 1 |" in after
    assert "Not included" not in after


@pytest.mark.slow
def test_snakemake_describes_its_jobs_with_wildcards_threads_and_benchmarks(tmp_path, monkeypatch):
    monkeypatch.chdir(HOME)
    threads = ["--set-threads", "pretrain=7"]
    given = ["--configfile", str(TINY), "--config", f"results={tmp_path}", *threads]
    found = dry_run(["transfer_all", *given])
    paths, run = Paths(str(tmp_path), "tiny"), "sar-optical/decur/default/seed-0"
    assert found.config.results == str(tmp_path) and found.config.scale == "tiny"
    assert Job("pretrain", {"run": run}, 7, paths.benchmark("pretrain", run)) in found.jobs
    assert {job.rule for job in found.jobs} == {"download", "preprocess", "pretrain", "transfer"}
    transferred = {job.wildcards["run"] for job in found.jobs if job.rule == "transfer"}
    assert transferred == {str(run) for run in found.transfers}
    assert Cell("bigearthnet", "sar", "linear") in found.transfers[Run.parse(run)]
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--profile", "slum"], "profile directory given (slum)"), (["nothing"], "nothing")],
)
def test_what_snakemake_does_not_know_ends_in_one_line(monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(HOME)
    assert main(["plan", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("decur: error: snakemake --dry-run: ") and words in error
    assert error.count("\n") == 1


def test_planning_imports_neither_torch_nor_pandas():
    code = "import sys, decur.planning.plan; sys.exit(bool({'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def explaining(kind, counts, arch="resnet50", method="decur", **recipe):
    base = pretrain(method=method, arch=arch, dim=512, dim_common=448, splits=("train",))
    settings = explain_settings_type(kind)(run="a/b/c/seed-0", pretrain=base, recipe=recipe)
    return costs.explain_cost(kind, settings, counts, 1)


def test_explainers_cost_by_what_they_look_at():
    counts = {"train": 5000, "test": 700}
    seen = {
        kind: explaining(kind, counts).gpu * 3600 * costs.TRANSFER_IMAGES
        for kind in ("saliency", "gradcam", "spectral")
    }
    # Forward alone is a third of what an image costs; integrated gradients also go back.
    assert seen["saliency"] == pytest.approx(2 * 700 / 3)
    assert seen["gradcam"] == pytest.approx(2 * 4 / 3)
    assert seen["spectral"] == pytest.approx(2 * 200 * 200 * 2)
    alone = explaining("spectral", counts, method="clip").gpu
    assert alone == pytest.approx(explaining("spectral", counts).gpu / 2)
    assert explaining("saliency", {"train": 700}).gpu == explaining("saliency", counts).gpu
    assert explaining("saliency", {}).unknown == {"ssl4eo-s12"}
    assert explaining("saliency", counts, arch="tiny").gpu == 0
    longer = explaining("tsne", counts, iterations=4000).cpu - explaining("tsne", counts).cpu
    assert longer * 3600 == pytest.approx(TSNE_MOVE * 1024 * 2000 * 4)
