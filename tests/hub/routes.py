"""The routes of the Hub stand-in: which calls it knows and what it answers."""

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import parse_qs, unquote

import yaml

from tests.hub.hubstore import Commit, Entry, Pull, Repo, is_lfs
from tests.hub.jobs_routes import ROUTES as JOBS_ROUTES
from tests.hub.replies import Call, Refused, Replies
from tests.hub.search_routes import ROUTES as SEARCH_ROUTES

_REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
_LFS_REPO = r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+?)"
_PARTIAL = re.compile(r"bytes=(\d+)-")


class Handler(Replies):
    """Finds the route of a call and answers it."""

    def route(self, call: Call) -> tuple[str, Callable[..., None], dict[str, str]]:
        for method, pattern, kind, answer in ROUTES:
            match = re.fullmatch(pattern, call.path)
            if match and method == call.method:
                facts = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
                return kind, answer, facts
        return "unknown", unknown, {}


def unknown(call: Call) -> None:
    raise Refused(404, f"The stand-in has no route {call.method} {call.path}")


def whoami(call: Call) -> None:
    account, role = call.account, call.role
    if account is None:
        raise Refused(401, "Invalid username or password.")
    organisations = [{"type": "org", "name": name, "roleInOrg": "admin"} for name in account.organisations]
    auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": role, **account.told}}
    who = {"type": "user", "id": account.name, "name": account.name, "orgs": organisations, "auth": auth}
    call.json({**who, "canPay": account.can_pay, "isPro": False})


def create(call: Call) -> None:
    asked = json.loads(call.body())
    account = call.signed_in()
    namespace = asked.get("organization") or account.name
    kind = asked.get("type", "model") + "s"
    if not account.owns(namespace) or call.role != "write":
        message = f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{namespace}"'
        raise Refused(403, message)
    repo_id = f"{namespace}/{asked['name']}"
    url = f"{call.hub.url}/{repo_id}"
    with call.hub.lock:
        if (kind, repo_id) in call.hub.repos:
            return call.json({"error": f"You already created this {kind[:-1]} repo", "url": url}, 409)
        made = call.hub.add_repo(repo_id, kind=kind, private=asked.get("visibility") == "private")
        made.sdk = asked.get("sdk")
    call.json({"url": url})


def delete(call: Call) -> None:
    asked = json.loads(call.body())
    account = call.signed_in()
    kind = asked.get("type", "model") + "s"
    repo = find(call, kind, f"{asked.get('organization') or account.name}/{asked['name']}")
    writable(call, repo)
    del call.hub.repos[repo.kind, repo.repo_id]
    call.json({})


def find(call: Call, kind: str, repo_id: str) -> Repo:
    """The repository, if the caller may know of it."""
    repo = call.hub.repos.get((kind, repo_id))
    if repo is None or not repo.readable_by(call.account):
        status = 404 if call.account else 401
        raise Refused(status, "Repository not found", {"X-Error-Code": "RepoNotFound"})
    return repo


def writable(call: Call, repo: Repo, revision: str = "main") -> None:
    """Refuse who may not write; a pull request may be opened by everybody, and continued by who opened it."""
    account = call.signed_in()
    mine = any(pull.ref == revision and pull.author == account.name for pull in repo.pulls)
    if call.role == "write" and (mine or call.query.get("create_pr") == ["1"]):
        return
    if call.role != "write" or not account.owns(repo.namespace):
        raise Refused(403, "You don't have write access to this repository")


def opened(call: Call, repo: Repo) -> None:
    if not repo.open_to(call.account):
        status = 403 if call.account else 401
        raise Refused(status, f"Access to {repo.kind[:-1]} {repo.repo_id} is restricted", {"X-Error-Code": "GatedRepo"})


def commit_of(repo: Repo, revision: str) -> Commit:
    commit = repo.at(revision)
    if commit is None:
        raise Refused(404, f"Invalid rev id: {revision}", {"X-Error-Code": "RevisionNotFound"})
    return commit


