"""The script of a shell that completes verbs, options, files, data sets and explainers."""

import argparse
from collections.abc import Iterator

import shtab

from decur.config import EXPLAINERS
from decur.datasets import NAMES

FILES = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
"""What an argument is completed by, according to its metavar."""

CHOICES = {"dataset": NAMES, "kind": tuple(EXPLAINERS)}
"""Values that would be slow to import for help alone."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of a command line for "bash", "zsh" or "tcsh"."""
    for action in _arguments(parser):
        if action.metavar in FILES:
            action.complete = FILES[str(action.metavar)]  # type: ignore[attr-defined]
        action.choices = CHOICES.get(action.dest, action.choices)
    return shtab.complete(parser, shell)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _arguments(below)
        else:
            yield action
