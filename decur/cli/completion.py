"""Write a script with which a shell completes verbs, options, files, datasets and explainers."""

import argparse
from collections.abc import Iterator

import shtab

from decur.config import EXPLAINERS
from decur.config.datasets import DATASETS

FILES = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
"""How to complete an argument, by its metavar."""

CHOICES = {"dataset": tuple(DATASETS), "kind": tuple(EXPLAINERS)}
"""Values by argument. The help leaves them out, since their import is slow."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Write the completion script of a command line for "bash", "zsh" or "tcsh"."""
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
