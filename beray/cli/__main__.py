"""``python -m beray.cli`` is ``beray``."""

import sys

from beray.cli import main

sys.exit(main())
