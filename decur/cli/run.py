"""Run a command, and report how it ended: output, exit status, or an error of one line."""

import io
import os
import select
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import decur
from decur.cli import cluster, environment, results, stages, weights
from decur.cli.parser import Parser, Verbs
from decur.cluster.user import provide_user
from decur.errors import DecurError

TRACEBACK = "DECUR_TRACEBACK"
"""Variable that the workflow sets for its jobs, so that their logs contain the traceback of a bug.
A second run to show it could take days."""

PACKAGE = str(Path(decur.__file__).parent)
STDOUT = 1
INTERRUPTED = 130
BROKEN_PIPE = 141
"""Exit status as in shells: 128 plus the number of the signal."""


def command_line() -> Parser:
    """Build the parser of all verbs and their arguments."""
    parser = Parser(prog="decur", description=decur.__doc__)
    parser.examples = (
        "decur download geonrw --out raw/geonrw",
        "decur plan --profile slurm",
        "decur tables results/mini",
    )
    parser.add_argument("--version", action="version", version=decur.__version__)
    parser.add_argument("--debug", action="store_true", help="show the traceback on error")
    verbs = Verbs(parser)
    for module in (stages, results, weights, cluster, environment):
        module.add_verbs(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = command_line().parse_args(argv)
    try:
        provide_user()
        os.environ["MPLBACKEND"] = (
            "agg"  # no verb opens a window; a notebook's backend may be missing
        )
        args.call(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return BROKEN_PIPE
        if args.debug or (not isinstance(error, DecurError) and TRACEBACK in os.environ):
            traceback.print_exc()
        print(f"decur: error: {_one_line(_told(error))}", file=sys.stderr)
        return 1
    return 0


def _told(error: Exception) -> str:
    """Describe an error; for a file system error, by its path, its reason and what to check."""
    if isinstance(error, OSError) and error.filename is not None:
        paths = " to ".join(map(str, filter(None, (error.filename, error.filename2))))
        return f"{paths}: {error.strerror}; check the path, its permissions and the free space"
    return str(error) if isinstance(error, DecurError | OSError) else _bug(error)


def _one_line(text: str) -> str:
    """Replace line breaks, and characters with which a hostile name could control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _bug(error: Exception) -> str:
    """Describe a bug: the error, the last line of this package in its traceback, and the remedy."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    where = f"{Path(own[-1].filename).relative_to(Path(PACKAGE).parent)}:{own[-1].lineno}"
    remedy = "this is a bug: run again with --debug and report the traceback"
    if isinstance(error, ImportError):
        remedy = "the installation is incomplete: run decur doctor"
    return f"{type(error).__name__}: {error} ({where}); {remedy}"


def _nobody_reads() -> bool:
    """Check whether the reader of stdout has gone, as in `decur schema | head`.

    If so, stdout is redirected to nowhere.
    """
    stdout = select.poll()
    stdout.register(STDOUT, 0)
    gone = any(event & select.POLLERR for _, event in stdout.poll(0))
    if gone:  # otherwise the interpreter fails to flush stdout at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return gone
