"""Entry point of ``python -m beray.cli``, equivalent to ``beray``."""

import sys

from beray.cli import main

sys.exit(main())
