"""What the Hub stand-in remembers: accounts, repositories with their commits, and blobs on disk by their SHA-256."""

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
_LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin", ".gguf", ".model")
_LFS_SIZE = 10_000_000


@dataclass
class Account:
    """A person: the organisations they may write to, what each of their tokens may do ("write" or "read"),
    whether they have a means to pay, and what `whoami` tells of a token besides."""

    name: str
    organisations: tuple[str, ...] = ()
    tokens: dict[str, str] = field(default_factory=dict)
    can_pay: bool = True
    told: dict[str, Any] = field(default_factory=dict)

    def owns(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.organisations


@dataclass(frozen=True)
class Entry:
    """A file at a commit. `oid` is git's name of its content, `sha256` names the blob on disk."""

    sha256: str
    oid: str
    size: int
    lfs: bool


@dataclass
class Commit:
    sha: str
    title: str
    files: dict[str, Entry]
    seconds: float = field(default_factory=time.time)
    by: str | None = None

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.seconds))


@dataclass
class Pull:
    """A pull request; its commits lie on the branch `refs/pr/<num>`."""

    num: int
    title: str
    author: str
    status: str = "open"

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"


@dataclass
class Repo:
    """A repository of one kind ("models", "datasets" or "spaces"); `granted` names who may read it while gated.

    `commits` are those of the main branch, `branches` hold the others' and the pull requests'.
    """

    kind: str
    repo_id: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: list[Commit] = field(default_factory=list)
    branches: dict[str, list[Commit]] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)
    sdk: str | None = None
    downloads: int = 0

    @property
    def namespace(self) -> str:
        return self.repo_id.split("/")[0]

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a full sha or its beginning names."""
        line = self.line(revision)
        if line:
            return line[-1]
        every = [*self.commits, *(commit for line in self.branches.values() for commit in line)]
        return next((commit for commit in every if len(revision) >= 7 and commit.sha.startswith(revision)), None)

    def line(self, revision: str) -> list[Commit] | None:
        """The commits of a branch, oldest first."""
        return self.commits if revision in ("main", "HEAD") else self.branches.get(revision)

    def add_commit(self, files: dict[str, Entry], title: str, revision: str = "main", by: str | None = None) -> Commit:
        line = self.line(revision)
        assert line is not None, f"no branch {revision}"
        line.append(Commit(secrets.token_hex(20), title, files, by=by))
        return line[-1]

    def add_pull(self, title: str, author: str, start: Commit) -> Pull:
        pull = Pull(len(self.pulls) + 1, title, author)
        self.pulls.append(pull)
        self.branches[pull.ref] = [*self.commits[: self.commits.index(start) + 1]]
        return pull

    def readable_by(self, account: Account | None) -> bool:
        return not self.private or (account is not None and account.owns(self.namespace))

    def open_to(self, account: Account | None) -> bool:
        """Whether the files may be fetched: gated repositories show themselves to all, but not their files."""
        if not self.gated:
            return True
        return account is not None and (account.owns(self.namespace) or account.name in self.granted)


class Blobs:
    """Contents of files, on disk, by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def add(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.has(sha256):
            part = self.folder / f".{sha256}.{secrets.token_hex(4)}"
            part.write_bytes(content)
            part.rename(self.path(sha256))
        return sha256

    def entry(self, path: str, content: bytes) -> Entry:
        """Keep a content and describe it as the file `path`."""
        sha256 = self.add(content)
        return Entry(sha256, git_oid(content), len(content), is_lfs(path, len(content)))

    def lfs_entry(self, sha256: str, size: int) -> Entry:
        return Entry(sha256, git_oid(pointer(sha256, size)), size, True)


def is_lfs(path: str, size: int) -> bool:
    """Whether a file goes to large file storage, as the attributes of a new repository on the Hub say."""
    return size > 0 and (path.endswith(_LFS_SUFFIXES) or size > _LFS_SIZE)


def pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
