"""What repeats a comparison: the record, which is its JSON, and the share link, which fills the page with its request.

Nothing heavy is imported here. Records and links come from strangers, so they are bounded and read strictly; the models
they name are parsed like everything that a person types.
"""

import base64
import hashlib
import importlib.metadata
import json
import tomllib
import zlib
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import read_json
from core.words import say
from inference.compare.provenance import SHORT, models_of, other_weights, pinned, read_models, shortened
from inference.compare.request import CompareRequest, check_request
from inference.events import Result
from inference.strategies.table import parse_columns

if TYPE_CHECKING:
    from inference.engine.batch import Panel

PACKAGES = ("torch", "transformers", "peft")
LONGEST_LINK = 8_000
LARGEST_REQUEST = 64_000
"""Characters of a link, and bytes of the request that it unpacks to."""
_TYPES: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "columns": (list,),
    "prompt": (str, type(None)),
    "messages": (list, type(None)),
    "adapter": (str, type(None)),
    "seed": (int,),
    "max_new_tokens": (int,),
    "dtype": (str, type(None)),
    "raw": (bool,),
    "exact": (bool,),
}
DTYPES = ("float32", "bfloat16", "float16", None)


def origin_of(request: CompareRequest, panels: list["Panel"]) -> dict[str, Any]:
    """Return what a result came from, for its JSON: seed, length, the prompt's ids, the weights, the versions.

    `models` has every model of the columns. The fingerprint, revision and adapter beside it are those of the first one,
    which is the comparison's own if a column runs on it.
    """
    source = panels[0].loaded.source
    adapter = source.adapter if source else None
    facts = {"name": adapter.name, "revision": adapter.revision, "base": adapter.base_name} if adapter else None
    return {
        "seed": request.seed,
        "max_new_tokens": request.max_new_tokens,
        "exact": request.exact,
        "prompt_ids": panels[0].prompt_ids,
        "fingerprint": panels[0].loaded.fingerprint,
        "revision": source.base.revision if source else None,
        "adapter": facts,
        "models": models_of(panels),
        "versions": versions(),
    }


@cache
def versions() -> dict[str, str]:
    """Return the versions of the packages that compute, as far as they are installed, and our own."""
    found = {package: _version(package) for package in PACKAGES}
    project = Path(__file__).parents[2] / "pyproject.toml"
    own = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"] if project.is_file() else ""
    return {**found, "tunescope": own}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def record_of(request: CompareRequest, result: Result) -> dict[str, Any]:
    """Return the JSON of a comparison, with the request that repeats it."""
    return {**result.to_json(), "request": asdict(request)}


def read_record(path: Path) -> dict[str, Any]:
    """Return the record in a JSON file. Raises UserError if there is none."""
    try:
        return read_json(path)
    except OSError as error:
        raise UserError("record.file", value=str(path)[:200], reason=error.strerror or str(error)) from None
    except ValueError as error:
        raise UserError("record.json", value=str(path)[:200], reason=str(error)[:120]) from None


def request_of_record(record: Any) -> CompareRequest:
    """Return the request that repeats a record's comparison, at the revisions that it was made with. Raises UserError
    if it is not a record."""
    if not isinstance(record, dict) or not isinstance(record.get("request"), dict):
        raise UserError("record.none")
    request = _request(record["request"])
    if "models" in record:
        return pinned(request, read_models(record["models"]))
    adapter = record.get("adapter")
    alone = adapter if isinstance(adapter, dict) and request.adapter is None else record
    revision = alone.get("revision")
    if not isinstance(revision, str) or "@" in request.model:
        return request
    return replace(request, model=f"{request.model}@{revision}")


def _request(facts: dict[str, Any]) -> CompareRequest:
    """Return the request in a JSON object. Raises UserError that names what is wrong in it."""
    known = {"seed": 0, "max_new_tokens": 100, "raw": False, "exact": False} | facts
    for name, value in known.items():
        if name not in _TYPES:
            raise UserError("record.unknown", field=name[:40])
        if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and bool not in _TYPES[name]):
            raise UserError("record.type", field=name, value=json.dumps(value, ensure_ascii=False)[:60])
    if not {"model", "columns"} <= set(known) or not all(isinstance(line, str) for line in known["columns"]):
        raise UserError("record.type", field="columns", value=json.dumps(known.get("columns"))[:60])
    if known.get("dtype") not in DTYPES:
        raise UserError("record.type", field="dtype", value=str(known["dtype"])[:60])
    request = CompareRequest(**known)
    check_request(request)
    return request


