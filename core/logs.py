"""What the app logs: one event per line with its ids, and never what somebody typed, sent or keeps.

An error is logged by its type and its position in the code alone: its message may hold data. `TUNESCOPE_LOG=json`
writes one JSON object per line (the default on a Space), `text` a readable line; at home only warnings are written
unless it is set. `TUNESCOPE_LOG_FILE` names a file to write to instead of stderr.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from core import settings
from core.errors import UserError

ROOT = Path(__file__).parents[1]
FORMS = ("json", "text")
log = logging.getLogger("tunescope")
_FRAMES, _CHAIN, _LONGEST = 8, 4, 200
_salt = (os.environ.get("OAUTH_CLIENT_SECRET") or secrets.token_hex(16)).encode()


def set_up() -> None:
    """Send everything this process logs through one handler. Raises UserError for an unknown `TUNESCOPE_LOG`."""
    requested = os.environ.get("TUNESCOPE_LOG", "").strip().lower()
    if requested and requested not in FORMS:
        raise UserError("core.log_form", value=requested[:40])
    form = requested or ("json" if settings.on_space() else "text")
    path = os.environ.get("TUNESCOPE_LOG_FILE")
    handler = logging.FileHandler(path, encoding="utf-8") if path else logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO if requested or form == "json" else logging.WARNING)
    logging.captureWarnings(True)
    _hold_tracebacks_back()


def adopt() -> None:
    """Take over the loggers of libraries that have handlers of their own."""
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and logger.handlers:
            logger.handlers.clear()
            logger.propagate = True


def event(name: str, level: int = logging.INFO, **facts: object) -> None:
    """Log one event with facts that identify things, never with what a person typed or sent."""
    log.log(level, name, extra={"facts": facts})


def _broken(name: str, error: BaseException | None, level: int = logging.ERROR) -> None:
    """Log an error that nobody caught."""
    log.log(level, name, extra={"where": where(error)})


def pseudonym(key: str) -> str:
    """Return a name for an owner in the log that does not reveal the owner."""
    return hmac.new(_salt, key.encode(), hashlib.sha256).hexdigest()[:12]


@contextmanager
def timed(name: str, level: int = logging.INFO, **facts: object) -> Iterator[dict[str, object]]:
    """Log one event when the block ends, with milliseconds and outcome; the block may add facts."""
    started, outcome = time.perf_counter(), "ok"
    try:
        yield facts
    except BaseException as error:
        outcome = _outcome(error)
        raise
    finally:
        facts["ms"] = round(1000 * (time.perf_counter() - started))
        event(name, logging.WARNING if outcome.startswith("failed") else level, **facts, outcome=outcome)


def _outcome(error: BaseException) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, UserError):
        return f"refused {cause.code}"
    return "closed" if isinstance(error, GeneratorExit) else f"failed {type(cause).__name__}"


def where(error: BaseException | None) -> list[str]:
    """Return the types of an error and its causes and where in the code they were raised, without their messages."""
    lines: list[str] = []
    for _ in range(_CHAIN):
        if error is None:
            break
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        positions = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
        lines += [f"{type(error).__module__}.{type(error).__name__}", *positions]
        error = error.__cause__ or error.__context__
    return lines


def _short(path: str) -> str:
    file = Path(path)
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else "/".join(file.parts[-3:])


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """Return the facts that are written about a log record. Messages of other libraries are cut to one line without
    values."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    facts: dict[str, object] = {"time": f"{moment}.{int(record.msecs):03}Z", "level": record.levelname.lower()}
    found = getattr(record, "where", None)
    if record.name == log.name:
        facts |= {"event": record.getMessage(), **getattr(record, "facts", {})}
    else:
        said = record.getMessage() if record.name == "py.warnings" else str(record.msg)
        facts |= {"event": "library", "logger": record.name, "said": (said.splitlines() or [""])[0][:_LONGEST]}
    if record.exc_info and not found:
        found = where(record.exc_info[1])
    return facts | ({"error": found} if found else {})


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_facts(record), ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = _facts(record)
        error = facts.pop("error", None)
        line = " ".join([*(str(facts.pop(name)) for name in ("time", "level", "event")), *map(_pair, facts.items())])
        return line + ("\n  " + "\n  ".join(error) if isinstance(error, list) else "")


def _pair(fact: tuple[str, object]) -> str:
    return f"{fact[0]}={fact[1]}"


def _hold_tracebacks_back() -> None:
    """Replace the functions that print tracebacks, as Gradio does: they would print the message of the error, too."""
    traceback.print_exc = lambda *_, **__: _broken("traceback", sys.exc_info()[1])
    sys.excepthook = _hook
    threading.excepthook = lambda arguments: _broken("thread", arguments.exc_value)


def _hook(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    _broken("crash", error, logging.CRITICAL)
