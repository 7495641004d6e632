"""What the doctor says of machines that lack something, and of a configuration."""

import copy
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
import yaml

from decur.cli import main
from decur.planning import doctor
from decur.planning.doctor import Finding, as_table, examine

HOME = Path(__file__).parents[2]
TINY = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A folder of commands that are the only ones there are, and an empty home."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def install(name, text):
        path = commands / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    return install


def gpu(monkeypatch, *, bf16=True, nccl=True):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"A100-{i}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (8, 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 30, 7))
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def config_file(folder, **changes):
    path = folder / "config.yaml"
    tree = {**TINY, "results": str(folder / "results"), **changes}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return str(path)


def by_subject(findings):
    return {finding.subject: finding for finding in findings}


def test_this_machine_runs_the_demo():
    findings = by_subject(examine(str(HOME / "config" / "demo.yaml")))
    assert {"python", "packages", "config"} <= set(findings)
    assert not [f for f in findings.values() if f.state == "error"]


def test_every_finding_that_is_not_well_says_what_to_do(machine, tmp_path):
    for finding in examine(config_file(tmp_path)):
        assert finding.found
        assert bool(finding.remedy) == (finding.state != "ok"), finding


def test_an_old_python_is_an_error(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 1))
    assert doctor.python().state == "error"


def test_a_package_that_is_missing_or_too_old_is_named(monkeypatch):
    found = {"timm": "0.9.0"}

    def version(name):
        if name == "captum":
            raise doctor.metadata.PackageNotFoundError(name)
        return found.get(name, "99")

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(
        doctor.metadata, "requires", lambda name: ["captum>=0.9", "timm>=1", 'x; extra == "test"']
    )
    finding = doctor.packages()
    assert finding.state == "error"
    assert "captum is not installed, timm 0.9.0 does not match >=1" in finding.found


def test_a_torchvision_of_another_torch_is_an_error(monkeypatch):
    needs = {"decur": ["torch>=2.6"], "torchvision": ["torch (==2.13.0)"]}
    monkeypatch.setattr(doctor.metadata, "requires", needs.__getitem__)
    finding = doctor.packages()
    assert finding.state == "error"
    assert f"torch {torch.__version__.split('+')[0]}" in finding.found and "2.13.0" in finding.found


