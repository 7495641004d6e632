"""Check the environment and suggest fixes: `decur doctor`.

Each check examines one subject and changes nothing. It returns its finding in one of three states:
ok; an error, which prevents runs; or a warning, which prevents some runs or may prevent them.
"""

import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from decur.artifacts.files import nearest_folder
from decur.artifacts.paths import Paths
from decur.cluster.slurm import ask
from decur.cluster.user import STAND_IN
from decur.cluster.user_paths import expand_environment
from decur.config import Config, DatasetSettings, load_config
from decur.config.released import BY_NAME
from decur.config.source_paths import SAMPLES_VARIABLE, own_paths, samples_folder
from decur.errors import DecurError
from decur.planning import costs
from decur.planning.columns import as_columns
from decur.shards.read import read_card

GB = 1e9
LEAST_MEMORY = 4 * GB
LEAST_SHARED = 1 * GB
OLDEST_PYTHON = (3, 11)
MOUNTS = Path("/proc/mounts")
MEMORY = Path("/proc/meminfo")
SHARED = Path("/dev/shm")


@dataclass(frozen=True)
class Finding:
    """The result of a check: its subject, its state, what was found, and the remedy."""

    subject: str
    state: Literal["ok", "warning", "error"]
    found: str
    remedy: str = ""


def examine(configfile: str | None = None) -> list[Finding]:
    """Run every check of this machine, and of a configuration if one is given."""
    findings = [_careful(check) for check in CHECKS]
    if configfile is None:
        return [*findings, _careful(lambda: writable(Path("results")), "results")]
    try:
        config = load_config(configfile)
    except DecurError as error:
        return [*findings, Finding("config", "error", str(error), "correct the file")]
    root = Path(Paths(config.results, config.scale).root)
    findings.append(Finding("config", "ok", f"{configfile}: scale '{config.scale}' is valid"))
    findings.append(_careful(lambda: writable(root), "results"))
    findings.append(_careful(lambda: disk(config, root), "disk"))
    return [*findings, *sources(config), *shards(config)]


def as_table(findings: list[Finding], width: int | None = None) -> str:
    """Lay out the findings in columns that fit the terminal, or `width` characters."""
    rows = [(f.subject, f.state, f.found, f.remedy) for f in findings]
    return as_columns(("", "state", "found", "what to do"), rows, width, whole=("", "state"))


def python() -> Finding:
    """Check Python's version."""
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "error", found, "install Python 3.11 or newer")
    return Finding("python", "ok", found)


def packages() -> Finding:
    """Check the required packages, and that torchvision was built for this torch."""
    wanted = [*_requirements("decur", ""), *_requirements("torchvision", "")]
    if wrong := _unmet(wanted):
        return Finding("packages", "error", wrong, "pip install --upgrade decur")
    versions = [f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "numpy")]
    importlib.import_module("torchvision")  # fails if it was built for another torch
    return Finding("packages", "ok", ", ".join(versions))


def snakemake() -> Finding:
    """Check Snakemake, its plugin for SLURM, and submitit."""
    wanted = [r for r in _requirements("decur", "workflow") if r.marker is not None]
    if wrong := _unmet(wanted):
        return Finding("snakemake", "warning", wrong, 'pip install "decur[workflow]"')
    lines = [f"{r.name} {metadata.version(r.name)}" for r in wanted]
    return Finding("snakemake", "ok", ", ".join(lines))


def cuda() -> Finding:
    """Check for GPUs, and that torch can use them."""
    import torch

    driver = _nvidia_driver()
    if torch.cuda.is_available():
        devices = [
            f"{torch.cuda.get_device_name(i)} (compute capability "
            f"{'.'.join(map(str, torch.cuda.get_device_capability(i)))})"
            for i in range(torch.cuda.device_count())
        ]
        found = f"{', '.join(devices)}; driver {driver}, CUDA {torch.version.cuda}"
        if torch.cuda.is_bf16_supported():
            return Finding("cuda", "ok", f"{found}; bf16")
        return Finding("cuda", "warning", f"{found}; no bf16", "leave `precision: float32`")
    if driver is None:
        remedy = "run the paper's scale on a cluster; demo and mini need no GPU"
        return Finding("cuda", "warning", "no GPU found", remedy)
    if torch.version.cuda is None:
        remedy = "install torch for CUDA instead of its CPU build"
        return Finding("cuda", "error", f"driver {driver}, but torch without CUDA", remedy)
    found = f"driver {driver}, but torch for CUDA {torch.version.cuda} finds no GPU"
    remedy = "update the driver, install a torch for an older CUDA, or check CUDA_VISIBLE_DEVICES"
    return Finding("cuda", "error", found, remedy)


