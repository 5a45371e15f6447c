"""How soon the page answers: `python -m benchmarks.cold_start` prints the time of a bare `import gradio`, the time
until the page answers, and the ratio (the median of three; at most 1.7 is the aim)."""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
AIM = 1.7


def bare_import() -> float:
    """Seconds that a fresh Python takes to start and import gradio."""
    before = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True, cwd=ROOT)
    return time.perf_counter() - before


def until_answer() -> float:
    """Seconds from starting `app.py` until the page answers with HTTP 200."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        env = {**os.environ, "GRADIO_SERVER_PORT": str(port), "TUNESCOPE_HOME": folder}
        before = time.perf_counter()
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        try:
            _wait_for(f"http://127.0.0.1:{port}/", app)
            return time.perf_counter() - before
        finally:
            app.send_signal(signal.SIGTERM)
            app.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(url: str, app: subprocess.Popen) -> None:
    while app.poll() is None:
        try:
            with urllib.request.urlopen(url) as answer:
                if answer.status == 200:
                    return
        except urllib.error.URLError:
            time.sleep(0.02)
    raise SystemExit(f"app.py ended with {app.returncode} before the page answered")


def main() -> None:
    """Alternate the two measurements, so that a busy machine is busy for both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    until_answer()
    pairs = [(bare_import(), until_answer()) for _ in range(rounds)]
    bare, answer = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(answers / bares for bares, answers in pairs)
    print(f"import gradio: {bare:.2f} s   page answers: {answer:.2f} s   ratio: {ratio:.2f} (aim: at most {AIM})")


if __name__ == "__main__":
    main()