def test_without_snakemake_the_extra_is_named(monkeypatch):
    needs = ["torch>=2.6", 'no-such-package>=9; extra == "workflow"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)
    finding = doctor.snakemake()
    assert finding.state == "warning"
    assert finding.found == "no-such-package is not installed"
    assert "decur[workflow]" in finding.remedy


def test_gpus_are_told_with_what_they_can(monkeypatch, machine):
    machine("nvidia-smi", "echo 570.86; echo 570.86")
    gpu(monkeypatch)
    finding = doctor.cuda()
    assert finding.state == "ok"
    told = "A100-0 (compute capability 8.0), A100-1 (compute capability 8.0); driver 570.86, CUDA "
    assert finding.found == f"{told}13.0; bf16"
    gpu(monkeypatch, bf16=False)
    assert doctor.cuda().state == "warning"


@pytest.mark.parametrize(
    ("driver", "built", "state", "found"),
    [
        (None, None, "warning", "no GPU found"),
        ("570.86", None, "error", "torch without CUDA"),
        ("470.1", "13.0", "error", "torch for CUDA 13.0 finds no GPU"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_an_error(monkeypatch, machine, driver, built, state, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    if driver:
        machine("nvidia-smi", f"echo {driver}")
    finding = doctor.cuda()
    assert finding.state == state and found in finding.found


def test_gpus_need_nccl(monkeypatch):
    gpu(monkeypatch)
    assert doctor.communication().found == "NCCL 2.30.7, Gloo"
    gpu(monkeypatch, nccl=False)
    assert doctor.communication().state == "error"


def test_a_machine_without_slurm_is_well(machine):
    assert doctor.slurm().state == "ok"
    assert doctor.profile().state == "ok"


def test_partitions_accounting_and_profile_of_a_cluster(machine, tmp_path):
    machine("sinfo", "printf 'gpu* up to 1-00:00:00\\ngpu* up to 1-00:00:00\\ncpu up to 4:00\\n'")
    machine("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    finding = doctor.slurm()
    assert finding.state == "warning" and "accounting" in finding.remedy
    assert finding.found == "gpu* up to 1-00:00:00; cpu up to 4:00; without accounting"
    assert "make profiles" in doctor.profile().remedy
    machine("sacct", "true")
    assert doctor.slurm().state == "ok"
    profile = tmp_path / "config" / "snakemake" / "slurm" / "config.yaml"
    profile.parent.mkdir(parents=True)
    profile.touch()
    assert doctor.profile() == Finding("profile", "ok", str(profile))


def test_a_cluster_that_does_not_answer_is_a_warning(machine):
    machine("sinfo", "echo 'Unable to contact slurm controller' >&2; exit 1")
    finding = doctor.slurm()
    assert finding.state == "warning" and "Unable to contact" in finding.found


@pytest.mark.parametrize(("free", "state"), [(1_000_000, "warning"), (64_000_000, "ok")])
def test_little_memory_is_a_warning(monkeypatch, tmp_path, free, state):
    monkeypatch.setattr(doctor, "MEMORY", tmp_path / "meminfo")
    doctor.MEMORY.write_text(f"MemTotal: 99000000 kB\nMemAvailable: {free} kB\n")
    assert doctor.memory().state == state


def fake_disk(monkeypatch, free):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free))


def test_the_shared_memory_of_a_container_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "SHARED", tmp_path)
    fake_disk(monkeypatch, 64 << 20)
    finding = doctor.shared_memory()
    assert finding.state == "warning" and "--shm-size" in finding.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_results_that_cannot_be_written_are_an_error(tmp_path):
    tmp_path.chmod(0o500)
    assert doctor.writable(tmp_path / "results").state == "error"


def test_results_on_nfs_are_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "MOUNTS", tmp_path / "mounts")
    doctor.MOUNTS.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path.resolve()} nfs4 rw 0 0\n")
    finding = doctor.writable(tmp_path / "results" / "tiny")
    assert finding.state == "warning" and finding.found == f"{tmp_path} on nfs4"


def test_the_paper_scale_does_not_fit_on_a_small_disk(monkeypatch, tmp_path):
    config = doctor.load_config(str(HOME / "config" / "paper.yaml"))
    fake_disk(monkeypatch, 10**12)
    finding = doctor.disk(config, tmp_path)
    assert finding.state == "error"
    wanted = float(finding.found.split("about ")[1].split(" GB")[0].replace(",", ""))
    assert wanted == pytest.approx(1201 + 1242, rel=0.01)  # of the README's table
    fake_disk(monkeypatch, 10**13)
    assert doctor.disk(config, tmp_path).state == "ok"


def test_a_wrong_config_is_one_line(tmp_path, capsys):
    path = config_file(tmp_path, seeds=["x"])
    assert main(["doctor", "--configfile", path]) == 1
    told = capsys.readouterr()
    assert "seeds.0" in told.out
    assert told.err == "decur: error: doctor: config: failed; apply the fixes listed above\n"


def test_paths_of_the_config_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("DECUR_SAMPLES", raising=False)
    datasets = {**TINY["datasets"], "geonrw": {"folder": "/no/such/folder"}}
    datasets["bigearthnet"] = {"source": "samples"}
    scenarios = copy.deepcopy(TINY["scenarios"])
    scenarios["rgb-dem"]["pretrain"]["imagenet"] = "/no/weights.pth"
    path = config_file(tmp_path, datasets=datasets, scenarios=scenarios)
    errors = [f.subject for f in doctor.sources(doctor.load_config(path))]
    assert errors == [
        "datasets.bigearthnet.folder ($DECUR_SAMPLES)",
        "datasets.geonrw.folder",
        "scenarios.rgb-dem.pretrain.imagenet",
    ]


def test_shards_are_looked_at_by_their_sizes(tmp_path, shards_root):
    folder = tmp_path / "results" / "tiny" / "shards" / "geonrw"
    shutil.copytree(shards_root, folder)
    path = config_file(tmp_path)
    finding = by_subject(examine(path))["shards of geonrw"]
    assert finding.state == "ok" and finding.found.startswith("24 test, 48 train; `decur verify")
    cut = next(folder.glob("*.npy"))
    cut.write_bytes(cut.read_bytes()[:-1])
    finding = by_subject(examine(path))["shards of geonrw"]
    assert finding.state == "error" and str(cut) in finding.found
    (folder / "card.json").write_text("{}")
    assert by_subject(examine(path))["shards of geonrw"].state == "error"


def test_a_check_that_fails_is_an_error_itself(monkeypatch):
    def broken():
        raise OSError("libcudart.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    finding = examine()[0]
    assert (finding.subject, finding.state) == ("broken", "error")
    assert "libcudart" in finding.found


def test_the_table_fits_the_terminal():
    findings = [Finding("cuda", "error", "word " * 40, "do " * 40), Finding("python", "ok", "3.12")]
    lines = as_table(findings, 90).splitlines()
    assert max(map(len, lines)) <= 90
    assert lines[0].split() == ["state", "found", "what", "to", "do"]
