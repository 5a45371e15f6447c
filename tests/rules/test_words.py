"""The words people read: every key has its sentence in every language, with the same placeholders."""

import ast
import re
import string

import pytest

from core import words
from tests.rules.source import dotted, modules, nodes, tree

SAYERS = {"UserError", "say", "words.say"}


def _placeholders(sentence):
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_the_languages_have_the_same_keys():
    english, chinese = words.catalogue("en"), words.catalogue("zh")
    assert len(english) > 50
    assert set(english) ^ set(chinese) == set()


def test_the_languages_have_the_same_placeholders():
    english, chinese = words.catalogue("en"), words.catalogue("zh")
    assert [key for key in english if _placeholders(english[key]) != _placeholders(chinese.get(key, ""))] == []


def test_labels_of_the_form_have_at_most_three_words():
    """With the unit: "Validate every (steps)" has three."""
    labels = {key: text for key, text in words.catalogue("en").items() if re.fullmatch(r"config\..+\.label", key)}
    assert len(labels) > 40
    assert [f"{key}: {text}" for key, text in labels.items() if len(text.split()) > 3] == []


def test_no_key_stands_in_two_files():
    seen = []
    for path in words.FOLDER.glob("*.en.json"):
        seen += re.findall(r'^\s*"([^"]+)":', path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(seen) == len(set(seen))


def test_keys_begin_with_the_name_of_their_file():
    for path in words.FOLDER.glob("*.en.json"):
        area = path.name.split(".")[0]
        keys = re.findall(r'^\s*"([^"]+)":', path.read_text(encoding="utf-8"), re.MULTILINE)
        assert [key for key in keys if not key.startswith(area + ".")] == [], path.name


def _calls():
    for path in modules("core", "inference", "finetune", "ui", "app"):
        for node in nodes(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in SAYERS and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield dotted(path), node, first.value


def test_every_sentence_that_code_asks_for_exists():
    missing = [f"{where}: {key}" for where, _, key in _calls() if key not in words.catalogue("en")]
    assert missing == []


def test_every_placeholder_is_given():
    """A sentence with a hole would raise KeyError in place of telling what is wrong."""
    wrong = []
    for where, node, key in _calls():
        given = {keyword.arg for keyword in node.keywords}
        if None in given or key not in words.catalogue("en"):
            continue
        hole = _placeholders(words.catalogue("en")[key]) - given
        wrong += [f"{where}:{node.lineno} {key} lacks {sorted(hole)}"] if hole else []
    assert wrong == []


@pytest.mark.parametrize(
    ("wanted", "got"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("zh_CN.UTF-8", "zh"), ("de,en;q=0.5", "en"), ("fr", "en"), (None, "en")],
)
def test_the_nearest_language_is_chosen(wanted, got):
    assert words.nearest(wanted) == got
