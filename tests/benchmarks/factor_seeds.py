"""The factor tables on fresh seeds: run them one by one, keep what each measured, collate all.

A finished seed leaves `docs/factors/seed-<n>.csv`, to be committed at once, so that an interruption
loses nothing. `--collate` makes the tables, the claims and the figure from these files alone.

    python -m tests.benchmarks.factor_seeds --work /scratch/factors --seeds 100 101
    python -m tests.benchmarks.factor_seeds --collate
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from decur.artifacts.paths import Paths
from decur.config import Config, parse_config
from decur.config.experiments import (
    Experiment,
    chosen_experiments,
    load_experiments,
    transfer_runs,
)
from decur.config.yaml_file import read_yaml
from decur.tables.run import outputs, write_experiment

HOME = Path(__file__).parents[2]
CONFIGS = [HOME / "config" / "mini.yaml", HOME / "config" / "factors.yaml"]
KEPT = HOME / "docs" / "factors"
COLUMNS = ("run", "cell", "metric", "value")


def factors() -> tuple[Config, dict[str, Experiment]]:
    """The scale, and its experiments."""
    mini, factors = map(read_yaml, CONFIGS)
    config = parse_config({**mini, **factors})
    return config, chosen_experiments(load_experiments(HOME / "config/experiments.yaml"), config)


def run_seed(seed: int, work: Path) -> None:
    """Run all of the factor tables on one seed; what is finished is not run again."""
    command = [sys.executable, "-m", "snakemake", "--quiet", "all", "--directory", str(HOME)]
    command += ["--configfile", *map(str, CONFIGS)]
    changes = [f"seeds=[{seed}]", f"results={work / str(seed)}"]
    subprocess.run([*command, "--config", *changes], check=True, cwd=HOME)


def keep(seed: int, work: Path) -> None:
    """Write what a seed measured into its file."""
    config, experiments = factors()
    paths, rows = Paths(str(work / str(seed)), config.scale), []
    for run, cells in transfer_runs(experiments.values(), config).items():
        for cell in cells if run.seed == seed else ():
            tree = json.loads(Path(paths.metrics(str(run), str(cell))).read_text())
            rows += [(run, cell, metric, value) for metric, value in tree["metrics"].items()]
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"seed-{seed}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])


def restore(paths: Paths) -> None:
    """Make the metrics in the seeds' files results again, as far as tables read them."""
    trees: dict[Path, dict[str, float]] = {}
    for file in sorted(KEPT.glob("seed-*.csv")):
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                path = Path(paths.metrics(row["run"], row["cell"]))
                trees.setdefault(path, {})[row["metric"]] = float(row["value"])
    for path, metrics in trees.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"metrics": metrics}), encoding="utf-8")


def collate(home: Path) -> list[Path]:
    """Write the tables, the claims and the figures of all kept seeds into a folder."""
    config, experiments = factors()
    with tempfile.TemporaryDirectory() as folder:
        paths, made = Paths(folder, config.scale), []
        restore(paths)
        for name, experiment in experiments.items():
            write_experiment(name, experiment, config, paths)
            for kind, path in outputs(name, experiment, paths).items():
                if kind in ("csv", "md", "figure"):
                    made.append(Path(shutil.copy(path, home)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for results, outside the repository")
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    parser.add_argument("--collate", action="store_true")
    args = parser.parse_args()
    for seed in args.seeds:
        run_seed(seed, args.work.absolute())
        keep(seed, args.work.absolute())
        print(f"seed {seed}: kept in {KEPT}", flush=True)
    if args.collate:
        print("\n".join(map(str, collate(KEPT))))


if __name__ == "__main__":
    main()
