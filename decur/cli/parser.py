"""The parser that every verb shares: one line for a wrong argument, examples in its help."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from decur.cluster.user_paths import expand
from decur.errors import DecurError


def positive(text: str) -> int:
    """The type of an argument that counts something.

    Raises:
        argparse.ArgumentTypeError: the text is no whole number of at least 1.
    """
    if not text.strip().isascii() or not text.strip().isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


def user_path(text: str) -> Path:
    """The type of an argument that is a path; `~` and variables in it are replaced.

    Raises:
        argparse.ArgumentTypeError: a variable or a home folder is not known.
    """
    return Path(user_path_text(text))


def user_path_text(text: str) -> str:
    """As `user_path`, but a string, for arguments that may also be names."""
    try:
        return expand(text)
    except DecurError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


class Parser(argparse.ArgumentParser):
    """A parser whose help ends in examples, and whose errors are one line."""

    examples: tuple[str, ...] = ()

    def __init__(self, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=formatter, allow_abbrev=False, **options)

    def format_help(self) -> str:
        """The usual help, and the examples below it."""
        lines = "".join(f"  {example}\n" for example in self.examples)
        return super().format_help() + (f"\nexamples:\n{lines}" if lines else "")

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"decur: error: {message}; see {self.prog} --help\n")


class Verbs:
    """The verbs below a `parser`."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser
        self._below = parser.add_subparsers(metavar="verb", required=True, parser_class=Parser)

    def add(
        self, name: str, call: Callable[[argparse.Namespace], None], text: str, *examples: str
    ) -> Parser:
        """A verb that calls `call`; give its arguments to the parser. `examples` are commands."""
        verb = self._parser(name, text)
        verb.examples = examples
        verb.set_defaults(call=call)
        # Without a default, which would undo a --debug before the verb.
        verb.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback on error",
        )
        return verb

    def group(self, name: str, text: str) -> "Verbs":
        """A verb that only has verbs of its own."""
        return Verbs(self._parser(name, text))

    def _parser(self, name: str, text: str) -> Parser:
        return self._below.add_parser(name, help=text, description=text)