def info(call: Call, kind: str, repo_id: str, revision: str = "main") -> None:
    repo = find(call, kind, repo_id)
    commit = commit_of(repo, revision)
    blobs = "blobs" in call.query
    siblings = []
    for path, entry in sorted(commit.files.items()):
        large = {"lfs": {"sha256": entry.sha256, "size": entry.size, "pointerSize": 130}} if entry.lfs else {}
        siblings.append({"rfilename": path, **({"size": entry.size, "blobId": entry.oid, **large} if blobs else {})})
    about = {"id": repo_id, "_id": repo_id, "author": repo.namespace, "sha": commit.sha, "private": repo.private}
    dates = {"lastModified": commit.date, "createdAt": repo.commits[0].date}
    more = {"gated": "auto" if repo.gated else False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
    call.json({**about, **dates, **more, "siblings": siblings, "cardData": front_matter(call, commit)})


def front_matter(call: Call, commit: Commit) -> dict | None:
    entry = commit.files.get("README.md")
    text = call.hub.blobs.path(entry.sha256).read_text(encoding="utf-8") if entry else ""
    match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    return yaml.safe_load(match[1]) if match else None


def described(path: str, entry: Entry) -> dict:
    large = {"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 130}} if entry.lfs else {}
    return {"type": "file", "oid": entry.oid, "size": entry.size, "path": path, **large}


def tree(call: Call, kind: str, repo_id: str, revision: str, folder: str = "") -> None:
    repo = find(call, kind, repo_id)
    files = commit_of(repo, revision).files
    prefix = f"{folder}/" if folder else ""
    listed: dict[str, dict] = {}
    for path, entry in sorted(files.items()):
        rest = path.removeprefix(prefix) if path.startswith(prefix) else ""
        if rest and (call.query.get("recursive") == ["true"] or "/" not in rest):
            listed[path] = described(path, entry)
        elif rest:
            name = prefix + rest.split("/")[0]
            listed[name] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
    if prefix and not listed:
        raise Refused(404, f"{folder} does not exist on {revision}", {"X-Error-Code": "EntryNotFound"})
    page(call, list(listed.values()))


def page(call: Call, entries: list[dict]) -> None:
    """Answer with a list, in pages with a `Link` header where the test asks for pages."""
    size = call.hub.page_size or max(len(entries), 1)
    start = int(call.query.get("cursor", ["0"])[0])
    headers = {}
    if start + size < len(entries):
        kept = "&".join(f"{name}={values[0]}" for name, values in call.query.items() if name != "cursor")
        headers["Link"] = f'<{call.hub.url}{call.path}?{kept}&cursor={start + size}>; rel="next"'
    call.json(entries[start : start + size], headers=headers)


def paths_info(call: Call, kind: str, repo_id: str, revision: str) -> None:
    files = commit_of(find(call, kind, repo_id), revision).files
    asked = parse_qs(call.body().decode())["paths"]
    call.json([described(path, files[path]) for path in asked if path in files])


def preupload(call: Call, kind: str, repo_id: str, revision: str) -> None:
    repo = find(call, kind, repo_id)
    writable(call, repo, revision)
    files = commit_of(repo, revision).files
    answers = []
    for asked in json.loads(call.body())["files"]:
        entry = files.get(asked["path"])
        mode = "lfs" if is_lfs(asked["path"], asked["size"]) else "regular"
        oid = {"oid": entry.sha256 if entry.lfs else entry.oid} if entry else {}
        answers.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    call.json({"files": answers})


def lfs_batch(call: Call, repo_id: str, kind: str = "models") -> None:
    repo, order = find(call, kind, repo_id), json.loads(call.body())
    if "ref" in order:
        writable(call, repo, order["ref"]["name"])
    call.signed_in()
    objects = []
    for asked in order["objects"]:
        actions = {
            "upload": upload_of(call, asked["oid"], asked["size"]),
            "verify": {"href": f"{call.hub.url}/_lfs-verify"},
        }
        missing = {} if call.hub.blobs.has(asked["oid"]) else {"actions": actions}
        objects.append({"oid": asked["oid"], "size": asked["size"], **missing})
    call.json({"transfer": "basic", "objects": objects}, content_type="application/vnd.git-lfs+json")


def upload_of(call: Call, oid: str, size: int) -> dict:
    """Where a content goes: in one piece, or in parts where the test asks for parts."""
    part = call.hub.part_size
    if not part or size <= part:
        return {"href": f"{call.hub.url}/_lfs/{oid}", "header": {}}
    count = -(-size // part)
    parts = {str(number): f"{call.hub.url}/_lfs-part/{oid}/{number}" for number in range(1, count + 1)}
    return {"href": f"{call.hub.url}/_lfs-done/{oid}", "header": {"chunk_size": str(part), **parts}}


def lfs_part(call: Call, oid: str, number: str) -> None:
    call.hub.parts[oid, int(number)] = call.body()
    call.json({}, headers={"ETag": f'"{number}"'})


def lfs_done(call: Call, oid: str) -> None:
    """Put the parts together, which must be those that were named."""
    named = [part["partNumber"] for part in json.loads(call.body())["parts"]]
    content = b"".join(call.hub.parts.get((oid, number), b"") for number in named)
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refused(400, "The parts do not make the content")
    call.hub.blobs.add(content)
    call.json({})


def lfs_put(call: Call, oid: str) -> None:
    content = call.body()
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refused(400, "The content does not match its SHA-256")
    call.hub.blobs.add(content)
    call.json({}, headers={"ETag": f'"{oid}"'})


def lfs_verify(call: Call) -> None:
    call.signed_in()
    asked = json.loads(call.body())
    if not call.hub.blobs.has(asked["oid"]):
        raise Refused(404, "This object was not uploaded")
    call.json({})


def commit(call: Call, kind: str, repo_id: str, revision: str) -> None:
    repo = find(call, kind, repo_id)
    writable(call, repo, revision)
    lines = [json.loads(line) for line in call.body().splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    pull: Pull | None = None
    with call.hub.lock:
        start = commit_of(repo, revision)
        opens = call.query.get("create_pr") == ["1"]
        if not opens and header.get("parentCommit") not in (None, start.sha):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(start.files)
        for line in lines:
            apply(call, files, line["key"], line["value"])
        if opens:
            pull = repo.add_pull(header["summary"], call.signed_in().name, start)
        made = repo.add_commit(files, header["summary"], pull.ref if pull else revision, call.signed_in().name)
    url = f"{call.hub.url}/{repo_id}/commit/{made.sha}"
    pull_url = f"{call.hub.url}/{repo_id}/discussions/{pull.num}" if pull else None
    call.json({"commitUrl": url, "commitOid": made.sha, "pullRequestUrl": pull_url})


def apply(call: Call, files: dict[str, Entry], key: str, value: dict) -> None:
    """One line of a commit's body changes the files."""
    if key == "file":
        files[value["path"]] = call.hub.blobs.entry(value["path"], base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if not call.hub.blobs.has(value["oid"]) and (content := call.hub.xet.fetch(value["oid"])) is not None:
            call.hub.blobs.add(content)
        if not call.hub.blobs.has(value["oid"]):
            raise Refused(400, f"The content of {value['path']} was never uploaded")
        files[value["path"]] = call.hub.blobs.lfs_entry(value["oid"], value["size"])
    elif key == "deletedFile":
        files.pop(value["path"], None)
    elif key == "deletedFolder":
        for path in [path for path in files if path.startswith(value["path"])]:
            del files[path]


def validate_yaml(call: Call) -> None:
    text = json.loads(call.body())["content"]
    match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    try:
        data = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as problem:
        data, errors = {}, [{"message": str(problem)}]
    else:
        errors = [] if isinstance(data, dict) else [{"message": "not a mapping"}]
    call.json({"warnings": [], "errors": errors}, 400 if errors else 200)


def auth_check(call: Call, kind: str, repo_id: str, write: str | None = None) -> None:
    repo = find(call, kind, repo_id)
    if write:
        writable(call, repo)
    opened(call, repo)
    call.json({})


def resolve(call: Call, repo_id: str, revision: str, path: str, kind: str = "models") -> None:
    repo = find(call, kind, repo_id)
    found = commit_of(repo, revision)
    opened(call, repo)
    commit_header = {"X-Repo-Commit": found.sha}
    entry = found.files.get(path)
    if entry is None:
        raise Refused(404, "Entry not found", {"X-Error-Code": "EntryNotFound", **commit_header})
    large = {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)} if entry.lfs else {}
    headers = {**commit_header, "ETag": f'"{entry.oid}"', "Accept-Ranges": "bytes", **large}
    content = call.hub.blobs.path(entry.sha256).read_bytes()
    partial = _PARTIAL.match(call.header("Range") or "")
    start = int(partial[1]) if partial else 0
    if start:
        headers["Content-Range"] = f"bytes {start}-{entry.size - 1}/{entry.size}"
    call.send(206 if start else 200, content[start:], {"Content-Type": "application/octet-stream", **headers})


def refs(call: Call, kind: str, repo_id: str) -> None:
    repo = find(call, kind, repo_id)
    lines = {"main": repo.commits, **repo.branches}
    named = {name: line[-1].sha for name, line in lines.items()}
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
        for name, sha in named.items()
        if not name.startswith("refs/")
    ]
    call.json({"branches": branches, "converts": [], "tags": [], "pullRequests": []})


def branch(call: Call, kind: str, repo_id: str, revision: str) -> None:
    """Make a branch at the commit that the caller names."""
    repo = find(call, kind, repo_id)
    writable(call, repo)
    start = commit_of(repo, json.loads(call.body()).get("startingPoint") or "main")
    with call.hub.lock:
        if repo.line(revision) is not None:
            raise Refused(409, "Reference already exists")
        line = next((line for line in [repo.commits, *repo.branches.values()] if start in line), repo.commits)
        repo.branches[revision] = line[: line.index(start) + 1]
    call.json({})


def discussions(call: Call, kind: str, repo_id: str) -> None:
    """The pull requests, filtered as the client asks."""
    repo = find(call, kind, repo_id)
    asked = {name: values[0] for name, values in call.query.items()}
    pulls = [
        pull
        for pull in repo.pulls
        if asked.get("author") in (None, pull.author) and asked.get("status") in (None, pull.status)
    ]
    told = [
        {
            "title": pull.title,
            "num": pull.num,
            "author": {"name": pull.author},
            "createdAt": repo.commits[0].date,
            "status": pull.status,
            "repo": {"name": repo_id, "type": kind[:-1]},
            "isPullRequest": True,
        }
        for pull in pulls
    ]
    call.json({"discussions": told, "count": len(told), "start": 0})


def xet_grant(call: Call, kind: str, repo_id: str, revision: str) -> None:
    """The right to upload to Xet storage: here a folder of this machine."""
    writable(call, find(call, kind, repo_id), revision)
    exp = int(time.time()) + 3600
    call.json({"casUrl": call.hub.xet.address, "accessToken": "xet-" + secrets.token_hex(8), "exp": exp})


def commits(call: Call, kind: str, repo_id: str, revision: str) -> None:
    repo = find(call, kind, repo_id)
    last = commit_of(repo, revision)
    line = next(line for line in [repo.commits, *repo.branches.values()] if last in line)
    call.json(
        [
            {
                "id": one.sha,
                "title": one.title,
                "message": "",
                "date": one.date,
                "authors": [{"user": one.by or repo.namespace}],
            }
            for one in reversed(line[: line.index(last) + 1])
        ]
    )


def front(call: Call) -> None:
    """The front page: somebody looks whether the Hub is there."""
    call.send(200, b"the Hub stand-in\n", {"Content-Type": "text/plain"})


def harnesses(call: Call) -> None:
    """The client asks once a day who drives it; nothing of ours."""
    call.json({"id": secrets.token_hex(2), "harnesses": []})


_REVISION = r"/(?P<revision>[^/]+)"
_RESOLVE = _LFS_REPO + r"/resolve" + _REVISION + r"/(?P<path>.+)"
ROUTES: list[tuple[str, str, str, Callable[..., None]]] = [
    ("HEAD", r"/?", "front", front),
    ("GET", r"/?", "front", front),
    ("GET", r"/api/whoami-v2", "whoami", whoami),
    ("POST", r"/api/repos/create", "create", create),
    ("DELETE", r"/api/repos/delete", "delete", delete),
    ("POST", r"/api/validate-yaml", "validate", validate_yaml),
    ("GET", r"/api/agent-harnesses", "harnesses", harnesses),
    ("GET", _REPO, "info", info),
    ("GET", _REPO + r"/revision" + _REVISION, "info", info),
    ("GET", _REPO + r"/tree" + _REVISION + r"(?:/(?P<folder>.+))?", "tree", tree),
    ("POST", _REPO + r"/paths-info" + _REVISION, "paths", paths_info),
    ("POST", _REPO + r"/preupload" + _REVISION, "preupload", preupload),
    ("POST", _REPO + r"/commit" + _REVISION, "commit", commit),
    ("GET", _REPO + r"/auth-check(?P<write>/write)?", "auth_check", auth_check),
    ("GET", _REPO + r"/refs", "refs", refs),
    ("GET", _REPO + r"/commits" + _REVISION, "commits", commits),
    ("POST", _REPO + r"/branch" + _REVISION, "branch", branch),
    ("GET", _REPO + r"/discussions", "discussions", discussions),
    ("GET", _REPO + r"/xet-write-token" + _REVISION, "xet_grant", xet_grant),
    ("POST", _LFS_REPO + r"\.git/info/lfs/objects/batch", "lfs_batch", lfs_batch),
    ("PUT", r"/_lfs/(?P<oid>[0-9a-f]{64})", "lfs_put", lfs_put),
    ("PUT", r"/_lfs-part/(?P<oid>[0-9a-f]{64})/(?P<number>[0-9]+)", "lfs_part", lfs_part),
    ("POST", r"/_lfs-done/(?P<oid>[0-9a-f]{64})", "lfs_done", lfs_done),
    ("POST", r"/_lfs-verify", "lfs_verify", lfs_verify),
    ("HEAD", _RESOLVE, "head", resolve),
    ("GET", _RESOLVE, "file", resolve),
    *JOBS_ROUTES,
    *SEARCH_ROUTES,
]
