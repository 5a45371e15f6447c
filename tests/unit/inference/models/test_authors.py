"""What a checkpoint's authors set, as a column."""

import pytest

from core.errors import UserError
from inference.models.generation_config import settings_line, unsupported_settings


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({}, "greedy"),
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2]}, "greedy"),
        ({"do_sample": True}, "top_k top_k=50"),
        ({"do_sample": True, "top_k": 0}, "sample"),
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05},
            "nucleus top_p=0.95 temperature=0.6 top_k=20 repetition_penalty=1.05",
        ),
        ({"do_sample": True, "top_k": 0, "min_p": 0.05}, "min_p min_p=0.05"),
        ({"do_sample": True, "top_k": 0, "typical_p": 0.8, "top_p": 1.0}, "typical typical_p=0.8"),
        (
            {"num_beams": 4, "early_stopping": True, "length_penalty": 2.0},
            "beam num_beams=4 length_penalty=2.0 early_stopping=true",
        ),
        ({"num_beams": 2, "do_sample": True, "temperature": 0.7}, "beam_sample num_beams=2 temperature=0.7 top_k=50"),
        (
            {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5},
            "diverse_beam num_beams=6 num_groups=3 diversity_penalty=0.5",
        ),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive top_k=4 penalty_alpha=0.6"),
        ({"dola_layers": "low"}, "dola layers=low"),
        ({"no_repeat_ngram_size": 3, "num_beams": None}, "greedy no_repeat_ngram_size=3"),
    ],
)
def test_a_generation_config_becomes_the_line_that_does_the_same(config, line):
    assert settings_line(config) == line


def test_a_value_that_no_column_takes_is_refused_by_name():
    with pytest.raises(UserError, match="temperature"):
        settings_line({"do_sample": True, "temperature": 0.0})


def test_what_no_column_has_is_named():
    config = {"suppress_tokens": [1], "guidance_scale": 1.0, "min_new_tokens": 4, "min_length": 0, "top_p": 0.5}
    assert unsupported_settings(config) == ["min_new_tokens", "suppress_tokens"]
