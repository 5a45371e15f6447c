"""The Hub stand-in's list of models: `GET /api/models` with `search`, `pipeline_tag`, `sort`, `limit` and `expand`.

As the Hub does, it tells of a repository only what was asked for beside its name, and of config.json only the few
entries that it keeps: never a model's context length.
"""

import json
import struct
from collections.abc import Callable
from math import prod

from tests.hub.hubstore import Repo
from tests.hub.replies import Call

_KEPT = ("architectures", "model_type", "auto_map", "quantization_config")


def models(call: Call) -> None:
    from tests.hub.routes import page

    asked = {name: values[0] for name, values in call.query.items()}
    readable = [
        repo for (kind, _), repo in call.hub.repos.items() if kind == "models" and repo.readable_by(call.account)
    ]
    named = [repo for repo in readable if asked.get("search", "").lower() in repo.repo_id.lower()]
    facts = [_repo_facts(call, repo) for repo in named]
    tag = asked.get("pipeline_tag")
    found = [one for one in facts if tag in (None, one["pipeline_tag"])]
    if asked.get("sort") == "downloads":
        found.sort(key=lambda one: -one["downloads"])
    wanted = {"_id", "id", *call.query.get("expand", [])}
    page(call, [{key: value for key, value in one.items() if key in wanted} for one in found][: int(asked["limit"])])


def _repo_facts(call: Call, repo: Repo) -> dict:
    """What the Hub has read out of a repository."""
    from tests.hub.routes import front_matter

    files = repo.head.files
    card = front_matter(call, repo.head) or {}
    config = json.loads(call.hub.content(repo.repo_id, "config.json")) if "config.json" in files else {}
    weights = [path for path in files if path.endswith(".safetensors")]
    tags = [*card.get("tags", []), *(["safetensors"] if weights else [])]
    tags += ["conversational"] if "chat_template.jinja" in files else []
    tags += ["custom_code"] if "auto_map" in config else []
    facts = {
        "_id": repo.head.sha[:24],
        "id": repo.repo_id,
        "gated": "manual" if repo.gated else False,
        "downloads": repo.downloads,
        "tags": tags,
        "pipeline_tag": card.get("pipeline_tag", "text-generation"),
        "cardData": card,
        "config": {key: config[key] for key in _KEPT if key in config},
    }
    counts = _counts(call, repo, weights)
    return facts | ({"safetensors": {"parameters": counts, "total": sum(counts.values())}} if counts else {})


def _counts(call: Call, repo: Repo, weights: list[str]) -> dict[str, int]:
    """Weights by dtype, from the headers of the safetensors files."""
    counts: dict[str, int] = {}
    for path in weights:
        content = call.hub.content(repo.repo_id, path)
        header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]]) if len(content) > 8 else {}
        for name, tensor in header.items():
            if name != "__metadata__":
                counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + prod(tensor["shape"])
    return counts


ROUTES: list[tuple[str, str, str, Callable[..., None]]] = [("GET", r"/api/models", "models", models)]
