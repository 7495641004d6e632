"""Verbs for the setup: check this machine, print the configuration's schema, complete commands."""

import argparse
from functools import partial
from pathlib import Path

from decur.cli.parser import Parser, Verbs, user_path, user_path_text
from decur.errors import DecurError


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    verb = verbs.add(
        "init",
        _init,
        "Write a configuration for your own folders of images.",
        "decur init photo/ thermal/",
        "decur init photo/ thermal/ --labels masks/ --out harbour.yaml",
        "decur init s2/ dem/ --labels labels.csv",
    )
    verb.add_argument(
        "folders",
        nargs="+",
        type=user_path,
        metavar="FOLDER",
        help="folder of images of one modality; images of one place have the same name",
    )
    verb.add_argument(
        "--labels",
        type=user_path,
        metavar="PATH",
        help="folder of label masks, or CSV with the columns id,label",
    )
    verb.add_argument(
        "--out",
        type=user_path,
        default=Path("own.yaml"),
        metavar="FILE",
        help="output file, whose name becomes that of the dataset (default: own.yaml)",
    )

    verb = verbs.add(
        "doctor",
        _doctor,
        "Check this machine and a configuration, and suggest fixes.",
        "decur doctor",
        "decur doctor --configfile config/paper.yaml",
        "decur doctor --write-profile profiles/slurm-site",
    )
    verb.add_argument(
        "--configfile",
        type=user_path_text,
        metavar="FILE",
        help="YAML file of a scale, which is checked as well",
    )
    verb.add_argument(
        "--write-profile",
        nargs="?",
        const="profiles/slurm-site",
        type=user_path,
        metavar="FOLDER",
        help="only write a profile for this SLURM cluster (default: profiles/slurm-site)",
    )

    verbs.add(
        "schema",
        _schema,
        "Print the JSON schema of the configuration.",
        "decur schema > config/schema.json",
    )

    verb = verbs.add(
        "completion",
        partial(_completion, verbs.parser),
        "Print a script with which a shell completes decur's commands.",
        'eval "$(decur completion bash)"',
        "decur completion zsh > _decur",
    )
    verb.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def _init(args: argparse.Namespace) -> None:
    if len(args.folders) < 2:
        raise DecurError(f"{args.folders[0]}: one folder only; give one folder per modality")
    from decur.planning.own_config import init_config

    print("\n".join(init_config(args.folders, args.labels, args.out)))


def _doctor(args: argparse.Namespace) -> None:
    if args.write_profile is not None:
        from decur.planning.profile import write_profile

        print(write_profile(args.write_profile))
        return
    from decur.planning.doctor import as_table, examine

    findings = examine(args.configfile)
    print(as_table(findings))
    if errors := [finding.subject for finding in findings if finding.state == "error"]:
        raise DecurError(f"doctor: {', '.join(errors)}: failed; apply the fixes listed above")


def _schema(args: argparse.Namespace) -> None:
    import json

    from decur.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))


def _completion(parser: Parser, args: argparse.Namespace) -> None:
    from decur.cli.completion import script

    print(script(parser, args.shell))
