"""HTML views: Jinja templates filled with facts, every value escaped, shown in gr.HTML."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.words import current, say
from ui.web.language import Spoken

PAGE = Path(__file__).parents[1]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(sorted(PAGE.rglob("templates"))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(say=say, language=current)
    environment.filters.update(number=number, size=size, duration=duration)
    return environment


def render(name: str, /, **facts: Any) -> str:
    """Return the template `name` filled with facts, in the current language. Values are escaped."""
    return _environment().get_template(f"{name}.html").render(**facts)


def asset(name: str) -> Path:
    """Return the file `name` of one of the `static` folders."""
    (found,) = PAGE.rglob(f"static/{name}")
    return found


def script(*names: str) -> str:
    """Return the scripts as one: the last one runs when its component loads, with the modules before it in its
    scope."""
    return "\n".join(asset(name).read_text(encoding="utf-8") for name in names)


def view(
    name: str = "", /, *, scripts: Sequence[str] = (), classes: str = "", facts: dict | None = None, **more: Any
) -> gr.HTML:
    """Make a gr.HTML that shows a template, made when the page is served. `scripts` are what `script` takes."""
    value = Spoken(lambda: render(name, **(facts or {}))) if name else ""
    js = script(*scripts) if scripts else None
    return gr.HTML(value, js_on_load=js, apply_default_css=False, elem_classes=["ts", *classes.split()], **more)


def carrier(name: str, **more: Any) -> gr.HTML:
    """Make a hidden gr.HTML that carries values between the server and the script `name`; `more` are its properties."""
    return gr.HTML(
        None,
        html_template='<span class="ts-hidden"></span>',
        js_on_load=script(name),
        apply_default_css=False,
        elem_classes=["ts"],
        **more,
    )


def findings_table(findings: list, nothing: str) -> str:
    """Return the findings as a table with row numbers, or the sentence `nothing`."""
    from finetune.data.findings import shortened

    return render("findings", findings=findings, shortened=shortened, nothing=nothing)


def number(value: float | int | None, digits: int = 3) -> str:
    """Format a figure with about four significant digits; a dash for None."""
    if value is None:
        return "–"
    magnitude = abs(value)
    if isinstance(value, int) or magnitude >= 1000:
        return f"{round(value):,}".replace(",", "\u202f")
    if magnitude and magnitude < 0.001:
        return f"{value:.1e}"
    places = 1 if magnitude >= 100 else 2 if magnitude >= 10 else 3
    return f"{value:.{min(digits, places)}f}"


def size(count: float | int) -> str:
    """Format bytes as KB, MB or GB."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def duration(seconds: float | None) -> str:
    """Format seconds as `12 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
