"""The argument parser of all verbs: errors of one line, and help with examples."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from decur.cluster.user_paths import expand
from decur.errors import DecurError


def positive(text: str) -> int:
    """Parse an argument that counts something.

    Raises:
        argparse.ArgumentTypeError: the text is not a whole number of at least 1.
    """
    if not text.strip().isascii() or not text.strip().isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


def user_path(text: str) -> Path:
    """Parse an argument that is a path, and expand `~` and variables.

    Raises:
        argparse.ArgumentTypeError: a variable or a home folder is unknown.
    """
    return Path(user_path_text(text))


def user_path_text(text: str) -> str:
    """Parse an argument as `user_path` does, but return text, as it may also be a name."""
    try:
        return expand(text)
    except DecurError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


class Parser(argparse.ArgumentParser):
    """A parser that prints examples in its help, and errors as one line."""

    examples: tuple[str, ...] = ()
    names: Callable[[], str] | None = None
    """Computes a line of the help. It is called late, since it imports a registry."""

    def __init__(self, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=formatter, allow_abbrev=False, **options)

    def format_help(self) -> str:
        """Format the usual help, then the known names and the examples."""
        names = "" if self.names is None else f"\n{self.names()}\n"
        lines = "".join(f"  {example}\n" for example in self.examples)
        return super().format_help() + names + (f"\nexamples:\n{lines}" if lines else "")

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with status 2."""
        self.exit(2, f"decur: error: {message}; see {self.prog} --help\n")


class Verbs:
    """The verbs of a `parser`."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser
        self._below = parser.add_subparsers(metavar="verb", required=True, parser_class=Parser)

    def add(
        self, name: str, call: Callable[[argparse.Namespace], None], text: str, *examples: str
    ) -> Parser:
        """Add a verb that calls `call`, and return its parser. `examples` are commands."""
        verb = self._parser(name, text)
        verb.examples = examples
        verb.set_defaults(call=call)
        # A default would override a --debug before the verb.
        verb.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback on error",
        )
        return verb

    def group(self, name: str, text: str) -> "Verbs":
        """Add a verb that only groups other verbs."""
        return Verbs(self._parser(name, text))

    def _parser(self, name: str, text: str) -> Parser:
        return self._below.add_parser(name, help=text, description=text)
