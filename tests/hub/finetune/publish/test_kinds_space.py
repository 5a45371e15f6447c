"""The demo Space: its app is started as a process, loads the model from the Hub and streams an answer."""

import json
import os
import queue
import re
import socket
import subprocess
import threading
from contextlib import contextmanager
from importlib import metadata

import pytest
import yaml

from core import settings
from finetune.publish.kinds import Options, build
from tests.hub.finished_run import BASE_ID
from tests.refusals import refused

REPO = "tester/tea-adapter"
URL = re.compile(r"http://127\.0\.0\.1:\d+")


def free_port():
    """A port of the system's choice. Should it be taken before the app is there, Gradio tries the next ones."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@contextmanager
def started(folder, environment):
    """The app of a Space as a process; gives its address, and ends it."""
    command = [settings.python(), "-u", "app.py"]
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=lambda: [*map(lines.put, child.stdout), lines.put("")], daemon=True)
    reader.start()
    said = []
    try:
        while not URL.search(said[-1] if said else ""):
            said.append(lines.get())
            assert said[-1], "".join(said)
        yield URL.search(said[-1]).group()
    finally:
        child.kill()
        child.wait()
        reader.join()
        child.stdout.close()


@pytest.mark.ci
def test_the_demo_starts_and_streams_what_the_adapter_writes(hub, finished, publisher, tiny_model, tmp_path):
    from gradio_client import Client
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = build("adapter", finished, publisher, tmp_path / "adapter")
    commit = hub.add_repo(REPO, adapter.folder).head.sha
    assert hub.content(REPO, "adapter_config.json").count(BASE_ID.encode()) == 1
    (finished.folder / "published.json").write_text(
        f'{{"repo_id": "{REPO}", "url": "{hub.url}/{REPO}", "commit": "{commit}", "private": false, "files": {{}}}}'
    )
    built = build("space", finished, publisher, tmp_path / "space", Options(columns=("greedy",)))
    assert built.repo_type == "space" and built.facts["revision"] == commit
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "SPACE_ID", "SYSTEM")}
    environment |= {"HF_HOME": str(tmp_path / "visitor"), "GRADIO_SERVER_NAME": "127.0.0.1"}
    environment["GRADIO_SERVER_PORT"] = free_port()
    with started(built.folder, environment) as url:
        client = Client(url, verbose=False)
        job = client.submit("Hello there", 24, api_name="/chat")
        answer, pieces = job.result(), job.outputs()
        client.close()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), finished.model)
    message = [{"role": "user", "content": "Hello there"}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    written = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert answer == tokenizer.decode(written, skip_special_tokens=True) and answer
    assert len(pieces) > 2 and all(answer.startswith(piece) for piece in pieces)


def test_what_the_space_is_made_of_is_pinned_and_holds_no_secret(hub, finished, publisher, tmp_path):
    options = Options(repo_id=REPO, columns=("nucleus top_p=0.8",))
    built = build("space", finished, publisher, tmp_path / "space", options)
    files = {path.name: path.read_text() for path in built.folder.iterdir()}
    assert set(files) == {"app.py", "requirements.txt", "README.md"} == set(built.facts["files"])
    head = yaml.safe_load(files["README.md"].split("---")[1])
    assert (head["sdk"], head["python_version"], head["models"]) == ("gradio", "3.12", [REPO])
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", line) for line in files["requirements.txt"].split())
    assert "'top_p': 0.8" in files["app.py"] and publisher.token not in "".join(files.values())
    assert head["sdk_version"].split(".")[:2] == metadata.version("gradio").split(".")[:2]


@pytest.mark.parametrize("repo_id", ["no-namespace", "a/b'; import os #", "../x/y"])
def test_a_repository_that_is_none_gets_no_demo(hub, finished, publisher, tmp_path, repo_id):
    with pytest.raises(Exception, match=re.escape(repo_id[:6])) as caught:
        build("space", finished, publisher, tmp_path / "space", Options(repo_id=repo_id))
    assert type(caught.value).__name__ == "UserError"


def test_a_demo_of_what_was_never_published_is_refused(hub, finished, publisher, tmp_path):
    assert finished.id in refused("kinds.not_published", build, "space", finished, publisher, tmp_path / "space")


def test_an_adapter_whose_base_others_cannot_find_gets_no_demo(hub, publisher, tiny_model, tmp_path):
    from tests.hub.finished_run import make_finished_run

    run = make_finished_run(publisher, tiny_model, base_text=str(tiny_model))
    record = {"repo_id": REPO, "url": "", "commit": "c0", "private": True, "files": {}}
    (run.folder / "published.json").write_text(json.dumps(record))
    sentence = refused("kinds.base_elsewhere", build, "space", run, publisher, tmp_path / "space")
    assert tiny_model.name in sentence and str(tiny_model) not in sentence
