"""A push whose process is killed, and two pushes to one repository at once: whole or nothing; the next try works."""

import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from core import settings
from core.errors import UserError
from finetune.publish import prepare, push, read_push
from tests.app_process import ROOT
from tests.hub.finetune.publish.test_publish import REPO, publish
from tests.hub.standin import TOKEN

pytestmark = pytest.mark.matrix

PUSH = """
import sys
from pathlib import Path
from core.workspace import Owner
from finetune.publish import prepare, push
from finetune.runs.run import Run
from tests.tiny.dying import die_at

die_at("open", ".published.json")
owner = Owner("local", sys.argv[3])
push(prepare(Run(Path(sys.argv[1])), sys.argv[2], owner), owner)
"""


def files_at(hub):
    """What lies in the repository beside what every repository begins with."""
    repo = hub.repos.get(("models", REPO))
    return set(repo.head.files) - {".gitattributes"} if repo else set()


def pushing(run):
    return subprocess.Popen([settings.python(), "-c", PUSH, str(run.folder), REPO, TOKEN], cwd=ROOT)


def the_next_push_completes_it(hub, run, owner):
    wanted = {file.path for file in prepare(run, REPO, owner).files}
    assert publish(run, owner).files.keys() == wanted == files_at(hub)
    assert read_push(run) is not None and len(hub.repos["models", REPO].commits) == 2


@pytest.mark.parametrize("kind", ["create", "lfs_put", "commit"])
def test_a_push_that_is_killed_on_the_way_leaves_nothing_half_visible(hub, finished, publisher, kind):
    fault = hub.fail(kind, hold=threading.Event(), cut=True)
    child = pushing(finished)
    fault.reached.wait()
    child.kill()
    child.wait()
    fault.hold.set()
    assert files_at(hub) == set() and read_push(finished) is None
    hub.heal()
    the_next_push_completes_it(hub, finished, publisher)


def test_a_push_that_is_killed_before_it_is_remembered_is_found_again(hub, finished, publisher):
    assert pushing(finished).wait() == -signal.SIGKILL
    assert files_at(hub) and read_push(finished) is None
    the_next_push_completes_it(hub, finished, publisher)


@pytest.mark.parametrize("kind", ["create", "commit"])
def test_of_two_pushes_at_once_one_is_made_and_the_other_says_what_changed(hub, finished, publisher, kind):
    if kind == "commit":
        publish(finished, publisher)
        hub.heal()
    cards = [prepare(finished, REPO, publisher).card + f"\nBy {name}.\n" for name in ("Ada", "Grace")]
    slow, quick = (prepare(finished, REPO, publisher, card=card) for card in cards)
    fault = hub.fail(kind, hold=threading.Event())
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(push, slow, publisher)
        fault.reached.wait()
        push(quick, publisher)
        fault.hold.set()
        with pytest.raises(UserError) as caught:
            waiting.result()
    assert caught.value.code in ("publish.changed", "publish.changed_since"), str(caught.value)
    assert "By Grace." in hub.content(REPO, "README.md").decode()
    again = prepare(finished, REPO, publisher, card=cards[0])
    assert push(again, publisher, confirmed=True).changed and "By Ada." in hub.content(REPO, "README.md").decode()
