"""The license carried over from a base model, and the files that go with it: LICENSE, NOTICE, terms of use."""

import re
import tempfile
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.hub import retries
from core.references import Folder, parse
from core.workspace import Owner
from finetune.publish.card import facts
from finetune.publish.card.facts import BaseFacts, License
from finetune.publish.repo import remote
from finetune.publish.repo.files import made
from finetune.publish.repo.scan import PlannedFile

_PAPER = re.compile(r"(LICEN[SC]E|NOTICE|USE_POLICY)([._-][\w.-]{1,60})?")
_LARGEST, _MOST = 1_000_000, 6
_KEY = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
_NO_ANSWER = ("other", "unknown", "none")
_APACHE = Path(__file__).parents[3] / "LICENSE"


def chosen(license_key: str | None) -> License:
    """Return the license that a person named; an empty one where they named none. Raises UserError for an invalid
    key."""
    key = (license_key or "").strip().lower()
    if key and (not _KEY.fullmatch(key) or key in _NO_ANSWER):
        raise UserError("publish.licence_name", value=key[:60])
    return License(key or None)


def of_base(base: BaseFacts, owner: Owner, license_key: str | None) -> tuple[License, list[PlannedFile]]:
    """Return the license of the base model, with its license files. `license_key` is a person's answer where it is not
    known.

    Raises UserError where the answer differs from the license that is known: a license is carried over unchanged.
    """
    answer = chosen(license_key)
    known = facts.known_license(base, owner)
    info = _info(base, owner)
    if not known.key and info is not None and info.card_data:
        known = facts.license_from(info.card_data.to_dict())
    if known.key and answer.key and answer.key != known.key:
        raise UserError("publish.licence_differs", value=answer.key, base=base.hub_id or base.name, known=known.key)
    papers = _local(base, owner) if info is None else _fetched(base, info, owner)
    if known.key == "apache-2.0" and not any(paper.path.startswith("LICEN") for paper in papers):
        papers.append(made("LICENSE", _APACHE.read_bytes()))
    return known if known.key else answer, papers


def _info(base: BaseFacts, owner: Owner) -> Any:
    """Return what the Hub says of the base model; None where it has none, or does not answer this caller."""
    if not base.hub_id:
        return None
    token = remote.token_of(owner)
    try:
        with remote.in_words(base.hub_id, owner):
            return retries.again(
                lambda: remote.api(owner).model_info(str(base.hub_id), revision=base.revision, timeout=5, token=token)
            )
    except UserError:
        return None


def _local(base: BaseFacts, owner: Owner) -> list[PlannedFile]:
    reference = parse(base.reference, owner)
    if not isinstance(reference, Folder):
        return []
    found = [path for path in sorted(reference.path.iterdir()) if _PAPER.fullmatch(path.name) and path.is_file()]
    small = [path for path in found if path.stat().st_size <= _LARGEST]
    return [made(path.name, path.read_bytes()) for path in small[:_MOST]]


def _fetched(base: BaseFacts, info: Any, owner: Owner) -> list[PlannedFile]:
    names = [file.rfilename for file in info.siblings or [] if _PAPER.fullmatch(file.rfilename)]
    with remote.in_words(str(base.hub_id), owner):
        papers = [made(name, _content(str(base.hub_id), name, str(info.sha), owner)) for name in sorted(names)[:_MOST]]
    return [paper for paper in papers if paper.size <= _LARGEST]


def _content(repo_id: str, name: str, commit: str, owner: Owner) -> bytes:
    def fetch() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            token = remote.token_of(owner)
            path = remote.api(owner).hf_hub_download(repo_id, name, revision=commit, token=token, local_dir=folder)
            return Path(path).read_bytes()

    return retries.again(fetch)
