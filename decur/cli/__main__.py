"""`python -m decur.cli`."""

import sys

from decur.cli.main import main

sys.exit(main())
