"""Links and records: what goes round comes back the same; what comes from strangers is bounded and refused in words."""

import base64
import json
import subprocess
import sys
import zlib
from dataclasses import asdict

import pytest

from core.errors import UserError
from inference.compare.record import LARGEST_REQUEST, LONGEST_LINK, link_of, request_of, request_of_record
from inference.compare.request import CompareRequest
from tests.rules.source import ROOT

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "茶?"}]
REQUESTS = [
    CompareRequest("a/b", ["greedy"], "hello"),
    CompareRequest("a/b@v1", ["greedy"], messages=MESSAGES, dtype="bfloat16", exact=True),
    CompareRequest(
        "a/b",
        ['greedy stop="\\n\\n|###" start=12,88', "beam model=base"],
        "<b>&?#%",
        None,
        "c/d",
        7,
        33,
        "float16",
        True,
    ),
]


def _link(value):
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(zlib.compress(content)).decode().rstrip("=")


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_link_and_a_record_bring_back_the_request(request_):
    link = link_of(request_)
    assert request_of(link) == request_
    assert set(link) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert request_of_record(json.loads(json.dumps({"request": asdict(request_)}))) == request_


def test_usual_settings_take_no_room_in_a_link():
    assert len(link_of(REQUESTS[0])) < 100


def test_a_record_is_run_again_at_the_revision_it_was_made_with():
    request = asdict(REQUESTS[0])
    pinned = request_of_record({"request": request, "revision": "c0ffee"})
    assert pinned.model == "a/b@c0ffee"
    adapter = {"name": "a/b", "revision": "beef", "base": "x/y"}
    assert request_of_record({"request": request, "revision": "c0ffee", "adapter": adapter}).model == "a/b@beef"
    with_adapter = {"request": {**request, "adapter": "c/d"}, "revision": "c0ffee", "adapter": adapter}
    assert request_of_record(with_adapter).model == "a/b@c0ffee"
    assert request_of_record({"request": asdict(REQUESTS[1]), "revision": "c0ffee"}).model == "a/b@v1"
    assert request_of_record({"request": request, "revision": None}).model == "a/b"


GOOD = {"model": "a/b", "columns": ["greedy"], "prompt": "hi"}


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({**GOOD, "colour": 1}, "record.unknown"),
        ({**GOOD, "seed": True}, "record.type"),
        ({**GOOD, "seed": "3"}, "record.type"),
        ({**GOOD, "raw": 1}, "record.type"),
        ({**GOOD, "dtype": "int8"}, "record.type"),
        ({**GOOD, "columns": [3]}, "record.type"),
        ({"prompt": "hi", "columns": ["greedy"]}, "record.type"),
        ({**GOOD, "columns": ["nucleos"]}, "decode.strategy_unknown"),
        ({**GOOD, "seed": 2**80}, "decode.seed_range"),
        ({**GOOD, "prompt": " "}, "decode.prompt_empty"),
        ({**GOOD, "messages": [{"role": "user", "content": "x"}]}, "decode.prompt_or_messages"),
        ([GOOD], "record.link_broken"),
        (b"{", "record.link_broken"),
        (b"[" * 50_000, "record.link_broken"),
        (b"\xff", "record.link_broken"),
        (b" " * (LARGEST_REQUEST + 1), "record.link_broken"),
    ],
)
def test_a_link_with_anything_else_in_it_is_refused(facts, code):
    with pytest.raises(UserError) as refused:
        request_of(_link(facts))
    assert refused.value.code == code
    assert str(refused.value)


@pytest.mark.parametrize("text", ["!", "abc", "é", "YQ", link_of(REQUESTS[0])[:-6], "A" * (LONGEST_LINK + 1)])
def test_text_that_is_no_link_is_refused(text):
    with pytest.raises(UserError, match="link"):
        request_of(text)


def test_a_bomb_is_not_unpacked():
    packed = zlib.compress(b" " * 5_000_000, 9)
    with pytest.raises(UserError) as refused:
        request_of(base64.urlsafe_b64encode(packed).decode())
    assert refused.value.code == "record.link_broken"


def test_a_prompt_too_long_for_an_address_is_said():
    text = "".join(chr(0x4E00 + (number * 7919) % 20_000) for number in range(9_000))
    with pytest.raises(UserError) as refused:
        link_of(CompareRequest("a/b", ["greedy"], text))
    assert refused.value.code == "record.link_long"


def test_links_are_read_without_torch():
    program = (
        "import sys, inference.compare.record\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
