"""Seconds and memory of a dry run of the whole paper scale, beside Snakemake alone.

`python tests/benchmarks/bench_dag.py [--seeds 3]`: the scale of the profile `slurm` with so many
seeds, and a plain Snakefile of as many jobs that has no config and no functions: bare, and with the
profile and what each of our rules declares (log, benchmark, threads, resources).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).parents[2]

PLAIN = """
rule all:
    input: expand("b/{{i}}", i=range({count}))
rule a:
    output: "a/{{i}}"
{a}
    shell: "touch {{output}}"
rule b:
    input: "a/{{i}}"
    output: "b/{{i}}"
{b}
    shell: "touch {{output}}"
"""

DECLARED = """
    log: "logs/{rule}/{{i}}"
    benchmark: "benchmarks/{rule}/{{i}}"
    threads: 1
    resources: mem_mb=1000, runtime=60
"""
BARE = "Snakemake alone, bare"
ALONE = "Snakemake alone, with our profile and directives"
OURS = "ours"


class Cost(NamedTuple):
    """Jobs of a dry run, the seconds of CPU time that it took, and its largest memory in MB."""

    jobs: int
    seconds: float
    megabytes: float


def dry_run(folder: str, *arguments: object) -> Cost:
    """One dry run in a process of its own."""
    command = [sys.executable, "-m", "snakemake", "--directory", folder, "--cores", "2"]
    process = subprocess.Popen(
        [*command, "--dry-run", "--quiet", "rules", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    jobs = re.search(r"^total +(\d+)$", output, flags=re.MULTILINE)
    if status or jobs is None:
        raise SystemExit(output[-2000:])
    return Cost(int(jobs[1]), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    profile = ("--profile", HOME / "profiles" / "slurm")
    ours = ("--snakefile", HOME / "workflow" / "Snakefile", *profile)
    seeds = ("--config", f"seeds={list(range(args.seeds))}")
    declared = {rule: DECLARED.format(rule=rule) for rule in "ab"}
    costs: dict[str, list[Cost]] = {BARE: [], ALONE: [], OURS: []}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            costs[OURS].append(dry_run(folder, *ours, *seeds))
            snakefile, count = Path(folder) / "Snakefile", (costs[OURS][0].jobs - 1) // 2
            snakefile.write_text(PLAIN.format(count=count, a="", b=""))
            costs[BARE].append(dry_run(folder))
            snakefile.write_text(PLAIN.format(count=count, **declared))
            costs[ALONE].append(dry_run(folder, *profile))
    best = {name: min(found, key=lambda cost: cost.seconds) for name, found in costs.items()}
    print("| dry run | jobs | CPU s | peak MB |\n|---|---:|---:|---:|")
    for name, cost in best.items():
        print(f"| {name} | {cost.jobs} | {cost.seconds:.2f} | {cost.megabytes:.0f} |")
    for name in (BARE, ALONE):
        print(f"ours / {name}: {best[OURS].seconds / best[name].seconds:.2f}")


if __name__ == "__main__":
    main()
