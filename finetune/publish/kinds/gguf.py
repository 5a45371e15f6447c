"""The GGUF kind: F16 and Q8_0 files for llama.cpp and Ollama, each loaded back and compared, and a Modelfile."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import read_json, write_file
from core.words import say
from finetune.publish.card.facts import base_of, known_license
from finetune.publish.formats import gguf_model, gguf_vocab, logit_check, lora_delta, modelfile
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.gguf_model import Header
from finetune.publish.formats.logit_check import LIMIT
from finetune.publish.formats.trained_run import TrainedFolders, trained
from finetune.publish.kinds import presets
from finetune.publish.kinds.request import Cost, PreparedBuild, Request

if TYPE_CHECKING:
    import torch

_HEADER = 16 * 2**20


def prepare(request: Request) -> PreparedBuild:
    """Prepare the files. Raises UserError for a family other than Llama and Qwen, an unknown tokenizer or type, a
    preset that Ollama lacks, and as merging does."""
    types, name = request.options.gguf_types(), request.options.file_name(request.run.id)
    column = presets.first(request.options.columns)
    sampling, texts = modelfile.parameters(column), column.texts("stop") if column else []
    source = trained(request.run, request.owner, request.progress, request.stop)
    plan = lora_delta.plan(source.base, source.adapter)
    plan = replace(plan, parts=[replace(part, dtype="F32") for part in plan.parts])
    header = _header(plan, source, name, request)
    outputs = {kind: gguf_model.outline(plan, header, kind) for kind in types}
    files = {f"{name}-{kind}.gguf": sum(output.size for output in outputs[kind]) + _HEADER for kind in types}

    def write(folder: Path, progress: BuildProgress) -> dict[str, Any]:
        for kind in types:
            gguf_model.write(folder / f"{name}-{kind}.gguf", outputs[kind], header, kind, progress)
        chat = modelfile.chat_of(source.tokenizer, _ends(source, header.config), texts)
        write_file(folder / "Modelfile", modelfile.render(f"{name}-{types[-1]}.gguf", chat, sampling))
        facts: dict[str, Any] = {
            "family": header.family,
            "vocabulary": header.vocabulary.model,
            "pre_tokenizer": header.vocabulary.pre,
            "chat_family": chat.family.key if chat.family else None,
            "stops": list(chat.stops),
            "types": list(types),
            "comparisons": [],
        }
        facts["not_compared"] = logit_check.skipped(plan, request.options.check, copies=3)
        if facts["not_compared"] is None:
            facts["comparisons"] = _Checker(plan, source, header, progress).all(folder, name, types)
        return facts

    return PreparedBuild(Cost({**files, "Modelfile": 4096}), write)


def _header(plan: lora_delta.WeightPlan, source: TrainedFolders, name: str, request: Request) -> Header:
    config = logit_check.config_of(source.base, plan)
    gguf_model.check_family(config)
    embeddings = next(part for part in plan.parts if part.name.endswith("embed_tokens.weight"))
    base_license = known_license(base_of(request.run, request.owner), request.owner)
    return Header(name, config, gguf_vocab.read(source.tokenizer, embeddings.rows), base_license.key)


def _ends(source: TrainedFolders, config: Any) -> list[int]:
    """Return the ids at which the model stops."""
    path = source.tokenizer / "generation_config.json"
    value = read_json(path).get("eos_token_id") if path.is_file() else None
    value = config.eos_token_id if value is None else value
    return [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)]


class _Checker:
    """Loads each file back as transformers reads GGUF, and measures how far its logits are from the model's."""

    def __init__(
        self, plan: lora_delta.WeightPlan, source: TrainedFolders, header: Header, progress: BuildProgress
    ) -> None:
        self.plan, self.source, self.header, self.progress = plan, source, header, progress

    def all(self, folder: Path, name: str, types: tuple[str, ...]) -> list[dict[str, Any]]:
        """Compare all files. Raises UserError where a file does not hold what it should."""
        self.progress.step(say("kinds.checking", name=name))
        prompts = logit_check.prompt_ids(self.source.tokenizer)
        original = logit_check.logits(logit_check.in_memory(self.plan, self.source.base), prompts)
        rows: list[dict[str, Any]] = []
        for kind in types:
            path = folder / f"{name}-{kind}.gguf"
            self.progress.step(say("kinds.checking", name=path.name))
            self._same_tokens(path, prompts)
            found = logit_check.logits_of_gguf(path, self.header.config, prompts)
            rounded = self._rounded(path, kind, prompts, found)
            rows.append({"what": kind, "against": f"the same weights rounded to {kind}", **rounded.to_json()})
            unrounded = logit_check.distance(original, found)
            rows.append({"what": kind, "against": "the unrounded model", **unrounded.to_json()})
        return rows

    def _rounded(
        self, path: Path, kind: str, prompts: list[list[int]], found: "list[torch.Tensor]"
    ) -> logit_check.Distance:
        """Compare with the same model, its matrices rounded as in the file: the difference must be almost zero."""
        wanted = logit_check.logits(
            logit_check.in_memory(self.plan, self.source.base, logit_check.rounded(kind)), prompts
        )
        distance = logit_check.distance(wanted, found)
        if not distance.max_difference <= LIMIT:
            raise UserError("kinds.differs", name=path.name, difference=f"{distance.max_difference:.3g}", limit=LIMIT)
        return distance

    def _same_tokens(self, path: Path, prompts: list[list[int]]) -> None:
        from inference.models.fallback_model import tokenizer_of

        tokenizer = tokenizer_of(path)
        for prompt, wanted in zip(logit_check.PROMPTS, prompts, strict=True):
            if tokenizer(prompt)["input_ids"] != wanted:
                raise UserError("kinds.tokens_differ", name=path.name, value=prompt[:40])
