"""Seconds that a job takes beyond its own run time through the SLURM executor, with our settings.

`tests/slurm/start DIR; python tests/benchmarks/bench_submission.py; tests/slurm/stop DIR` draws the
scenes of the demo, one job a data set, with the status checks of profiles/slurm and of
profiles/slurm-test. Beyond: from the moment that Snakemake names the job until it counts it as
finished, less the job's own benchmark.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import yaml

HOME = Path(__file__).parents[2]
NAMED = re.compile(
    r"\[(.*)\]\n(?:local)?rule (\w+):(?:\n +.*)*?\n +jobid: (\d+)\n +benchmark: (.*)\n"
)
FINISHED = re.compile(r"\[(.*)\]\nFinished jobid: (\d+)")


def moment(text: str) -> float:
    return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").timestamp()


def own_seconds(folder: Path, benchmark: str) -> float:
    return float((folder / benchmark).read_text().splitlines()[1].split("\t")[0])


def beyond(folder: Path, first_check: int, config: Path) -> list[float]:
    """The seconds of each job beyond its own."""
    words = ["--profile", HOME / "profiles" / "slurm-test", "--configfile", config]
    words += ["--slurm-init-seconds-before-status-checks", first_check, "--directory", folder]
    base = [sys.executable, "-m", "snakemake", "--snakefile", HOME / "workflow" / "Snakefile"]
    done = subprocess.run(
        [*map(str, [*base, *words]), "download_all"], capture_output=True, text=True, check=True
    )
    finished = {job: moment(when) for when, job in FINISHED.findall(done.stderr)}
    return [
        finished[job] - moment(when) - own_seconds(folder, benchmark)
        for when, rule, job, benchmark in NAMED.findall(done.stderr)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configfile", type=Path, default=HOME / "config" / "demo.yaml")
    args = parser.parse_args()
    print("| first status check after | jobs | seconds beyond their own: median | most |")
    print("|---:|---:|---:|---:|")
    for profile in ("slurm", "slurm-test"):
        settings = yaml.safe_load((HOME / "profiles" / profile / "config.yaml").read_text())
        first_check = settings["slurm-init-seconds-before-status-checks"]
        with tempfile.TemporaryDirectory() as folder:
            waits = beyond(Path(folder), first_check, args.configfile.resolve())
        middle, most = statistics.median(waits), max(waits)
        print(f"| {first_check} s ({profile}) | {len(waits)} | {middle:.1f} | {most:.1f} |")


if __name__ == "__main__":
    main()