def communication() -> Finding:
    """Check the libraries that move data between processes: NCCL for GPUs, else Gloo."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_gloo_available()):
        found = "torch has no Gloo"
        return Finding("communication", "warning", found, "install an official build of torch")
    if not torch.cuda.is_available():
        return Finding("communication", "ok", "Gloo; NCCL is not needed without GPUs")
    if not distributed.is_nccl_available():
        remedy = "install an official build of torch for Linux"
        return Finding(
            "communication", "error", "torch has no NCCL: GPUs cannot work together", remedy
        )
    version = ".".join(map(str, torch.cuda.nccl.version()))
    return Finding("communication", "ok", f"NCCL {version}, Gloo")


def slurm() -> Finding:
    """Check SLURM: its partitions with their time limits, and its accounting of jobs."""
    if shutil.which("sinfo") is None:
        return Finding("slurm", "ok", "not found: jobs run on this machine")
    try:
        lines = ask("sinfo", "--noheader", "--format=%P up to %l").splitlines()
    except DecurError as error:
        remedy = "run on a login node of the cluster, or ask its operators"
        return Finding("slurm", "warning", str(error), remedy)
    found = "; ".join(dict.fromkeys(line.strip() for line in lines))
    try:
        ask("sacct", "--noheader", "--jobs=0")
    except DecurError:
        remedy = "uncomment the lines for sites without accounting in the slurm profile"
        return Finding("slurm", "warning", f"{found}; without accounting", remedy)
    return Finding("slurm", "ok", f"{found}; with accounting")


def profile() -> Finding:
    """Check that Snakemake finds the profile for SLURM from any folder."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(home).expanduser() / "snakemake" / "slurm" / "config.yaml"
    if path.is_file():
        return Finding("profile", "ok", str(path))
    if shutil.which("sinfo") is None:
        return Finding("profile", "ok", "not needed without SLURM")
    remedy = "run `make profiles` to use `--profile slurm` from any folder"
    return Finding("profile", "warning", f"no {path}", remedy)


def home() -> Finding:
    """Check that the user's home folder and caches are writable."""
    folder = os.environ.get(STAND_IN)
    if folder is None:
        return Finding("home", "ok", str(Path.home()))
    found = f"no writable home folder or cache; {folder} is used instead"
    remedy = "`export HOME=FOLDER` with a writable folder before you start snakemake"
    return Finding("home", "warning", found, remedy)


def memory() -> Finding:
    """Check the free memory."""
    if not MEMORY.is_file():
        return Finding("memory", "ok", "unknown on this system")
    (line,) = (
        line for line in MEMORY.read_text(encoding="utf-8").splitlines() if "MemAvailable" in line
    )
    free = int(line.split()[1]) * 1024
    found = f"{free / GB:.1f} GB free"
    if free < LEAST_MEMORY:
        remedy = f"free {LEAST_MEMORY / GB:.0f} GB, or run fewer jobs at once (`--cores`)"
        return Finding("memory", "warning", found, remedy)
    return Finding("memory", "ok", found)


def shared_memory() -> Finding:
    """Check the free shared memory, through which NCCL moves data within a node."""
    if not SHARED.is_dir():
        return Finding("shared memory", "ok", f"no {SHARED} on this system")
    free = shutil.disk_usage(SHARED).free
    found = f"{free / GB:.1f} GB free in {SHARED}"
    if free < LEAST_SHARED:
        remedy = "free some; for a container, raise the limit with --shm-size 8g or --ipc host"
        return Finding("shared memory", "warning", found, remedy)
    return Finding("shared memory", "ok", found)


def writable(root: Path) -> Finding:
    """Check that the results folder is writable, and the type of its file system."""
    there = nearest_folder(root)
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
    except OSError as error:
        found = f"{there}: not writable ({error.strerror})"
        return Finding("results", "error", found, "set `results` to a writable folder")
    kind = _file_system(there)
    if kind.startswith("nfs"):  # locks are not used, but files of other nodes appear late
        remedy = "mount it on all nodes; keep `latency-wait: 60` in the profile"
        return Finding("results", "warning", f"{there.absolute()} on {kind}", remedy)
    return Finding("results", "ok", f"{there.absolute()} on {kind}")


def disk(config: Config, root: Path) -> Finding:
    """Check the disk space for the raw files and shards that are still missing."""
    wanted = still_stored(config)
    free = shutil.disk_usage(nearest_folder(root)).free / GB
    found = f"{free:,.1f} GB free, datasets need about {wanted.stored:,.1f} GB more"
    if wanted.unknown:
        found += f" (unknown for {', '.join(sorted(wanted.unknown))})"
    if wanted.stored > free:
        remedy = "set `results` to a folder on a larger disk; `decur plan` includes weights"
        return Finding("disk", "error", found, remedy)
    return Finding("disk", "ok", found)


