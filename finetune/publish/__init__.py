"""From a finished run to a repository on the Hub, and the verification that the published files are what was trained.

plan = prepare(run, "ada/tea-adapter", owner)        # files and card, nothing is sent to the Hub
pushed = push(plan, owner, confirmed=False, progress=print)
proof = prove(run, pushed.repo_id, pushed.commit, owner, print)
keep_in_card(run, proof, owner)                      # commits the verification to the card

Other kinds are built first (`finetune.publish.kinds`) and passed as `prepare(..., built=built)`.
"""

from finetune.publish.plan import PushPlan, prepare
from finetune.publish.proof.in_card import keep_in_card
from finetune.publish.proof.proof import FileProof, Proof, prove, read_proof
from finetune.publish.push import push
from finetune.publish.repo.records import PushResult, read_push
from finetune.publish.repo.scan import PlannedFile

__all__ = [
    "FileProof",
    "PlannedFile",
    "Proof",
    "PushPlan",
    "PushResult",
    "keep_in_card",
    "prepare",
    "prove",
    "push",
    "read_proof",
    "read_push",
]
