"""Run the command line with `python -m decur.cli`."""

import sys

from decur.cli.run import main

if __name__ == "__main__":
    sys.exit(main())
