"""Models to begin with: small causal language models of the Hub with safetensors that need no code of their own.

Looked up in November 2026, not on the Hub itself: sizes in LitGPT, which repeats each repository's config.json
(Lightning-AI/litgpt, litgpt/config.py at commit 0006c973), those of SmolLM3, Gemma 3 270M and Granite (of its release
3.1) in published descriptions; weights counted on models built from these sizes, those of LFM2 in its model card;
licenses, languages, context lengths and gates in copies of the model cards. Known without having been found again:
Granite 3.3's vocabulary, and that Qwen2.5's config.json stops at 32,768 tokens. Of Qwen3, whose card speaks of more
than a hundred languages, those are listed that Qwen2.5's names; of Gemma, English alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

TASKS = ("chat", "code", "text")
"""Chat models; chat models for code; models that only continue text (bases without instruction tuning)."""
SIZE_BOUNDS = {"tiny": (0, 0.5e9), "small": (0.5e9, 2e9), "medium": (2e9, 5e9), "large": (5e9, float("inf"))}
"""Lowest and highest number of weights, by the name of the size."""


@dataclass(frozen=True)
class Sizes:
    """What determines the memory of a Llama-like model: layers, width, width of the MLP, query heads, key-value heads,
    width of a head, vocabulary. `tied`: the head is the embedding. `gathers`: the head is one matrix product and
    nothing else."""

    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    tied: bool = True
    gathers: bool = True


@dataclass(frozen=True)
class Model:
    """A model to choose. Unknown values are None (`languages`: empty); `obstacle` is the key of the sentence that says
    why it cannot be used here. `context` is in tokens, `parameters` counts weights."""

    name: str
    task: str | None = None
    parameters: int | None = None
    licence: str | None = None
    context: int | None = None
    languages: tuple[str, ...] = ()
    sizes: Sizes | None = None
    gated: bool = False
    downloads: int | None = None
    obstacle: str | None = None


_QWEN = ("en", "zh", "fr", "es", "pt", "de", "it", "ru", "ja", "ko", "vi", "th", "ar")
_LLAMA = ("en", "de", "fr", "it", "pt", "hi", "es", "th")
_LFM = ("en", "ar", "zh", "fr", "de", "ja", "ko", "es")
_GRANITE = ("en", "de", "es", "fr", "ja", "pt", "ar", "cs", "it", "ko", "nl", "zh")
_SMOL3 = ("en", "fr", "es", "de", "it", "pt")
_EN = ("en",)
_APACHE = "apache-2.0"

_SMOL_135M = Sizes(30, 576, 1536, 9, 3, 64, 49152)
_QWEN_HALF = Sizes(24, 896, 4864, 14, 2, 64, 151936)
_QWEN_1B = Sizes(28, 1536, 8960, 12, 2, 128, 151936)
_QWEN3_TINY = Sizes(28, 1024, 3072, 16, 8, 128, 151936)
_GRANITE_2B = Sizes(40, 2048, 8192, 32, 8, 64, 49159, gathers=False)

SUGGESTED = (
    Model("HuggingFaceTB/SmolLM2-135M-Instruct", "chat", 134_515_008, _APACHE, 8192, _EN, _SMOL_135M),
    Model(
        "HuggingFaceTB/SmolLM2-360M-Instruct", "chat", 361_821_120, _APACHE, 8192, _EN,
        Sizes(32, 960, 2560, 15, 5, 64, 49152),
    ),
    Model(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct", "chat", 1_711_376_384, _APACHE, 8192, _EN,
        Sizes(24, 2048, 8192, 32, 32, 64, 49152),
    ),
    Model(
        "HuggingFaceTB/SmolLM3-3B", "chat", 3_075_098_624, _APACHE, 65536, _SMOL3,
        Sizes(36, 2048, 11008, 16, 4, 128, 128256),
    ),
    Model("Qwen/Qwen2.5-0.5B-Instruct", "chat", 494_032_768, _APACHE, 32768, _QWEN, _QWEN_HALF),
    Model("Qwen/Qwen2.5-1.5B-Instruct", "chat", 1_543_714_304, _APACHE, 32768, _QWEN, _QWEN_1B),
    Model(
        "Qwen/Qwen2.5-7B-Instruct", "chat", 7_615_616_512, _APACHE, 32768, _QWEN,
        Sizes(28, 3584, 18944, 28, 4, 128, 152064, tied=False),
    ),
    Model("Qwen/Qwen3-0.6B", "chat", 596_049_920, _APACHE, 40960, _QWEN, _QWEN3_TINY),
    Model(
        "Qwen/Qwen3-1.7B", "chat", 1_720_574_976, _APACHE, 40960, _QWEN,
        Sizes(28, 2048, 6144, 16, 8, 128, 151936),
    ),
    Model(
        "Qwen/Qwen3-4B", "chat", 4_022_468_096, _APACHE, 40960, _QWEN,
        Sizes(36, 2560, 9728, 32, 8, 128, 151936),
    ),
    Model(
        "Qwen/Qwen3-8B", "chat", 8_190_735_360, _APACHE, 40960, _QWEN,
        Sizes(36, 4096, 12288, 32, 8, 128, 151936, tied=False),
    ),
    Model(
        "meta-llama/Llama-3.2-1B-Instruct", "chat", 1_235_814_400, "llama3.2", 131072, _LLAMA,
        Sizes(16, 2048, 8192, 32, 8, 64, 128256), gated=True,
    ),
    Model(
        "meta-llama/Llama-3.2-3B-Instruct", "chat", 3_212_749_824, "llama3.2", 131072, _LLAMA,
        Sizes(28, 3072, 8192, 24, 8, 128, 128256), gated=True,
    ),
    Model(
        "google/gemma-3-270m-it", "chat", 268_098_176, "gemma", 32768, _EN,
        Sizes(18, 640, 2048, 4, 1, 256, 262144), gated=True,
    ),
    Model(
        "google/gemma-3-1b-it", "chat", 999_885_952, "gemma", 32768, _EN,
        Sizes(26, 1152, 6912, 4, 1, 256, 262144), gated=True,
    ),
    Model("ibm-granite/granite-3.3-2b-instruct", "chat", 2_533_539_840, _APACHE, 131072, _GRANITE, _GRANITE_2B),
    Model("LiquidAI/LFM2-350M", "chat", 354_483_968, "lfm1.0", 32768, _LFM),
    Model("LiquidAI/LFM2-1.2B", "chat", 1_170_340_608, "lfm1.0", 32768, _LFM),
    Model("Qwen/Qwen2.5-Coder-0.5B-Instruct", "code", 494_032_768, _APACHE, 32768, _EN, _QWEN_HALF),
    Model("Qwen/Qwen2.5-Coder-1.5B-Instruct", "code", 1_543_714_304, _APACHE, 32768, _EN, _QWEN_1B),
    Model("HuggingFaceTB/SmolLM2-135M", "text", 134_515_008, _APACHE, 8192, _EN, _SMOL_135M),
    Model("Qwen/Qwen3-0.6B-Base", "text", 596_049_920, _APACHE, 32768, _QWEN, _QWEN3_TINY),
)  # fmt: skip


def languages() -> list[str]:
    """Return the languages of all suggestions, English and Chinese first."""
    named = {language for model in SUGGESTED for language in model.languages}
    return sorted(named, key=lambda code: (code != "en", code != "zh", code))


def matching(
    models: Iterable[Model], task: str | None = None, size: str | None = None, language: str | None = None
) -> list[Model]:
    """Return the models that match the filters, in their order. An unknown value matches no filter."""
    low, high = SIZE_BOUNDS[size] if size else (0, float("inf"))
    return [
        model
        for model in models
        if task in (None, model.task)
        and (not size or (model.parameters is not None and low <= model.parameters < high))
        and (not language or language in model.languages)
    ]


def nearest(parameters: int) -> Sizes:
    """Return the sizes of the suggestion with the nearest number of weights, for a model whose own sizes are not
    known."""
    known = [model for model in SUGGESTED if model.sizes and model.parameters]
    return min(known, key=lambda model: abs((model.parameters or 1) / parameters - 1)).sizes or _SMOL_135M