def still_stored(config: Config) -> costs.Cost:
    """Estimate the disk space of the raw files and shards that are still missing."""
    paths = Paths(config.results, config.scale)
    missing = {n: s for n, s in config.datasets.items() if not Path(paths.card(n)).is_file()}
    return sum(
        (_stored(name, settings, Path(paths.manifest(name))) for name, settings in missing.items()),
        costs.Cost(),
    )


def sources(config: Config) -> Iterator[Finding]:
    """Report folders and files that the configuration names but that do not exist."""
    try:
        expand_environment(SAMPLES_VARIABLE)
    except DecurError as error:
        yield Finding(f"${SAMPLES_VARIABLE}", "error", str(error), "correct the variable")
    named = {}
    for name, settings in config.datasets.items():
        for key in ("folder", "archives", "checksums"):
            named[f"datasets.{name}.{key}"] = getattr(settings, key)
        if settings.source == "samples" and settings.folder is None:
            named[f"datasets.{name}.folder (${SAMPLES_VARIABLE})"] = os.environ.get(
                SAMPLES_VARIABLE, "(not set)"
            )
        if settings.source != "samples" or samples_folder(settings):
            own = own_paths(settings)
            named |= {f"datasets.{name}.{key}": str(path) for key, path in own.items()}
    for name, scenario in config.scenarios.items():
        for key in ("imagenet", "imagenet_large", "released"):
            path = getattr(scenario.pretrain, key)
            if path not in BY_NAME:  # a released file is downloaded
                named[f"scenarios.{name}.pretrain.{key}"] = path
    for key, path in named.items():
        if path is not None and not Path(path).exists():
            yield Finding(key, "error", f"{path}: not found", "correct the path")


def shards(config: Config) -> Iterator[Finding]:
    """Check the existing shards by their cards and the sizes of their files."""
    paths = Paths(config.results, config.scale)
    for name in config.datasets:
        subject, folder = f"shards of {name}", Path(paths.shards(name))
        if not Path(paths.card(name)).is_file():
            yield Finding(subject, "ok", "missing: the workflow makes them")
            continue
        try:
            card = read_card(folder)
            sizes = {folder / file: facts["bytes"] for file, facts in card.contents.items()}
            counts = ", ".join(f"{count:,} {split}" for split, count in card.counts.items())
        except (DecurError, KeyError, TypeError, AttributeError) as error:
            yield Finding(subject, "error", str(error), "run the preprocess stage again")
            continue
        faulty = [path for path, size in sizes.items() if _size(path) != size]
        if faulty:
            found = f"{faulty[0]}: missing, or its size differs from the card"
            yield Finding(
                subject,
                "error",
                found,
                "delete it and card.json, and run the preprocess stage again",
            )
        else:
            yield Finding(subject, "ok", f"{counts}; `decur verify {folder}` checks every byte")


CHECKS = (
    python,
    packages,
    snakemake,
    cuda,
    communication,
    slurm,
    profile,
    home,
    memory,
    shared_memory,
)
"""The checks of a machine."""


def _careful(check: Callable[[], Finding], subject: str | None = None) -> Finding:
    """Run a check; an exception becomes an error finding."""
    try:
        return check()
    except Exception as error:  # a broken installation may raise any exception
        found = f"{type(error).__name__}: {error}"
        remedy = "repair the installation: pip install --force-reinstall"
        return Finding(subject or check.__name__, "error", found, remedy)


def _requirements(package: str, extra: str) -> list[Requirement]:
    """List what an installed package requires here for an extra; "" is its base requirements."""
    parsed = map(Requirement, metadata.requires(package) or [])
    return [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": extra})]


def _unmet(requirements: Iterable[Requirement]) -> str:
    """Describe the unmet requirements; empty if all are met."""
    return ", ".join(lines for requirement in requirements if (lines := _fault(requirement)))


def _fault(requirement: Requirement) -> str:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version} does not match {requirement.specifier}"


def _nvidia_driver() -> str | None:
    """Find the version of NVIDIA's driver; None without a driver or a GPU."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def _file_system(folder: Path) -> str:
    """Find the type of a folder's file system."""
    if not MOUNTS.is_file():
        return "a file system of unknown type"
    mounts = [line.split()[1:3] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    resolved = folder.resolve()
    above = [(len(point), kind) for point, kind in mounts if resolved.is_relative_to(point)]
    return max(above, default=(0, "a file system of unknown type"))[1]


def _stored(name: str, settings: DatasetSettings, manifest: Path) -> costs.Cost:
    """Estimate the missing files of a dataset: its shards, and its raw files unless they exist."""
    made = costs.preprocess_cost(name, settings, 1.0)
    return made if manifest.is_file() else made + costs.download_cost(name, settings)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
