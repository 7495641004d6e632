"""Preflight jobs, their records, and the table of what to change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from decur.artifacts.paths import Paths
from decur.artifacts.preflight import Check, PreflightRecord
from decur.cli import main
from decur.config import DatasetSettings, load_config, parse_config
from decur.errors import DecurError
from decur.planning import preflight, rank_checks, storage_checks
from decur.planning.quota import Room, parse_quota, rooms
from decur.pretrain.trial import RankDevice
from tests.support import HOME, TINY
from tests.support.http_server import serving


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Results of the tiny scale that hold its configuration alone."""
    return made(tmp_path, yaml.safe_load(TINY.read_text()))


def made(folder: Path, tree: dict[str, object]) -> Paths:
    paths = Paths(str(folder / "results"), "tiny")
    config = parse_config(tree, "tiny")
    Path(paths.root).mkdir(parents=True)
    Path(paths.config()).write_text(config.model_dump_json())
    shutil.copy(HOME / "config" / "experiments.yaml", paths.experiments())
    return paths


def record(paths: Paths, job: str, *more: str) -> dict[str, Check]:
    out = Path(paths.preflight(job))
    assert main(["preflight", job, paths.root, "--out", str(out), *more]) == 0
    return {check.subject: check for check in PreflightRecord.read(out).checks}


@pytest.mark.parametrize("job", ["download", "cpu", "transfer", "explain"])
def test_a_job_that_is_well_leaves_a_record_without_errors(paths, job):
    found = record(paths, job)
    assert len(found) > 1
    assert all(check.state != "error" for check in found.values())
    assert all(check.remedy or check.state == "ok" for check in found.values())


def test_pretraining_steps_on_noise_for_every_scenario(paths):
    found = record(paths, "pretrain", "--threads", "1")
    assert "1 ranks is right" in found["all-reduce"].found
    for scenario in ("sar-optical", "rgb-dem"):
        step = found[f"step of {scenario} tiny+tiny"]
        assert step.state == "ok" and "images/s" in step.found


@pytest.mark.slow
def test_ranks_sum_and_share_a_batch_if_it_can_be_shared(tmp_path):
    tree = yaml.safe_load(TINY.read_text())
    tree["scenarios"]["rgb-dem"]["pretrain"] |= {"accumulate_chunks": 16}
    paths = made(tmp_path, tree)
    out = Path(paths.preflight("pretrain"))
    words = ("preflight", "pretrain", paths.root, "--out", str(out))
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    subprocess.run([sys.executable, *launch, "-m", "decur", *words], check=True, timeout=300)
    found = {check.subject: check for check in PreflightRecord.read(out).checks}
    assert "sum over 2 ranks is right" in found["all-reduce"].found
    assert found["step of sar-optical tiny+tiny"].found.startswith("batch 16:")
    refused = found["step of rgb-dem tiny+tiny"]
    assert refused.state == "error" and "16 chunks" in refused.found and refused.remedy


@pytest.mark.slow
def test_an_imagenet_file_that_does_not_fit_is_a_row(tmp_path):
    weights = tmp_path / "imagenet.pth"
    weights.write_bytes(b"no weights")
    tree = yaml.safe_load(TINY.read_text()) | {"methods": ["decur", "imagenet"]}
    del tree["experiments"]
    for scenario in tree["scenarios"].values():
        scenario["pretrain"] |= {"arch": "resnet18", "imagenet": str(weights)}
    paths = made(tmp_path, tree)
    archs = rank_checks.networks(load_config(paths.config()), Path(paths.root))
    assert any(settings.imagenet for settings in archs)
    found = record(paths, "pretrain")
    assert found["ImageNet for sar-optical resnet18+resnet18"].state == "error"


def test_too_few_cores_are_a_warning(paths):
    cores = len(os.sched_getaffinity(0))
    assert record(paths, "cpu", "--threads", str(cores))["cores"].state == "ok"
    found = record(paths, "cpu", "--threads", str(cores + 1))["cores"]
    assert found.state == "warning" and "set-threads" in found.remedy


def test_a_check_that_fails_is_the_last_row_of_its_job(paths, monkeypatch):
    def broken(config, root):
        yield Check(subject="first", state="ok", found="well")
        raise OSError("libcuda.so: cannot open shared object file")

    monkeypatch.setitem(preflight.JOBS, "explain", broken)
    found = record(paths, "explain")
    assert [*found] == ["cores", "first", "explain"]
    assert "libcuda" in found["explain"].found and found["explain"].state == "error"


def test_a_lost_job_leaves_the_last_line_of_its_log(paths, tmp_path):
    log = tmp_path / "job.log"
    log.write_text("step\nsrun: error: n1: task 0: Out Of Memory\n")
    found = record(paths, "pretrain", "--lost", str(log))
    assert "Out Of Memory" in found["job"].found
    record(paths, "pretrain", "--lost", str(tmp_path / "none.log"))


