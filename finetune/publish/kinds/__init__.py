"""What can be published: one module a kind, and the table of them.

built = build("merged", run, owner, folder, Options(shard_size="1GB"))      # a folder of files, and facts for the card
"""

from finetune.publish.kinds.options import Options
from finetune.publish.kinds.table import KINDS, BuiltKind, Cost, Kind, build, cost

__all__ = ["KINDS", "BuiltKind", "Cost", "Kind", "Options", "build", "cost"]
