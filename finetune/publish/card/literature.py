"""The names of methods, objectives and settings in the field, and the papers that they come from."""

from collections.abc import Iterator
from dataclasses import dataclass

from finetune.config.blocks import Dpo, Stage
from finetune.config.run_config import RunConfig

METHOD_NAMES = {
    "lora": "LoRA",
    "rslora": "rsLoRA",
    "dora": "DoRA",
    "loraplus": "LoRA+",
    "qlora": "QLoRA",
    "freeze": "partial fine-tuning",
    "full": "full fine-tuning",
}
OBJECTIVE_NAMES = {
    "sft": "supervised fine-tuning (SFT)",
    "pretrain": "continued pretraining",
    "dpo": "direct preference optimization (DPO)",
}


@dataclass(frozen=True)
class Paper:
    """One paper, with its number on arXiv."""

    what: str
    authors: str
    title: str
    arxiv: str


_LORA = Paper("LoRA", "Hu et al. 2021", "LoRA: Low-Rank Adaptation of Large Language Models", "2106.09685")
_METHODS = {
    "lora": (_LORA,),
    "rslora": (
        _LORA,
        Paper(
            "rsLoRA",
            "Kalajdzievski 2023",
            "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA",
            "2312.03732",
        ),
    ),
    "dora": (
        _LORA,
        Paper("DoRA", "Liu et al. 2024", "DoRA: Weight-Decomposed Low-Rank Adaptation", "2402.09353"),
    ),
    "loraplus": (
        _LORA,
        Paper("LoRA+", "Hayou et al. 2024", "LoRA+: Efficient Low Rank Adaptation of Large Models", "2402.12354"),
    ),
    "qlora": (
        _LORA,
        Paper("QLoRA", "Dettmers et al. 2023", "QLoRA: Efficient Finetuning of Quantized LLMs", "2305.14314"),
    ),
}
_DPO = Paper(
    "DPO",
    "Rafailov et al. 2023",
    "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
    "2305.18290",
)
_IPO = Paper(
    "IPO",
    "Azar et al. 2023",
    "A General Theoretical Paradigm to Understand Learning from Human Preferences",
    "2310.12036",
)
_NEFTUNE = Paper(
    "NEFTune", "Jain et al. 2023", "NEFTune: Noisy Embeddings Improve Instruction Finetuning", "2310.05914"
)


def papers_of(config: RunConfig) -> list[Paper]:
    """Return the papers of a run's method, of its stages' objectives and of other settings, each once."""
    return list(dict.fromkeys(_papers(config)))


def _papers(config: RunConfig) -> Iterator[Paper]:
    yield from _METHODS.get(config.method, ())
    for stage in config.stages:
        if isinstance(stage.settings, Dpo):
            yield _IPO if stage.settings.loss == "ipo" else _DPO
        if config.optim_of(stage).neftune:
            yield _NEFTUNE


def objective_name(stage: Stage) -> str:
    """Return the name of a stage's objective in the field."""
    if isinstance(stage.settings, Dpo) and stage.settings.loss == "ipo":
        return "identity preference optimization (IPO)"
    return OBJECTIVE_NAMES[stage.objective]
