"""The shell of fine-tuning: check, train, start, list, status, stop, resume, publish. `python -m finetune --help`."""

import sys

from finetune.shell import main

if __name__ == "__main__":
    sys.exit(main())
