"""The command line `decur <verb>`: parse arguments, call one function, print its result.

The workflow's rules call these verbs. Each module here adds a group of verbs with `add_verbs`.
Heavy imports wait until a verb runs, so that help is quick. An error is printed as one line.
"""

from decur.cli.run import command_line, main

__all__ = ["command_line", "main"]