def test_the_table_has_every_job_also_those_without_a_record(paths, capsys):
    record(paths, "cpu")
    Path(paths.preflight("explain")).write_text("{")
    capsys.readouterr()
    assert main(["preflight", "table", paths.root]) == 0
    told = capsys.readouterr().out
    text = Path(paths.preflight_table()).read_text()
    for table in (told, text):
        assert {line.split()[0] for line in table.splitlines() if line.strip()} >= {*preflight.JOBS}
    assert text.count("no record") == 4
    assert "4 errors, 0 warnings" in text


def test_a_record_needs_a_place(paths, capsys):
    assert main(["preflight", "cpu", paths.root]) == 1
    assert "--out" in capsys.readouterr().err


def devices(*identities: str) -> list[RankDevice]:
    return [RankDevice(i, "n1", 8, "A100", 80, name) for i, name in enumerate(identities)]


def test_every_rank_needs_a_gpu_of_its_own(monkeypatch):
    monkeypatch.delenv(rank_checks.GIVEN, raising=False)
    (own,) = rank_checks.check_devices(devices("a", "b"))
    assert own.state == "ok" and "2 ranks on n1: A100, 80 GiB" in own.found
    (shared,) = rank_checks.check_devices(devices("a", "a"))
    assert shared.state == "error" and "tasks_per_gpu" in shared.remedy
    (none,) = rank_checks.check_devices(devices(""))
    assert none.state == "warning"
    monkeypatch.setenv(rank_checks.GIVEN, "3")
    (unused,) = rank_checks.check_devices(devices(""))
    assert unused.state == "error" and "torch uses none" in unused.found


@pytest.fixture
def one_part(monkeypatch):
    """GeoNRW's archive at the links given."""

    def place(*urls):
        monkeypatch.setattr(storage_checks, "_urls", lambda name, settings: [urls])

    return place


def checked_links(tmp_path, **settings):
    tree = yaml.safe_load(TINY.read_text())
    tree["datasets"]["geonrw"] = {"pixels": 24} | settings
    found = record(made(tmp_path, tree), "download")
    return found["links of geonrw"]


def test_links_that_answer_are_well_if_one_of_a_part_does(tmp_path, one_part):
    with serving() as server:
        server.serve("geonrw.tar.gz", b"x" * 100_000)
        one_part(f"{server.url}/none", f"{server.url}/geonrw.tar.gz")
        found = checked_links(tmp_path)
    assert found.state == "ok" and found.found == "1 of 1 answer"


def test_nodes_without_internet_are_told_to_download_on_the_login_node(tmp_path, one_part):
    one_part("http://127.0.0.1:1/geonrw.tar.gz")
    found = checked_links(tmp_path)
    assert found.state == "error" and "0 of 1 answer" in found.found
    assert "--executor local" in found.remedy and "download_all" in found.remedy


def test_links_are_not_asked_of_data_that_are_there(tmp_path, one_part):
    one_part("http://127.0.0.1:1/geonrw.tar.gz")
    assert checked_links(tmp_path, folder=str(tmp_path)).state == "ok"


def test_a_mirror_comes_before_the_links_of_a_dataset():
    (urls,) = storage_checks._urls("geonrw", DatasetSettings(mirror="http://here/"))[:1]
    assert urls[0].startswith("http://here/") and len(urls) > 1


QUOTA = """Disk quotas for user ann (uid 1000):
     Filesystem   blocks   quota   limit   grace   files   quota   limit   grace
/dev/sda1 1000000 2000000 2500000 0 900 1000 1100 0
"""
LFS = """Disk quotas for usr ann (uid 1000):
      Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
/lustre/a-very-long-name
                 3000000* 2000000 2500000 6d23h 900       0       0       -
"""


def test_quotas_of_both_commands_are_read():
    (room,) = parse_quota(QUOTA)
    assert room == Room("quota of /dev/sda1", pytest.approx(1.024), 100)
    (room,) = parse_quota(LFS)
    assert room == Room("quota of /lustre/a-very-long-name", 0.0, None)
    assert [*parse_quota("Disk quotas for user ann (uid 1000): none\n")] == []


@pytest.mark.parametrize(
    ("gigabytes", "files", "state"),
    [(5.0, 10, "error"), (0.0, 10**6, "error"), (5.0, None, "ok"), (None, 10**6, "ok")],
)
def test_too_little_room_is_an_error(monkeypatch, paths, gigabytes, files, state):
    room = Room("quota of /x", gigabytes, files)
    monkeypatch.setattr(storage_checks, "rooms", lambda folder: [room])
    found = record(paths, "cpu")["quota of /x"]
    assert found.state == state and bool(found.remedy) == (state == "error")


def test_the_room_of_a_disk_is_that_of_its_file_system(tmp_path):
    (disk, *_) = rooms(tmp_path)
    free = shutil.disk_usage(tmp_path).free / 1e9
    assert disk.gigabytes == pytest.approx(free, rel=0.1)


def test_a_damaged_record_is_one_line(tmp_path):
    path = tmp_path / "cpu.json"
    for text in ("", "[]", '{"job": 1}'):
        path.write_text(text)
        with pytest.raises(DecurError, match=r"cpu\.json"):
            PreflightRecord.read(path)
