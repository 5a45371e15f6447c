"""Configs and splits of a dataset repository are found from its README or its file names."""

import pytest

from finetune.data.importing.hub_configs import find_configs

README = """---
license: mit
configs:
- config_name: en
  default: true
  data_files:
  - split: train
    path: en/train-*
  - split: test
    path: [en/test-*.parquet]
- config_name: fr
  data_dir: fr
  data_files: "**/*.jsonl"
---
# Card
"""
SHARD = "-00000-of-00002.parquet"
CASES = {
    "one file": (["README.md", "rows.jsonl"], {"default": {"train": ["rows.jsonl"]}}),
    "shards": (
        ["data/train" + SHARD, "data/train_sft" + SHARD, "data/validation-00000-of-00001-0a1b.parquet"],
        {
            "default": {
                "train": ["data/train" + SHARD],
                "train_sft": ["data/train_sft" + SHARD],
                "validation": ["data/validation-00000-of-00001-0a1b.parquet"],
            }
        },
    ),
    "words in names": (
        ["my_train.csv", "my-dev.csv", "x/test/a.csv.gz", "training.csv", "notes.txt", "dataset_infos.json"],
        {
            "default": {
                "validation": ["my-dev.csv"],
                "train": ["my_train.csv", "training.csv"],
                "test": ["x/test/a.csv.gz"],
            }
        },
    ),
    "a folder each": (
        ["en/train.json", "fr/train.json", "fr/test.json"],
        {"en": {"train": ["en/train.json"]}, "fr": {"test": ["fr/test.json"], "train": ["fr/train.json"]}},
    ),
    "text alone": (["a.txt", "b.txt"], {"default": {"train": ["a.txt", "b.txt"]}}),
    "nothing": (["README.md", "load.py", ".hidden.json", "archive.zip"], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_splits_are_found_by_file_names(case):
    paths, expected = CASES[case]
    assert find_configs(paths, "")[0] == expected


def test_the_readme_says_which_files_make_a_config():
    paths = ["en/train" + SHARD, "en/test" + SHARD, "fr/deep/train.jsonl", "fr/test.jsonl", "fr/train.csv", "other.csv"]
    configs, default = find_configs(paths, README)
    assert default == "en"
    assert configs == {
        "en": {"train": ["en/train" + SHARD], "test": ["en/test" + SHARD]},
        "fr": {"train": ["fr/deep/train.jsonl"], "test": ["fr/test.jsonl"]},
    }


@pytest.mark.parametrize(
    "readme",
    [
        "---\nconfigs: 7\n---\n",
        "---\n: [\n---\n",
        "no front matter",
        "---\nconfigs: [a, {}]\n---",
        "---\nmade: 2024-99-99\n---\n",
        "---\nsize: !!int ''\n---\n",
        "---\ntags: " + "[" * 2000 + "\n---\n",
        "---\na: &a [x, x]\nconfigs:\n- {config_name: *a, data_files: rows.csv}\n---\n",
    ],
)
def test_an_odd_readme_is_no_obstacle(readme):
    assert find_configs(["rows.csv"], readme)[0] == {"default": {"train": ["rows.csv"]}}


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("**", ["a/b/x.csv", "a/y.csv", "z.csv"]),
        ("**/x.csv", ["a/b/x.csv"]),
        ("**/**/*.csv", ["a/b/x.csv", "a/y.csv", "z.csv"]),
        ("**.csv", ["a/b/x.csv", "a/y.csv", "z.csv"]),
        ("a/**", ["a/b/x.csv", "a/y.csv"]),
        ("a/*", ["a/y.csv"]),
        ("./?.csv", ["z.csv"]),
        ("a/*/x.csv", ["a/b/x.csv"]),
        ("a/**/b/*.csv", ["a/b/x.csv"]),
    ],
)
def test_a_pattern_in_a_readme_names_files_as_globs_do(pattern, named):
    readme = f"---\nconfigs:\n- config_name: default\n  data_files: '{pattern}'\n---\n"
    assert find_configs(["a/b/x.csv", "a/y.csv", "z.csv"], readme)[0] == {"default": {"train": named}}


@pytest.mark.parametrize("pattern", ["**/" * 40 + "z", "*a" * 40 + "z"])
def test_a_pattern_that_would_be_tried_in_endless_ways_takes_no_time(pattern):
    path = "a/" * 40 + "a" * 60 + ".csv"
    readme = f"---\nconfigs:\n- data_files: '{pattern}'\n---\n"
    assert find_configs([path], readme)[0] == {"default": {"train": [path]}}
