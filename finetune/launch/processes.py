"""Where a worker of an older version, which waited while the code was updated, looks for `train_together`."""

from finetune.training import train_together

__all__ = ["train_together"]
