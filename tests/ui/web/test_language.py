"""The reader's language: the page's switch first, then what the browser asks for."""

import httpx
import pytest

from core.words import speaking
from ui.web import language


@pytest.mark.parametrize(
    ("cookie", "accept", "spoken"),
    [
        (None, "zh-CN,zh;q=0.9", "zh"),
        ("tunescope_language=en", "zh-CN", "en"),
        ("a=b; tunescope_language=zh", "en-US", "zh"),
        ("tunescope_language=<b>", "zh", "zh"),
        (None, "de", "en"),
        (None, None, "en"),
        ("\x00;;==", "zh", "zh"),
    ],
)
def test_the_switch_comes_before_the_browser(cookie, accept, spoken):
    assert language.of_headers(cookie, accept) == spoken


def test_a_label_says_itself_in_the_language_of_the_moment():
    label = language.words("page.data")
    with speaking("en"):
        assert str(label) == "Data"
    with speaking("zh"):
        assert str(label) == "数据"


def test_a_label_without_words_is_noticed_at_once():
    with pytest.raises(KeyError):
        language.words("page.no_such_words")


def test_one_page_serves_every_language(app):
    labels = {}
    for spoken in ("en", "zh"):
        config = httpx.get(f"{app.url}/config", headers={"accept-language": spoken}).json()
        labels[spoken] = {part["props"].get("label") for part in config["components"]}
    assert "Base model" in labels["en"] and "基础模型" in labels["zh"]
    assert not any("一" <= letter <= "鿿" for label in labels["en"] for letter in label or "")
