"""Entry point inside a rented job: `python -m finetune.launch.inside INPUTS_FOLDER RUN_ID`."""

import sys

from finetune.launch.inside.main import main

if __name__ == "__main__":
    sys.exit(main())
