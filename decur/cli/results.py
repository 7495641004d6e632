"""Verbs for results: make tables and the report, show status and provenance."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from decur.cli.parser import Verbs, user_path, user_path_text
from decur.errors import DecurError

if TYPE_CHECKING:
    from decur.artifacts.paths import Paths
    from decur.config import Config
    from decur.config.experiments import Experiment


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    verb = verbs.add(
        "tables",
        _tables,
        "Make tables and figures from the available results.",
        "decur tables results/mini",
        "decur tables results/mini --only table1 --only fig3a",
        "decur tables results/mini --show",
    )
    verb.add_argument("results", type=user_path, metavar="DIR", help="folder of a scale's results")
    verb.add_argument(
        "--experiments",
        type=user_path_text,
        metavar="FILE",
        help="experiments to use instead of experiments.yaml in the results folder",
    )
    verb.add_argument(
        "--only", action="append", metavar="NAME", help="experiment to make (repeatable)"
    )
    verb.add_argument(
        "--show",
        action="store_true",
        help="print the finished tables without making them again",
    )

    verb = verbs.add(
        "report", _report, "Write the available results into one page.", "decur report results/mini"
    )
    verb.add_argument("results", type=user_path, metavar="DIR", help="folder of a scale's results")

    verb = verbs.add(
        "status",
        _status,
        "Show which runs and evaluations are done, running or failed, and the hours used.",
        "decur status",
        "decur status results/paper",
    )
    which = verb.add_mutually_exclusive_group()
    which.add_argument(
        "results",
        nargs="?",
        type=user_path,
        metavar="DIR",
        help="folder of a scale's results (default: every folder in results)",
    )
    which.add_argument(
        "--configfile",
        type=user_path_text,
        metavar="FILE",
        help="YAML file of the scale, instead of DIR",
    )

    verb = verbs.add(
        "provenance",
        _provenance,
        "Show the lineage of an artifact, back to the archives.",
        "decur provenance results/mini/tables/table1.csv",
    )
    verb.add_argument(
        "file",
        type=user_path,
        metavar="FILE",
        help="table, figure, metrics, weights, or folder of shards or raw files",
    )


def _tables(args: argparse.Namespace) -> None:
    from decur.tables.run import read_page, tables
    from decur.tables.terminal import as_text

    chosen, config, paths = _scale(args.results, args.experiments, args.only or ())
    for name in args.only or ():
        if name not in chosen:
            raise DecurError(
                f"--only {name}: not an experiment of the scale; choose from {', '.join(chosen)}"
            )
    wanted = {name: chosen[name] for name in args.only or chosen}
    if args.show:
        for name in wanted:
            print(as_text(read_page(name, paths)))
        return
    for name in tables(wanted, config, paths):
        print(args.results / "tables" / f"{name}.md")


def _report(args: argparse.Namespace) -> None:
    from decur.tables.report import write_report

    write_report(*_scale(args.results, None))
    print(args.results / "report.html")


def _status(args: argparse.Namespace) -> None:
    from decur.artifacts.paths import Paths
    from decur.config import load_config
    from decur.planning.status import scales, status

    roots = scales(Path("results")) if args.results is None else [args.results]
    if args.configfile is not None:
        config = load_config(args.configfile)
        roots = [Path(Paths(config.results, config.scale).root)]
    print(status(roots))


def _provenance(args: argparse.Namespace) -> None:
    from decur.artifacts.lineage import changed, lineage, render

    chain = lineage(args.file)
    print(render(chain))
    if found := changed(chain):
        raise DecurError(
            f"{args.file}: changed since recorded: {', '.join(found)}; run their stages again"
        )


def _scale(
    results: Path, experiments: str | None, only: Sequence[str] = ()
) -> "tuple[dict[str, Experiment], Config, Paths]":
    """Load the experiments, configuration and paths of the scale of a results folder.

    `only` selects from a file of `experiments`, including those that the scale does not list.
    """
    from decur.artifacts.paths import Paths
    from decur.config import load_config
    from decur.config.experiments import chosen_experiments, load_experiments

    folder = results.absolute()
    paths = Paths(str(folder.parent), folder.name)
    source = experiments or paths.experiments()
    if experiments is not None and not Path(experiments).is_file():
        raise DecurError(f"--experiments: no such file {experiments}; correct its path")
    for path in (paths.config(), source):
        if not Path(path).is_file():
            raise DecurError(
                f"{path}: not found; name the folder of a scale, results/<scale>, for which the "
                "workflow has started"
            )
    config = load_config(paths.config())
    if experiments and only:
        config = config.model_copy(update={"experiments": tuple(only)})
    return chosen_experiments(load_experiments(source), config), config, paths
