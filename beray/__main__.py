"""Entry point of ``python -m beray``, which is the ``beray`` command."""

import sys

from beray.cli import main

if __name__ == "__main__":
    sys.exit(main())
