"""One classifier says what an error of the Hub's client is, and each area has its sentence for it."""

import errno
import json

import httpx2
import pytest
from huggingface_hub import ModelInfo, errors

from core.errors import UserError
from core.hub import errors as refusals
from core.hub.errors import classify, key_of
from core.references import Hub
from core.words import catalogue
from core.workspace import Owner
from finetune.base_models import search
from finetune.data.importing import hub as data_hub
from finetune.launch.follow import api as job_api
from inference.models import hub_files

OWNER = Owner("local", "hf_secret")
REQUEST = httpx2.Request("GET", "http://hub/api")


def answer(status, kind=errors.HfHubHTTPError, message="because", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return kind(message, response=httpx2.Response(status, headers=named, request=REQUEST))


def raised(error):
    """The error as it is where it was raised."""
    try:
        raise error
    except type(error) as caught:
        return caught


STATUSES = {
    401: "wrong_token",
    402: "no_credit",
    403: "no_right",
    404: "not_there",
    408: "broken",
    409: "conflict",
    412: "conflict",
    413: "too_large",
    418: "refused",
    429: "busy",
    500: "broken",
    503: "broken",
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_an_answer_is_told_by_its_status(status, kind):
    found = classify(answer(status))
    assert (found.kind, found.status, found.subject) == (kind, status, None)
    assert found.uncertain == (status >= 500 or status == 408) and found.reason == "because"


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        (errors.GatedRepoError, "gated"),
        (errors.RevisionNotFoundError, "no_revision"),
        (errors.RepositoryNotFoundError, "no_repository"),
    ],
)
def test_an_answer_tells_what_it_is_about_where_the_client_knows(kind, subject):
    assert classify(answer(404, kind)).subject == subject


@pytest.mark.parametrize(("asked", "wait"), [("17", "17"), ("soon", "60"), ("", "60")])
def test_the_wait_that_the_hub_asks_for_is_a_number(asked, wait):
    assert classify(answer(429, Retry_After=asked)).wait == wait


@pytest.mark.parametrize(
    ("error", "kind", "uncertain"),
    [
        (errors.OfflineModeIsEnabled("no"), "offline", False),
        (httpx2.ConnectError("refused"), "lost", False),
        (httpx2.ConnectTimeout("slow"), "lost", False),
        (httpx2.ReadTimeout("slow"), "lost", True),
        (ConnectionError("gone"), "lost", False),
        (OSError("odd"), "io", False),
        (OSError(errno.ENOSPC, "full", "/data/x"), "no_room", False),
        (OSError(errno.EDQUOT, "full"), "no_room", False),
        (ValueError("Invalid metadata in README.md.\n- no license"), "card", False),
        (ValueError("LFS batch API returned errors:\nEncountered error: `full"), "storage", False),
        (json.JSONDecodeError("x", "<html>", 0), "strange", True),
        (ValueError("Malformed response from server"), "strange", True),
    ],
)
def test_what_is_no_answer_is_told_apart(error, kind, uncertain):
    found = classify(raised(error))
    assert (found.kind, found.uncertain, found.status) == (kind, uncertain, None)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "none", "/data/x"), ValueError("7"), KeyError("a"), TypeError()]
)
def test_mistakes_of_ours_are_nothing_of_the_hubs(error):
    assert classify(raised(error)) is None


def test_an_answer_that_lacks_something_is_told_where_the_client_read_it():
    with pytest.raises(KeyError) as caught:
        ModelInfo(**{"private": True})
    assert classify(caught.value).kind == "incomplete"
    assert classify(raised(KeyError("id"))) is None


def test_the_answer_of_the_hub_counts_more_than_what_came_of_it():
    """The client wraps a refusal, and what is raised while one is handled has it as its context."""
    try:
        try:
            raise answer(503)
        except errors.HfHubHTTPError as cause:
            raise errors.LocalEntryNotFoundError("not here") from cause
    except errors.LocalEntryNotFoundError as error:
        assert classify(error).status == 503


def test_a_lost_connection_counts_more_than_the_error_that_it_became():
    """`hf_hub_download` raises a LocalEntryNotFoundError, which is an OSError, from the network's error."""
    try:
        try:
            raise httpx2.ConnectError("refused")
        except httpx2.ConnectError as cause:
            raise errors.LocalEntryNotFoundError("not here") from cause
    except errors.LocalEntryNotFoundError as error:
        assert classify(error).kind == "lost"
        with pytest.raises(UserError) as said, job_api.in_words(OWNER, "jobs"):
            raise error
    assert said.value.code == "job.unreachable"


AREAS = {
    "publish": refusals._SENTENCES,
    "job": job_api._SENTENCES,
    "data": data_hub._SENTENCES,
    "picker": search._SENTENCES,
    "models": hub_files._SENTENCES,
}
SAID = {
    "publish": "wrong_token quota no_right no_repository hub_broken changed changed too_large refused slow_down",
    "job": "wrong_token no_credit no_right not_there hub_broken refused refused refused refused busy",
    "data": "hub_refused " * 10,
    "picker": "publish.wrong_token" + " hub_error" * 8 + " slow_down",
    "models": "wrong_token hub_error no_repository" + " hub_error" * 7,
}
"""The keys for the statuses below 500, in their order; a broken Hub is told last."""
BROKEN = {
    "publish": "hub_broken",
    "job": "hub_broken",
    "data": "hub_refused",
    "picker": "hub_error",
    "models": "hub_error",
}


@pytest.mark.parametrize("area", AREAS)
def test_each_area_has_its_sentence_for_each_status(area):
    keys = [key_of(classify(answer(status)), AREAS[area]) for status in STATUSES]
    said = [*SAID[area].split(), *[BROKEN[area]] * 2]
    assert keys == [key if "." in key else f"{area}.{key}" for key in said]
    assert set(AREAS[area].values()) <= catalogue("en").keys()


def test_what_the_hub_said_is_short_and_without_the_token():
    assert refusals.clean("no,\n  hf_secret " + "x" * 300, OWNER).startswith("no, *** xxx")
    assert len(refusals.clean("x" * 300, OWNER)) == 200


def test_a_full_disk_is_no_missing_hub():
    """Where the files of a dataset are downloaded to."""
    assert data_hub.explain(OSError(errno.ENOSPC, "full", "/data/x"), Hub("a/b", None)).code == "core.disk_full"


def test_a_sentence_of_ours_passes_through():
    with pytest.raises(UserError) as caught, refusals.in_words("a/b", OWNER):
        try:
            raise answer(404)
        except errors.HfHubHTTPError:
            raise UserError("publish.stopped") from None
    assert caught.value.code == "publish.stopped"
