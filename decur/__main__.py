"""`python -m decur`."""

import sys

from decur.cli import main

sys.exit(main())
