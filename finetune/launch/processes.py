"""Alias for workers of an older version that waited during an update: they import `train_together` from here."""

from finetune.training import train_together

__all__ = ["train_together"]
