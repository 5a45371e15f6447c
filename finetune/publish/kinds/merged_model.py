"""The merged kind: a full model that loads without PEFT, checked against base model and adapter."""

from pathlib import Path
from typing import Any

from core.errors import UserError
from core.words import say
from finetune.publish.formats import logit_check, lora_delta, merged
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.trained_run import TrainedFolders, trained
from finetune.publish.kinds.request import Cost, PreparedBuild, Request, sizes

LIMIT = 1e-2
_SMALL = 64 * 1024


def prepare(request: Request) -> PreparedBuild:
    """Prepare the merged model. Raises UserError for an adapter that cannot be merged, an invalid shard size, a run
    that is not done."""
    most = request.options.shard_bytes()
    source = trained(request.run, request.owner, request.progress, request.stop)
    plan = lora_delta.plan(source.base, source.adapter)
    files = {shard.name: shard.size + _SMALL for shard in merged.shards(plan, most)}
    small = sizes(source.tokenizer, merged.TOKENIZER)

    def write(folder: Path, progress: BuildProgress) -> dict[str, Any]:
        facts = merged.write(plan, source, folder, most, progress)
        facts["comparisons"] = []
        facts["not_compared"] = logit_check.skipped(plan, request.options.check, copies=1)
        if facts["not_compared"] is None:
            facts["comparisons"] = [_checked(source, plan, folder, progress)]
        return facts

    return PreparedBuild(Cost({**files, **small, "config.json": _SMALL}), write)


def _checked(
    source: TrainedFolders, plan: lora_delta.WeightPlan, folder: Path, progress: BuildProgress
) -> dict[str, Any]:
    """Load the files back and compare. Raises UserError where float32 weights differ from base model and adapter."""
    progress.step(say("kinds.checking", name="safetensors"))
    found = logit_check.merged_against_adapter(source.base, source.adapter, folder)
    exact = all(part.dtype in ("F32", "F64") for part in plan.parts)
    if exact and not found.max_difference <= LIMIT:
        raise UserError("kinds.differs", name="safetensors", difference=f"{found.max_difference:.3g}", limit=LIMIT)
    against = "base model and adapter in PEFT" if source.adapter else "the result of the run"
    return {"what": "merged weights", "against": against, **found.to_json()}
