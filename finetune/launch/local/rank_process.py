"""One of several processes that train a run; the run's worker starts `accelerate launch`, which starts these.

python -m finetune.launch.local.rank_process RUN_FOLDER --base FOLDER --meeting FOLDER
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

from core import words
from core.errors import UserError
from core.runtime import no_bar_monitors, quiet_libraries
from finetune.launch.local.rendezvous import Rendezvous
from finetune.runs.failure_reasons import explain
from finetune.runs.log import Journal, Silence
from finetune.runs.run import Run


def main() -> int:
    """Train and return 0 where the run is done or stopped, 1 where this process failed."""
    arguments = _arguments()
    words.speak(arguments.locale)
    no_bar_monitors()
    quiet_libraries()
    rendezvous = Rendezvous(arguments.meeting)
    rendezvous.end_with_worker()
    run = Run(arguments.folder)
    try:
        _train(run, arguments.base, rendezvous, arguments.foreground)
        return 0
    except BaseException as error:
        _give_up(run, rendezvous, error)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--meeting", type=Path, required=True)
    parser.add_argument("--locale", default="en")
    parser.add_argument("--foreground", action="store_true")
    return parser.parse_args()


def _train(run: Run, base: Path, rendezvous: Rendezvous, foreground: bool) -> None:
    import torch.distributed as dist

    from finetune.config.device import choose_device
    from finetune.training.attempt import train
    from finetune.training.distributed import join

    config = run.config()
    team = join(config.compute.processes, choose_device(config).type)
    train(run, base, Journal(run, foreground) if team.leads else Silence(run), rendezvous.stop_requested, team)
    dist.destroy_process_group()


def _give_up(run: Run, rendezvous: Rendezvous, error: BaseException) -> None:
    """Write the reason for the worker, which records it in the run."""
    from finetune.training.distributed import lost_another

    rank = int(os.environ.get("RANK", "0"))
    if isinstance(error, UserError):
        rendezvous.fail(rank, error)
        return
    traceback.print_exc()
    if lost_another(error):
        rendezvous.fail(rank, None)
        return
    config, progress = run.config(), run.progress()
    rendezvous.fail(rank, explain(error, config, progress.step, config.compute.device, run.folder, progress.at_stage))


if __name__ == "__main__":
    sys.exit(main())
