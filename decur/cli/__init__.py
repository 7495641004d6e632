"""`decur <verb>`: parse, call one function, print; one line for an error.

The workflow's rules call these verbs. Each module here adds a group of them, by `add_verbs`; heavy
imports wait until a verb runs, so that help is quick.
"""

from decur.cli.run import command_line, main

__all__ = ["command_line", "main"]
