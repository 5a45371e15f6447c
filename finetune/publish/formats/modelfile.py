"""An Ollama Modelfile for a GGUF: its weights, the conversation template, stop tokens and sampling parameters.

A template is included only where it was verified to write what the model's own chat template writes.
https://docs.ollama.com/modelfile
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from inference.strategies.knobs import Value
from inference.strategies.table import ColumnSpec, known_knobs

_OLLAMA_NAMES = {name: name for name in ("temperature", "top_k", "top_p", "min_p", "seed")}
_OLLAMA_NAMES["repetition_penalty"] = "repeat_penalty"
_WHOLE_CONTEXT = -1
"""For `repeat_last_n`: by default Ollama looks for repetitions in the last 64 tokens only."""
_TRIAL = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "How are you?"},
)


@dataclass(frozen=True)
class Family:
    """A family's conversation template: each message between `before` (with its role) and `after`, then `reply`."""

    key: str
    before: str
    after: str
    reply: str
    stops: tuple[str, ...]

    def write(self, messages: tuple[dict[str, str], ...]) -> str:
        """Return a conversation as this family writes it, up to where the model answers."""
        return (
            "".join(self.before.format(**message) + message["content"] + self.after for message in messages)
            + self.reply
        )

    def template(self) -> str:
        """Return the same in Ollama's template language."""
        before = self.before.format(role="{{ .Role }}")
        return "{{- range .Messages }}" + before + "{{ .Content }}" + self.after + "{{ end }}" + self.reply


FAMILIES = (
    Family(
        "chatml", "<|im_start|>{role}\n", "<|im_end|>\n", "<|im_start|>assistant\n", ("<|im_end|>", "<|endoftext|>")
    ),
    Family(
        "llama3",
        "<|start_header_id|>{role}<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ("<|eot_id|>", "<|end_of_text|>"),
    ),
    Family("zephyr", "<|{role}|>\n", "</s>\n", "<|assistant|>\n", ("</s>",)),
)


@dataclass(frozen=True)
class Chat:
    """What is known of a model's conversations: its family, its default system message, its end tokens."""

    family: Family | None
    system: str | None
    stops: tuple[str, ...]


def chat_of(tokenizer_folder: Path, end_ids: list[int], texts: Sequence[str] = ()) -> Chat:
    """Find the family that writes exactly what the chat template writes; `texts` are further texts to stop at."""
    from inference.models.loading import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    ends = [tokenizer.convert_ids_to_tokens(number) for number in end_ids]
    family = next((family for family in FAMILIES if _rendered(tokenizer, _TRIAL) == family.write(_TRIAL)), None)
    known = set(tokenizer.get_vocab())
    stops = [*ends, *(stop for stop in (family.stops if family else ()) if stop in known), *texts]
    system = _system(_rendered(tokenizer, _TRIAL[1:2]), family)
    return Chat(family, system, tuple(dict.fromkeys(stop for stop in stops if stop)))


def _rendered(tokenizer: Any, messages: tuple[dict[str, str], ...]) -> str | None:
    """Render a conversation with the model's own template, without the token that llama.cpp puts before every text."""
    import jinja2

    if not tokenizer.chat_template:
        return None
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except (jinja2.TemplateError, ValueError, TypeError):
        return None
    return str(text).removeprefix(tokenizer.bos_token or "") if _adds_bos(tokenizer) else str(text)


def _adds_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a")["input_ids"]
    return len(ids) > 1 and ids[0] == tokenizer.bos_token_id


def _system(rendered: str | None, family: Family | None) -> str | None:
    """Return the default system message, from a conversation that was given none."""
    if family is None or rendered is None:
        return None
    before, rest = family.before.format(role="system"), family.write(_TRIAL[1:2])
    if not rendered.startswith(before) or not rendered.endswith(family.after + rest):
        return None
    return rendered[len(before) : -len(family.after + rest)] or None


def render(gguf: str, chat: Chat, sampling: dict[str, Value | None]) -> str:
    """Return the Modelfile for a GGUF in the same folder; `sampling` is what `parameters` returns."""
    lines = [f"FROM ./{gguf}", ""]
    if chat.family is not None:
        lines += [f'TEMPLATE """{chat.family.template()}"""', ""]
    else:
        lines += [
            "# Ollama uses the chat template in the GGUF: there is no verified Ollama template for this family.",
            "",
        ]
    if chat.system and '"""' not in chat.system:
        lines += [f'SYSTEM """{chat.system}"""', ""]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in chat.stops]
    lines += [f"PARAMETER {name} {value}" for name, value in sampling.items()]
    return "\n".join(lines) + "\n"


def parameters(column: ColumnSpec | None) -> dict[str, Value | None]:
    """Return the parameters with which Ollama samples as a column does: greedy is its temperature 0. Texts at which the
    column stops are parameters of their own (`chat_of`).

    Raises UserError for a strategy or a setting that it lacks.
    """
    knobs = known_knobs()
    repetition: dict[str, Value | None] = {"repeat_penalty": knobs["repetition_penalty"].neutral}
    if column is None:
        return repetition
    given = _given(column)
    if "repeat_penalty" in given:
        repetition = {"repeat_penalty": given.pop("repeat_penalty"), "repeat_last_n": _WHOLE_CONTEXT}
    filters = {name: knobs[name].neutral for name in ("top_k", "top_p", "min_p")}
    temperature = knobs["temperature"].neutral if column.kind == "sample" else 0
    return {**repetition, "temperature": temperature, **filters, **given}


def _given(column: ColumnSpec) -> dict[str, Value]:
    """Return the column's settings that have an effect, as Ollama names them."""
    if column.kind not in ("greedy", "sample"):
        raise UserError("kinds.not_in_ollama", value=column.strategy)
    given = {name: value for name, value in column.knobs.items() if name != "stop" and column.has_effect(name)}
    lacking = [name for name in given if name not in _OLLAMA_NAMES]
    if lacking:
        known = ", ".join(_OLLAMA_NAMES)
        raise UserError("kinds.setting_not_in_ollama", value=column.name, names=", ".join(lacking), known=known)
    return {_OLLAMA_NAMES[name]: value for name, value in given.items()}
