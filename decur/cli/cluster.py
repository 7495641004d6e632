"""Verbs for clusters: estimate costs, check and rehearse jobs, submit a run without Snakemake."""

import argparse
from pathlib import Path

from decur.cli.parser import Verbs, positive, user_path, user_path_text
from decur.cluster.user_paths import expand_named
from decur.errors import DecurError


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    verb = verbs.add(
        "plan",
        _plan,
        "List the jobs that snakemake would run now, and estimate their cost.",
        "decur plan --profile slurm",
        "decur plan pretrain_all --configfile config/mini.yaml",
    )
    verb.add_argument(
        "targets",
        nargs="*",
        type=user_path_text,
        metavar="TARGET",
        help="target of snakemake (default: everything)",
    )
    verb.add_argument(
        "--profile", metavar="NAME", help="profile of snakemake, or name of a folder in profiles/"
    )
    verb.add_argument(
        "--configfile", nargs="+", type=user_path_text, metavar="FILE", help="configuration files"
    )
    verb.add_argument("--config", nargs="+", metavar="KEY=VALUE", help="configuration values")

    verb = verbs.add(
        "preflight",
        _preflight,
        "Check what one class of jobs needs on this node; `snakemake preflight` checks all.",
        "decur preflight pretrain results/paper --out results/paper/preflight/pretrain.json",
        "decur preflight table results/paper",
    )
    verb.add_argument(
        "job",
        choices=["download", "cpu", "pretrain", "transfer", "explain", "table"],
        help="class of jobs; `table` prints all records",
    )
    verb.add_argument("results", type=user_path, metavar="DIR", help="folder of a scale's results")
    verb.add_argument("--out", type=user_path, metavar="FILE", help="output path of the record")
    verb.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="expected CPU cores per task"
    )
    verb.add_argument(
        "--lost",
        type=user_path,
        metavar="LOG",
        help="record that the job with this log failed, without any checks",
    )

    verb = verbs.add(
        "stand-ins",
        _stand_ins,
        "Write small stand-ins for the official archives; config/rehearsal.yaml reads them.",
        "decur stand-ins",
    )
    verb.add_argument(
        "--out",
        type=user_path,
        default=Path("stand-ins"),
        metavar="DIR",
        help="output path (default: stand-ins)",
    )

    verb = verbs.add(
        "submit",
        _submit,
        "Submit a run without Snakemake, and follow its log.",
        "decur submit pretrain sar-optical/decur/default/seed-0 --configfile config/paper.yaml"
        " --tasks 4 --option partition=gpu",
        "decur submit pretrain rgb-dem/decur/default/seed-0 --configfile config/demo.yaml"
        " --cluster local --no-gpus",
    )
    verb.add_argument("stage", choices=["pretrain"])
    verb.add_argument("run", metavar="scenario/method/variant/seed-n")
    verb.add_argument(
        "--configfile",
        required=True,
        type=user_path_text,
        metavar="FILE",
        help="YAML file of the scale",
    )
    verb.add_argument("--cluster", choices=["slurm", "local"], default="slurm")
    verb.add_argument("--nodes", type=positive, default=1, metavar="N")
    verb.add_argument(
        "--tasks",
        type=positive,
        default=1,
        metavar="N",
        help="processes per node, with one GPU each",
    )
    verb.add_argument("--no-gpus", action="store_true")
    verb.add_argument("--cpus", type=positive, default=8, metavar="N", help="CPU cores per process")
    verb.add_argument(
        "--memory-gb", type=positive, default=60, metavar="N", help="memory per node [GB]"
    )
    verb.add_argument(
        "--minutes",
        type=positive,
        default=1440,
        metavar="N",
        help="time limit of the job, which continues after a requeue",
    )
    verb.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of sbatch (repeatable)",
    )
    verb.add_argument("--no-follow", action="store_true", help="do not wait for the job")


def _plan(args: argparse.Namespace) -> None:
    from decur.planning.plan import plan

    for file in args.configfile or ():
        if not Path(file).is_file():
            raise DecurError(f"--configfile: no such file {file}; correct its path")
    profile = None if args.profile is None else expand_named("--profile", args.profile)
    print(plan(args.targets, profile, args.configfile, args.config))


def _preflight(args: argparse.Namespace) -> None:
    from decur.planning import preflight

    if args.job == "table":
        print(preflight.table(args.results), end="")
    elif args.out is None:
        raise DecurError(f"preflight {args.job}: --out is missing; give the path of the record")
    elif args.lost is not None:
        preflight.lost(args.job, args.lost, args.out)
    else:
        preflight.preflight(args.job, args.results, args.out, args.threads)


def _stand_ins(args: argparse.Namespace) -> None:
    from decur.scenes.stand_ins import write_stand_ins

    for checksums in write_stand_ins(args.out):
        print(checksums.parent)


def _submit(args: argparse.Namespace) -> None:
    from decur.artifacts.paths import Paths, Run
    from decur.config import load_config, pretrain_settings
    from decur.pretrain.submit import Allocation, follow, submit_pretrain

    config, run = load_config(args.configfile), Run.parse(args.run)
    paths, settings = Paths(config.results, config.scale), pretrain_settings(config, run)
    options = dict(_key_and_value(text) for text in args.option)
    allocation = Allocation(
        cluster=args.cluster,
        nodes=args.nodes,
        tasks=args.tasks,
        gpus=not args.no_gpus,
        cpus=args.cpus,
        memory_gb=args.memory_gb,
        minutes=args.minutes,
        options=options,
    )
    shards, out = Path(paths.shards(settings.dataset)), Path(paths.pretrain(str(run)))
    job = submit_pretrain(settings, shards, out, allocation)
    print(f"{run}: submitted as job {job.job_id}; log: {job.paths.stdout}", flush=True)
    if not args.no_follow:
        follow(job)


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise DecurError(f"--option {text}: expected key=value, for example partition=gpu")
    return key, value
