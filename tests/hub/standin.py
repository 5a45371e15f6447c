"""A small Hugging Face Hub on loopback for tests: real HTTP, repositories in memory, faults to switch on.

`python -m tests.hub.standin --port 8765` runs it as a process with a user `tester` and prints what to set.
"""

import argparse
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

from tests.hub.hubstore import ATTRIBUTES, Account, Blobs, Repo
from tests.hub.jobs_runner import Jobs
from tests.hub.routes import Handler
from tests.hub.xetstore import XetStore

USER = "tester"
TOKEN = "hf_" + "testerwrites" * 3


@dataclass
class Request:
    """One call as it came in; `kind` is the name of its route ("whoami", "commit", "lfs_put", ...)."""

    kind: str
    method: str
    path: str
    authorization: str | None


@dataclass
class Fault:
    """What goes wrong at calls `at` to `at + times - 1` of a kind, counted from the moment it was switched on.

    Only calls whose path contains `path` count. `cut` ends the call before anything is done, `lost` after it. `hold`
    keeps the call waiting until the test sets it; `reached` tells that one is.
    """

    kind: str
    path: str = ""
    at: int = 1
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "switched on by a test"
    cut: bool = False
    lost: bool = False
    corrupt: bool = False
    hold: threading.Event | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    seen: int = 0

    def due(self, kind: str, path: str) -> bool:
        if self.kind not in (kind, "any") or self.path not in path:
            return False
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that went away in the middle is what many tests are about: say nothing."""


class HubStandIn:
    """The Hub's HTTP interface as huggingface_hub 2.4 uses it, on 127.0.0.1 and a port of the system's choice.

    `requests` records every call; `repos` holds what is there, by (kind, repo_id); `fail` switches on a fault.
    """

    def __init__(self, port: int = 0) -> None:
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.page_size: int | None = None
        self.part_size: int | None = None
        self.parts: dict[tuple[str, int], bytes] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="hub-stand-in-")
        self.blobs = Blobs(Path(self._folder.name))
        self._xet_folder = tempfile.TemporaryDirectory(prefix="hub-xet-")
        self.xet = XetStore(Path(self._xet_folder.name))
        self._job_folder = tempfile.TemporaryDirectory(prefix="hub-jobs-")
        self.jobs = Jobs(self, Path(self._job_folder.name))
        self._server = _Server(("127.0.0.1", port), Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.jobs.close()
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()
        self._xet_folder.cleanup()
        self._job_folder.cleanup()

    def add_user(
        self, name: str, *, organisations: tuple[str, ...] = (), token: str | None = None, role: str = "write"
    ) -> str:
        """Make an account, or give one more token to it; returns the token."""
        account = self.accounts.setdefault(name, Account(name, organisations))
        token = token or "hf_" + (name + role).ljust(34, "0")
        account.tokens[token] = role
        return token

    def account_of(self, token: str) -> Account | None:
        return next((account for account in self.accounts.values() if token in account.tokens), None)

    def add_repo(
        self,
        repo_id: str,
        files: Path | dict[str, bytes] | None = None,
        *,
        kind: str = "models",
        private: bool = False,
        gated: bool = False,
    ) -> Repo:
        """Make a repository, with the files of a folder or of a dict (path -> content) in its second commit."""
        repo = Repo(kind, repo_id, private, gated)
        repo.add_commit({".gitattributes": self.blobs.entry(".gitattributes", ATTRIBUTES)}, "initial commit")
        if isinstance(files, Path):
            files = {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}
        if files:
            added = {path: self.blobs.entry(path, content) for path, content in files.items()}
            repo.add_commit({**repo.head.files, **added}, "add files")
        with self.lock:
            self.repos[kind, repo_id] = repo
        return repo

    def content(self, repo_id: str, path: str, kind: str = "models") -> bytes:
        """A file of a repository's newest commit."""
        return self.blobs.path(self.repos[kind, repo_id].head.files[path].sha256).read_bytes()

    def fail(self, kind: str, **what: object) -> Fault:
        """Switch on a fault (see Fault) for calls of one kind."""
        fault = Fault(kind, **what)  # type: ignore[arg-type]
        with self.lock:
            self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Switch all faults off and forget the calls seen so far."""
        with self.lock:
            self.faults.clear()
            self.requests.clear()

    def kinds(self) -> list[str]:
        """The kinds of the calls so far, in order."""
        return [request.kind for request in self.requests]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument(
        "--repo", action="append", default=[], metavar="ID=FOLDER", help="a public model repository made of a folder"
    )
    options = parser.parse_args()
    hub = HubStandIn(options.port)
    hub.add_user(USER, organisations=("acme",), token=TOKEN)
    for repo in options.repo:
        repo_id, _, folder = repo.partition("=")
        hub.add_repo(repo_id, Path(folder))
    print(f"HF_ENDPOINT={hub.url} HF_HUB_DISABLE_XET=1 HF_TOKEN={TOKEN}", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        hub.close()


if __name__ == "__main__":
    main()
