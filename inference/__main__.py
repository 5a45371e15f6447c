"""The command line of inference: `python -m inference compare --help`."""

import sys

from inference.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
