"""What a sign-in may not read is refused with the scope that it lacks, and with the way that works."""

import pytest

from core.hub import reach
from core.references import Hub
from core.workspace import Owner
from finetune.data.importing.importer import import_hub
from finetune.launch.jobs import launcher as jobs
from inference.models.locate import fetch
from tests.refusals import refused

GRANTED = frozenset({"read-repos", "gated-repos", "jobs", "contribute-repos"})
NOT_THERE = "acme/nothing"


@pytest.fixture
def stranger(hub, workspace, tiny_model):
    """Somebody to whom the authors of a gated model and a gated dataset have said nothing yet; returns their token."""
    reach.forget()
    hub.add_repo("acme/gated", tiny_model, gated=True)
    hub.add_repo(
        "acme/gated-rows", {"rows.jsonl": b'{"prompt": "a", "completion": "b"}\n'}, kind="datasets", gated=True
    )
    yield hub.add_user("stranger")
    reach.forget()


def read_model(repo, owner):
    fetch(Hub(repo), owner.token, owner=owner)


def read_rows(repo, owner):
    import_hub(repo, None, None, None, owner, owner.token)


@pytest.mark.parametrize(
    ("read", "repo", "code", "scope"),
    [
        (read_model, "acme/gated", "models.gated", "gated-repos"),
        (read_model, NOT_THERE, "models.no_repository", "read-repos"),
        (read_rows, "acme/gated-rows", "data.hub_gated", "gated-repos"),
        (read_rows, NOT_THERE, "data.hub_missing", "read-repos"),
    ],
)
def test_the_scope_that_is_missing_is_named_and_no_other(stranger, read, repo, code, scope):
    sentence = refused("models.no_scope", read, repo, Owner("ada", stranger, scopes=GRANTED - {scope}))
    assert scope in sentence and repo in sentence and "your own token" in sentence
    for scopes in (GRANTED, None):
        assert "scope" not in refused(code, read, repo, Owner("ada", stranger, scopes=scopes))


def test_a_job_on_a_gated_base_names_it_before_anything_is_paid(hub, stranger, renter, recipe):
    signed_in = Owner("ada", stranger, scopes=GRANTED - {"gated-repos"})
    gated = recipe.model_copy(update={"model": "acme/gated"})
    assert "gated-repos" in refused("models.no_scope", jobs.preflight, gated, signed_in, "a10g-small", "1h")