def rerun_sentences(record: dict[str, Any], result: Result) -> list[str]:
    """Return sentences on how a rerun compares with its record: first the tokens, then what has changed since."""
    recorded = record.get("columns")
    columns = recorded if isinstance(recorded, list) else []
    before = [column.get("token_ids") for column in columns if isinstance(column, dict)]
    now = [column.token_ids for column in result.columns]
    names = [column.name for column, ids in zip(result.columns, before, strict=False) if column.token_ids != ids]
    if before == now:
        sentence = say("record.identical", count=len(now))
    else:
        sentence = say("record.differs", names="; ".join(names) or "?", count=len(names), all=len(now))
    return [sentence, *changes(record, result)]


def changes(made: dict[str, Any], result: Result) -> list[str]:
    """Return a sentence for everything that a comparison came from and that has changed: weights, the prompt's ids,
    dtype, versions. `made` is a record or what a link keeps of one."""
    return list(_changed_facts(made, result.to_json()))


def _changed_facts(record: dict[str, Any], now: dict[str, Any]) -> Iterable[str]:
    facts = {**now, "prompt_digest": _digest(now["prompt_ids"])}
    if "models" in record:
        yield from other_weights(read_models(record["models"]), now["models"])
    for name in ("prompt_ids", "prompt_digest", "dtype", *(() if "models" in record else ("fingerprint",))):
        if name in record and record[name] != facts.get(name):
            values = {"before": str(record[name])[:24], "now": str(facts.get(name))[:24]}
            yield say(f"record.other_{name}".replace("digest", "ids"), **values)
    before = record.get("versions")
    for package, version in now["versions"].items():
        if isinstance(before, dict) and before.get(package) != version:
            yield say("record.other_version", package=package, before=str(before.get(package))[:24], now=version)


def _digest(ids: list[int]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:SHORT]


def link_origin(result: Result) -> dict[str, Any]:
    """Return what a link keeps of a finished comparison beside its request, for `changes`."""
    origin = result.origin
    return {
        "models": shortened(origin["models"]),
        "prompt_digest": _digest(origin["prompt_ids"]),
        "dtype": result.dtype,
        "versions": origin["versions"],
    }


def same_request(first: CompareRequest, second: CompareRequest) -> bool:
    """Return whether both requests are the same, however their columns are written."""
    if replace(first, columns=[]) != replace(second, columns=[]):
        return False
    columns = (
        [(spec.strategy, spec.knobs, spec.model) for spec in parse_columns(request.columns)]
        for request in (first, second)
    )
    return next(columns) == next(columns)


def link_of(request: CompareRequest, made: dict[str, Any] | None = None) -> str:
    """Return a request as text for a URL: base64url of compressed JSON. Raises UserError if it is too long.

    `made` is the result of `link_origin` if the comparison was run; it is omitted if there is no room for it.
    """
    usual = asdict(CompareRequest("", []))
    facts = {name: value for name, value in asdict(request).items() if value != usual[name]}
    text = _packed(facts if made is None else facts | {"made": made})
    if len(text) > LONGEST_LINK and made is not None:
        text = _packed(facts)
    if len(text) > LONGEST_LINK:
        raise UserError("record.link_long", value=len(text), most=LONGEST_LINK)
    return text


def _packed(facts: dict[str, Any]) -> str:
    content = zlib.compress(json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode(), 9)
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def request_of(text: str) -> CompareRequest:
    """Return the request in a link, as `read_link` does."""
    return read_link(text)[0]


def read_link(text: str) -> tuple[CompareRequest, dict[str, Any] | None]:
    """Return the request in a link, with its models at the revisions they had, and what it came from if it was run.

    Raises UserError for text that is not a link, and for one that unpacks to more than 64 kB.
    """
    facts = _unpacked(text)
    made = facts.pop("made", None)
    request = _request(facts)
    if made is None:
        return request, None
    if not isinstance(made, dict):
        raise UserError("record.link_broken")
    return pinned(request, read_models(made.get("models"))), made


def _unpacked(text: str) -> dict[str, Any]:
    if len(text) > LONGEST_LINK:
        raise UserError("record.link_long", value=len(text), most=LONGEST_LINK)
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        reader = zlib.decompressobj()
        content = reader.decompress(packed, LARGEST_REQUEST)
        if not reader.eof:
            raise ValueError("cut off, or too large")
        facts = json.loads(content.decode("utf-8"))
    except (ValueError, zlib.error, RecursionError):
        raise UserError("record.link_broken") from None
    if not isinstance(facts, dict):
        raise UserError("record.link_broken")
    return facts
