"""`python -m embedway` does what the command `embedway` does."""

import sys

from embedway.cli import main

sys.exit(main())
