"""The shell of fine-tuning: models, check, train, start, publish and more. `python -m finetune --help`."""

import sys

from finetune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
