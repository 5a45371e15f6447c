"""Jinja templates of cards and of the demo Space. Values are escaped unless they are the program's own words."""

import json
import re
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def rendered(template: str, head: str, codes: tuple[str, ...], **values: Any) -> str:
    """Render a Markdown file in which values show literally and do nothing; `head` is the program's own.

    `codes` names the values between backticks, where a backslash would show: names and numbers.
    """
    from finetune.publish.card.card import Trusted, harmless

    page = _environment(finalize=harmless).get_template(template)
    plain = {key: Trusted(values[key]) for key in codes if re.fullmatch(r"[\w./-]+", values[key] or "")}
    return page.render({**values, **plain, "head": Trusted(head)})


def program(name: str, **values: Any) -> str:
    """Render a Python file; its values go through the filter `literal`."""
    return _environment().get_template(name).render(values)


def _environment(**options: Any) -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(_FOLDER)
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, **options
    )
    environment.filters["literal"] = _literal
    return environment


def _literal(value: Any) -> str:
    """Return a value as a Python literal: what JSON can hold, and nothing that runs."""
    return repr(json.loads(json.dumps(value)))
