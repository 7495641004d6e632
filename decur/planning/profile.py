"""Write a Snakemake profile for this cluster: `decur doctor --write-profile`.

The base is `profiles/slurm/config.yaml`, which contains common settings and the resources of each
rule. Only keys that depend on the site are changed: partitions, accounts, GPUs, and values that
exceed a partition's limits. GPU jobs request resources as `snakemake-executor-plugin-slurm` 2.8
expects them:

- `gpu` and `gpu_model` become `--gpus`. A SLURM that allocates whole nodes accepts only `gres`.
- `gpu_model` and `gres` allow letters, digits, `_` and `.`; other types cannot be named.
- Without `tasks_per_gpu`, `tasks` becomes `--ntasks-per-gpu`, and every GPU has that many tasks
  (issue 459). A job with one GPU must have neither: newer versions of SLURM refuse
  `--ntasks-per-gpu` in the step of the job (issue 342).
- Snakemake evaluates resources as Python expressions, so names are quoted.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import decur
from decur.artifacts.ownership import check_ours, write_ours
from decur.errors import DecurError
from decur.planning.partitions import Gpus, Place, choose_cpus, choose_gpus
from decur.planning.site import Site, ask_site, is_slice

BASE = Path("profiles") / "slurm" / "config.yaml"
GPU_RULES = ("pretrain", "transfer", "explain")
"""Rules that use GPUs. All others use the partition for jobs without GPUs."""

LAUNCHED = ("tasks", "tasks_per_gpu", "mpi", "launch", "nodes")
"""Keys of a job with several tasks."""

WARNED = 10
"""Shortest time limit for pretraining [min]: SLURM warns it five minutes before the end."""

APART = 180
"""Longest interval between two status queries of the executor [s]. Without accounting, SLURM must
remember ended jobs for longer."""

Block = dict[str, Any]


def write_profile(folder: Path) -> str:
    """Write a profile for this cluster into a folder, and return the choices line by line.

    Raises:
        DecurError: SLURM or the base is missing, or the file exists and was not written by decur.
    """
    path, base = folder / "config.yaml", find_base()
    check_ours(path)
    text, notes = make_profile(ask_site(), base.read_text(encoding="utf-8"))

    def from_here(line: re.Match[str]) -> str:
        file = (base.parent / line[1]).resolve()
        return f"configfile: {os.path.relpath(file, folder.resolve())}"

    text = re.sub(r"(?m)^configfile: (.*)$", from_here, text)
    write_ours(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return "\n".join([f"{path}: written", *notes, f"next: snakemake preflight --profile {folder}"])


def find_base() -> Path:
    """Find the base profile in the current folder, or else in the package's repository.

    Raises:
        DecurError: it is in neither.
    """
    for folder in (Path(), Path(decur.__file__).parents[1]):
        if (folder / BASE).is_file():
            return folder / BASE
    raise DecurError(f"{BASE}: not found; run this in the root of the DeCUR repository")


def make_profile(site: Site, base: str) -> tuple[str, list[str]]:
    """Make the text of a site's profile from the text of the base, and notes for the user.

    `set-resources` of the base has a block for every rule. Paths are not changed.
    """
    tree = yaml.safe_load(base)
    rules, threads, rest = tree["set-resources"], tree["set-threads"], tree["default-resources"]
    wanted = rules["pretrain"]["gpu"]
    cpus, gpus = choose_cpus(site), choose_gpus(site, wanted)
    notes = [*_notes(site, cpus, gpus, wanted)]
    if not site.accounting:
        tree = {"slurm-status-command": "squeue", "slurm-no-account": True} | tree
    rest |= _names(cpus)
    notes += _limit("other rules", rest, cpus)
    for rule, block in rules.items():
        place, tasks = cpus, 1
        if rule in GPU_RULES:
            several = gpus is not None and rule == "pretrain"
            _set_gpus(block, gpus, several=several, by_gres=site.whole_nodes)
            place = cpus if gpus is None else gpus.place
            tasks = gpus.each if gpus is not None and several else 1
            block |= {} if place == cpus else _names(place)
        if rule in threads:
            threads[rule] = max(1, min(threads[rule], place.cores // tasks))
        if "launch" in block:
            block["launch"] = _launch(block["launch"], block["tasks"], threads[rule])
        notes += _limit(rule, block, place)
    head = [f"Made for this cluster ({site.version}) by `decur doctor --write-profile`.", *notes]
    head.append("The keys are explained in profiles/slurm/config.yaml.")
    body = yaml.safe_dump(tree, sort_keys=False, width=1000, allow_unicode=True)
    return "".join(f"# {line}\n" for line in head) + body, notes


def _set_gpus(block: Block, gpus: Gpus | None, *, several: bool, by_gres: bool) -> None:
    """Request GPUs for a block: all GPUs of a run if `several`, else one."""
    for key in ("gpu_model", *LAUNCHED) if gpus is None or not several else ("gpu_model",):
        block.pop(key, None)
    if gpus is None:
        block["gpu"] = 0  # overrides a GPU that the rule itself requests
        return
    nodes, each = (gpus.nodes, gpus.each) if several else (1, 1)
    total = nodes * each
    kind = gpus.kind if _can_be_named(gpus.kind) else ""
    if by_gres:
        block |= {"gpu": 0, "gres": repr(":".join(filter(None, ("gpu", kind, str(each)))))}
    else:
        block |= {"gpu": total} | ({"gpu_model": repr(kind)} if kind else {})
    if total == 1:
        for key in LAUNCHED:
            block.pop(key, None)
    else:
        block |= {"nodes": nodes, "tasks": total, "tasks_per_gpu": 0 if by_gres else 1}


def _can_be_named(kind: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.]+", kind) is not None


def _launch(command: str, tasks: int, threads: int) -> str:
    command = re.sub(r"--ntasks=\d+", f"--ntasks={tasks}", command)
    return re.sub(r"--cpus-per-task=\d+", f"--cpus-per-task={threads}", command)


def _names(place: Place) -> Block:
    """Return the partition of a place, and account and QOS unless the defaults are sufficient."""
    names = {"slurm_partition": place.partition, "slurm_account": place.account, "qos": place.qos}
    return {key: repr(name) for key, name in names.items() if name is not None}


def _limit(rule: str, block: Block, place: Place) -> Iterator[str]:
    """Limit time and memory to those of the place, and note cuts at the first attempt."""
    for key, limit, unit in (
        ("runtime", place.minutes, "minutes"),
        ("mem_mb", place.memory_mb, "MB"),
    ):
        if key == "mem_mb" and limit is None:
            block[key] = 0  # SLURM refuses any memory request on nodes without configured memory
        elif key in block and limit is not None:
            first = _first_attempt(block[key])
            if first > limit:
                bound = f"{limit} {unit}, the limit of {place.partition}"
                yield f"{rule}: {key} cut from {first} to {bound}."
            grows = isinstance(block[key], str)
            block[key] = f"min({block[key]}, {limit})" if grows else min(block[key], limit)


def _first_attempt(value: int | str) -> int:
    """Return the value of `n`, or of an expression such as `n * attempt`, at the first attempt."""
    return value if isinstance(value, int) else int(re.findall(r"\d+", value)[0])


def _notes(site: Site, cpus: Place, gpus: Gpus | None, wanted: int) -> Iterator[str]:
    """Describe the chosen partitions and GPUs, and their drawbacks."""
    yield f"Jobs without GPUs: partition {cpus.partition}."
    if gpus is None:
        yield "No partition that you may use has GPUs: pretraining and transfer run on CPUs."
    else:
        total = gpus.nodes * gpus.each
        kind = gpus.kind or "no type"
        yield (
            f"Jobs with GPUs: partition {gpus.place.partition}; pretraining on {total} GPU"
            f"{'s' if total > 1 else ''} ({kind}), {gpus.each} on each of {gpus.nodes} node"
            f"{'s' if gpus.nodes > 1 else ''}."
        )
        if total < wanted:
            yield (
                f"Pretraining is designed for {wanted} GPUs: with {total}, set `recompute: view` in"
                " the config if memory is short (`snakemake preflight` measures it)."
            )
        if gpus.kind and not _can_be_named(gpus.kind):
            yield f"The executor cannot name GPUs of type {gpus.kind}: jobs take any of them."
        if is_slice(gpus.kind):
            yield f"{gpus.kind} is a slice of a GPU (MIG): slices cannot be combined."
        limit = gpus.place.minutes
        if limit is not None and limit <= WARNED:
            yield f"{gpus.place.partition} ends jobs after {limit} minutes: pretraining needs more."
    if not site.accounting:
        yield "SLURM has no accounting of jobs: their states come from squeue."
    if cpus.memory_mb is None:
        yield f"Nodes of {cpus.partition} have no configured memory: none is requested."
    if not site.accounting and site.min_job_age is not None and site.min_job_age <= APART:
        yield (
            f"SLURM forgets ended jobs after {site.min_job_age} s (MinJobAge), too early"
            " for Snakemake: ask the operators for 600."
        )
