"""Many visitors at once: `python -m benchmarks.load --seconds 600` holds 40 pages open on a simulated Space with a tiny
model, 8 of them comparing all the time, and prints errors, memory and how soon each comparison began to write.

What the queue promises: who is told "N before this one" sees a first token within N + 1 of the longest comparisons.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.app_process import App, session_cookie
from tests.hub_process import running_hub
from tests.ui.hub_models import environment, publish_endless_model
from tests.ui.people import config_of, entry_of, running_space

COLUMNS = ("greedy", "beam num_beams=4", "nucleus top_p=0.9", "min_p min_p=0.1")
TOKENS = 100
TICK_S, SAMPLE_S = 2, 1
SLACK_S = 1.0


@dataclass
class Comparison:
    """One comparison as its visitor saw it; seconds from the press of the button."""

    before: int = 0
    first_s: float | None = None
    done_s: float = 0.0


@dataclass
class Figures:
    """What was seen. Memory is the app's resident memory in bytes, one sample a second."""

    visitors: int
    comparing: int
    seconds: float
    open_s: float = 0.0
    errors: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)

    def settled(self) -> list[int]:
        """The memory after the warm-up, which is a quarter of the time and at most a minute."""
        return self.memory[min(len(self.memory) // 4, 60) :]

    def spread(self) -> float:
        """How far the largest sample of the memory after the warm-up is above the smallest, as a part of that."""
        settled = self.settled()
        return max(settled) / min(settled) - 1

    def longest(self) -> float:
        """Seconds from the first token to the end, of the longest comparison."""
        return max(one.done_s - (one.first_s or 0) for one in self.comparisons)

    def late(self) -> list[Comparison]:
        """Those that broke the queue's promise."""
        most = self.longest()
        return [one for one in self.comparisons if (one.first_s or 1e9) > (one.before + 1) * most + SLACK_S]


class Visitor:
    """One page of a signed-in visitor, held open."""

    def __init__(self, app: App, number: int, token: str, figures: Figures) -> None:
        self.app, self.figures, self.session = app, figures, uuid.uuid4().hex[:11]
        headers = session_cookie(f"visitor{number}", token)
        everything = httpx.Limits(max_connections=None)
        self.client = httpx.AsyncClient(
            base_url=app.url, headers=headers, timeout=None, verify=False, trust_env=False, limits=everything
        )

    async def open(self) -> None:
        """Open the page."""
        for route in ("/", "/config", "/theme.css"):
            self._note((await self.client.get(route)).status_code, route)

    async def hold(self, until: float) -> None:
        """Keep the page's heartbeat and ask what its timer asks."""
        beat = asyncio.create_task(self._beat())
        while time.monotonic() < until:
            before = time.monotonic()
            for name in ("runs_line", "tick"):
                entry = entry_of(self.app, name)
                body = {"data": [None] * len(entry["inputs"]), "fn_index": entry["id"], "session_hash": self.session}
                self._note((await self.client.post("/gradio_api/run/predict", json=body)).status_code, name)
            self.figures.ticks.append(time.monotonic() - before)
            await asyncio.sleep(TICK_S)
        beat.cancel()

    async def _beat(self) -> None:
        async with self.client.stream("GET", f"/gradio_api/heartbeat/{self.session}") as stream:
            async for _ in stream.aiter_lines():
                pass

    def _note(self, status: int, what: str) -> None:
        if status != 200:
            self.figures.errors.append(f"{what}: {status}")

    async def compare(self, data: list, until: float) -> None:
        """One comparison after the other."""
        while time.monotonic() < until:
            self.figures.comparisons.append(await self._one(data))

    async def _one(self, data: list) -> Comparison:
        seen, begun = Comparison(), time.monotonic()
        body = {"data": data, "fn_index": entry_of(self.app, "compare_run")["id"], "session_hash": self.session}
        joined = await self.client.post("/gradio_api/queue/join", json=body)
        self._note(joined.status_code, "join")
        params = {"session_hash": self.session}
        async with self.client.stream("GET", "/gradio_api/queue/data", params=params) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                self._read(seen, line, message, time.monotonic() - begun)
        seen.done_s = time.monotonic() - begun
        return seen

    def _read(self, seen: Comparison, line: str, message: dict, now: float) -> None:
        if "before yours: " in line and seen.first_s is None:
            seen.before = max(seen.before, int(line.split("before yours: ")[1].split(".")[0]))
        if "is generating" in line and seen.first_s is None:
            seen.first_s = now
        if message.get("msg") == "process_completed":
            seen.first_s = seen.first_s or now
            if not message["success"]:
                self.figures.errors.append(str(message["output"])[:200])


async def _sample(app: App, figures: Figures, until: float) -> None:
    process = psutil.Process(app.process.pid)
    while time.monotonic() < until:
        figures.memory.append(process.memory_info().rss)
        await asyncio.sleep(SAMPLE_S)


async def _run(app: App, model: str, token: str, figures: Figures) -> None:
    board = {"columns": [_column(line) for line in COLUMNS]}
    data = ["the quick brown", board, model, 1, TOKENS, "float32", "", "", True, False]
    people = [Visitor(app, number, token, figures) for number in range(figures.visitors)]
    await people[0]._one(data)
    before = time.monotonic()
    await asyncio.gather(*(one.open() for one in people))
    figures.open_s = time.monotonic() - before
    until = time.monotonic() + figures.seconds
    work = [one.hold(until) for one in people] + [one.compare(data, until) for one in people[: figures.comparing]]
    await asyncio.gather(_sample(app, figures, until), *work)
    for one in people:
        await one.client.aclose()


def _column(line: str) -> dict:
    strategy, *knobs = line.split()
    return {"strategy": strategy, "knobs": dict(knob.split("=") for knob in knobs), "model": ""}


def measure(seconds: float, visitors: int = 40, comparing: int = 8) -> Figures:
    """Start a Hub and the app, and see how they fare."""
    figures = Figures(visitors, comparing, seconds)
    with tempfile.TemporaryDirectory() as name, running_hub() as hub:
        folder = Path(name)
        model = publish_endless_model(hub, folder / "endless")
        with running_space(folder, environment(hub, folder)) as app:
            config_of(app.url)
            asyncio.run(_run(app, model, hub.token, figures))
            said = [json.loads(line) for line in app.log.read_text().splitlines() if line.startswith("{")]
    figures.errors += [str(line)[:300] for line in said if line["level"] not in ("info", "debug") and not _reload(line)]
    return figures


def _reload(line: dict) -> bool:
    """Gradio's reloader for Spaces, which ends with an error where the package `spaces` is missing."""
    return any("watchfn_spaces" in place for place in line.get("error", []))


def shown(figures: Figures) -> str:
    """The figures as lines to read."""
    before = max(one.before for one in figures.comparisons)
    first = sorted(one.first_s or 0 for one in figures.comparisons)
    settled = [sample / 2**20 for sample in figures.settled()]
    return "\n".join([
        f"{figures.visitors} pages held, {figures.comparing} comparing, {figures.seconds:.0f} s",
        f"all pages opened in   {figures.open_s:.1f} s",
        f"errors                {len(figures.errors)} {figures.errors[:3] or ''}",
        f"comparisons           {len(figures.comparisons)}, of {len(COLUMNS)} columns and {TOKENS} tokens",
        f"first token           median {statistics.median(first):.2f} s, longest {first[-1]:.2f} s",
        f"longest comparison    {figures.longest():.2f} s; at most {before} before one",
        f"later than promised   {len(figures.late())} {figures.late()[:3] or ''}",
        f"two timer questions   median {1000 * statistics.median(figures.ticks):.0f} ms, "
        f"longest {1000 * max(figures.ticks):.0f} ms",
        f"resident memory       {min(settled):.0f} to {max(settled):.0f} MB after the warm-up, "
        f"{figures.spread():.1%} apart",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--visitors", type=int, default=40)
    parser.add_argument("--comparing", type=int, default=8)
    asked = parser.parse_args()
    print(shown(measure(asked.seconds, asked.visitors, asked.comparing)))


if __name__ == "__main__":
    main()
