"""The real workflow on small input, through the real Snakemake."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml

from tests.support import HOME, TINY
from tests.support.archives import PACKERS, pack
from tests.support.http_server import serving
from tests.support.workflow import command, planned, snakemake

SAMPLES = {"ssl4eo-s12": 1, "bigearthnet": 5, "geonrw": 640, "sun-rgbd": 32, "nyuv2": 18}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the tiny scale has run from nothing, undisturbed."""
    folder = tmp_path_factory.mktemp("finished")
    snakemake(folder, "--configfile", TINY)
    return folder


def tables(folder):
    found = {}
    for kind in ("tables", "figures"):
        for path in sorted((folder / "results" / "tiny" / kind).iterdir()):
            found[f"{kind}/{path.name}"] = path.read_bytes()
    return found


def test_a_dataset_is_preprocessed_by_several_jobs_where_the_config_says_so(tmp_path):
    tree = yaml.safe_load(TINY.read_text())
    tree["datasets"]["geonrw"]["pieces"] = 3
    (tmp_path / "pieces.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    shards = "results/tiny/shards/geonrw"
    done = snakemake(tmp_path, f"{shards}/card.json", "--configfile", "pieces.yaml")
    assert "5 of 5 steps" in done.stderr  # download, three pieces, the last job
    assert not list((tmp_path / f"{shards}.pieces").glob("*"))
    again = snakemake(tmp_path, f"{shards}/card.json", "--configfile", "pieces.yaml")
    assert "Nothing to be done" in again.stderr


@pytest.mark.slow
def test_a_finished_run_has_its_tables_and_nothing_left_to_do(finished):
    explained = ("fig4a", "fig4b", "fig5-spectral")
    drawn = ("factors", "factors-dimensions", "gallery-geonrw", *explained)
    assert set(tables(finished)) == {
        *(f"tables/{n}.{s}" for n in ("table1", *drawn) for s in ("csv", "md", "tex", "json")),
        *(f"figures/{name}.{suffix}" for name in drawn for suffix in ("png", "svg")),
    }
    frame = pd.read_csv(finished / "results" / "tiny" / "tables" / "table1.csv")
    ours = frame[frame["row"].isin(["DeCUR", "Barlow Twins", "Rand. Init.", "Supervised"])]
    assert ours["ours_mean"].notna().all()
    shown = pd.read_csv(finished / "results" / "tiny" / "tables" / "gallery-geonrw.csv")
    assert len(shown) == 2 * 3 and shown["accuracy"].notna().all()
    assert "Nothing to be done" in snakemake(finished, "--configfile", TINY).stderr


@pytest.mark.slow
def test_every_product_says_where_it_is_from(finished):
    root = finished / "results" / "tiny"
    run = "sar-optical/decur/default/seed-0"
    path = root / "transfer" / run / "bigearthnet/sar/linear/labels-100/metrics.json"
    metrics = json.loads(path.read_text())
    card = json.loads((root / "shards/bigearthnet/card.json").read_text())
    pretrained = metrics["provenance"]["pretrained"]
    assert metrics["provenance"]["inputs"]["bigearthnet"] == card["checksum"]
    assert pretrained["settings"]["method"] == "decur"
    source = json.loads((root / "shards/ssl4eo-s12/card.json").read_text())
    assert pretrained["inputs"] == {"ssl4eo-s12": source["checksum"]}
    assert json.loads((root / "raw/ssl4eo-s12/manifest.json").read_text())["files"] > 1000
    assert (root / "explain" / run / "alignment.json").is_file()


@pytest.mark.slow
def test_the_chain_of_a_table_reaches_the_manifests_of_its_scenes(finished):
    table = "results/tiny/tables/table1.csv"
    command = [sys.executable, "-m", "decur", "provenance", table]
    done = subprocess.run(command, capture_output=True, text=True, cwd=finished, check=True)
    lines = [line.strip() for line in done.stdout.splitlines()]
    for name in ("ssl4eo-s12", "bigearthnet"):
        assert any(line.startswith(f"raw/{name}/manifest.json  [sha256:") for line in lines)
    assert any("scenes (train 48, test 24, seed 0)" in line for line in lines)
    assert "[changed since]" not in done.stdout and "[not here]" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reruns"),
    [
        (("transfer", "bigearthnet", "linear", "lr"), {"transfer", "table"}),
        (("scenarios", "sar-optical", "pretrain", "lr"), {"pretrain", "transfer", "explain"}),
        (("datasets", "bigearthnet", "scenes", "seed"), {"download", "preprocess", "transfer"}),
        (("explain", "alignment", "batches"), {"explain"}),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_changing_one_value_reruns_only_what_depends_on_it(finished, tmp_path, change, reruns):
    tree = yaml.safe_load(TINY.read_text())
    *parents, key = change
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
    node[key] = node.get(key, 1) * 2 + 1
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(tree, sort_keys=False))
    jobs = planned(finished, "--configfile", changed)
    assert set(jobs) - {"all", "total", "config"} == reruns | {"table", "report"}
    if "download" in reruns:
        assert jobs["download"] == jobs["preprocess"] == 1


@pytest.mark.slow
def test_a_single_stage_runs_alone(finished):
    jobs = planned(finished, "pretrain_all", "--configfile", TINY, "--forcerun", "pretrain")
    assert set(jobs) == {"pretrain", "pretrain_all", "total"}


@pytest.mark.slow
def test_a_profile_can_have_several_processes_share_a_pretraining(finished, tmp_path):
    shutil.copytree(finished / "results", tmp_path / "results")
    run = tmp_path / "results/tiny/pretrain/sar-optical/decur/default/seed-0"
    alone = (run / "log.jsonl").read_text().splitlines()
    shutil.rmtree(run)
    launch = "torchrun --standalone --nproc-per-node 2 --no-python"
    target = (run / "weights.safetensors").relative_to(tmp_path)
    resources = ("--set-resources", f"pretrain:launch='{launch}'")
    done = snakemake(tmp_path, target, "--configfile", TINY, *resources, "--printshellcmds")
    assert f"{launch} decur pretrain" in done.stderr
    shared = (run / "log.jsonl").read_text().splitlines()
    assert len(shared) == len(alone)
    first, later = (json.loads(lines[0])["loss"] for lines in (alone, shared))
    assert later == pytest.approx(first, rel=1e-4)


@pytest.mark.long
def test_killed_and_restarted_ends_in_identical_tables(finished, tmp_path):
    """`kill -9` of Snakemake and its jobs, in the middle of pretraining and of transfer."""
    fewer = {"experiments": ["table1", "factors"]}
    config = tmp_path / "fewer.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(TINY.read_text()) | fewer, sort_keys=False))
    for glob in ("pretrain/*/*/*/*/checkpoints/*.pt", "transfer/**/metrics.json"):
        with (tmp_path / "killed.log").open("w") as log:
            started = subprocess.Popen(
                command(tmp_path, "--configfile", config, "--rerun-incomplete"),
                cwd=tmp_path,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            deadline = time.monotonic() + 300
            while not list((tmp_path / "results" / "tiny").glob(glob)):
                assert started.poll() is None, (tmp_path / "killed.log").read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        snakemake(tmp_path, "--configfile", config, "--unlock")
    done = snakemake(tmp_path, "--configfile", config, "--rerun-incomplete")
    assert "Nothing to be done" not in done.stderr
    again = tables(tmp_path)
    assert again.keys() >= {"tables/table1.csv", "tables/factors.md", "figures/factors.png"}
    assert again == {name: tables(finished)[name] for name in again}


@pytest.mark.slow
def test_the_report_is_there_and_is_whole(finished):
    page = (finished / "results" / "tiny" / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert "Not collated yet" not in page
    assert "Learning curves" in page
    assert "Nothing has been measured yet" not in page


@pytest.mark.slow
def test_the_report_of_snakemake_holds_every_table_and_figure(finished):
    snakemake(finished, "--configfile", TINY, "--report", "report.html")
    report = (finished / "report.html").read_text()
    for name in ("table1", "factors", "fig4a"):
        assert f"{name}.md" in report or name in report
    assert "Cross-modal alignment" in report


@pytest.mark.slow
def test_five_datasets_go_from_official_archives_to_verified_shards(real_frames, tmp_path):
    """The sample frames, packed like the official archives and fetched from a local server."""
    tree = yaml.safe_load((HOME / "config" / "samples.yaml").read_text())
    with serving() as server:
        for name in PACKERS:
            checksums = pack(name, real_frames, tmp_path / name)
            for path in (tmp_path / name).iterdir():
                server.serve(path.name, path.read_bytes())
            archive = {"source": "archive", "mirror": server.url, "checksums": str(checksums)}
            tree["datasets"][name] |= archive
        (tmp_path / "served.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        snakemake(tmp_path, "verify_all", "--configfile", "served.yaml")
    root = tmp_path / "results" / "samples"
    for name in PACKERS:
        assert "every byte is as it was written" in (root / f"verified/{name}.txt").read_text()
        card = json.loads((root / f"shards/{name}/card.json").read_text())
        assert sum(card["counts"].values()) == SAMPLES[name]
        manifest = json.loads((root / f"raw/{name}/manifest.json").read_text())
        assert all(part["checksum"].startswith("sha256:") for part in manifest["archives"])
