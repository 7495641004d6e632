"""`python -m decur`."""

import sys

from decur.cli import main

if __name__ == "__main__":
    sys.exit(main())
