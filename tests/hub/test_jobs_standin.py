"""The stand-in's jobs are as huggingface_hub expects: they run, tell, end in every way and are found again."""

import pytest
from huggingface_hub import HfApi, Volume
from huggingface_hub.errors import HfHubHTTPError, JobNotFoundError

from tests.hub.standin import TOKEN, USER


@pytest.fixture
def api(hub):
    hub.add_repo(f"{USER}/inputs", {"greeting.txt": b"hello from the mounted folder\n"}, kind="datasets", private=True)
    return HfApi(endpoint=hub.url, token=TOKEN)


def start(api, *command, **more):
    volume = Volume(type="dataset", source=f"{USER}/inputs", mount_path="/inputs", read_only=True)
    told = {"image": "python:3.12", "flavor": "cpu-basic", "timeout": "1h", "namespace": USER, "volumes": [volume]}
    return api.run_job(command=list(command), **told | more)


def test_a_job_runs_its_command_on_the_mounted_files_and_tells_what_it_prints(api, hub):
    job = start(api, "bash", "-c", "cat /inputs/greeting.txt; echo $COLOUR ${#SECRET}", env={"COLOUR": "blue"})
    lines = list(api.fetch_job_logs(job_id=job.id, follow=True, namespace=USER))
    assert lines == ["hello from the mounted folder", "blue 0"]
    done = api.inspect_job(job_id=job.id, namespace=USER)
    assert done.status.stage == "COMPLETED" and done.durations.running_secs is not None
    assert done.url.endswith(f"/jobs/{USER}/{job.id}")


def test_a_secret_reaches_the_job_and_nobody_else(api, hub):
    job = start(api, "bash", "-c", "echo ${#HF_TOKEN}", secrets={"HF_TOKEN": TOKEN})
    assert list(api.fetch_job_logs(job_id=job.id, follow=True, namespace=USER)) == [str(len(TOKEN))]
    assert api.inspect_job(job_id=job.id, namespace=USER).secrets == {"HF_TOKEN": None}


def test_a_failing_command_and_a_killed_one_end_in_an_error(api, hub):
    assert ended(api, hub, start(api, "bash", "-c", "exit 3")) == ("ERROR", "Job failed with exit code: 3")
    job = start(api, "sleep", "1000")
    assert next(iter(api.fetch_job_metrics(job_id=job.id, namespace=USER)))["gpus"]
    hub.jobs.kill(hub.jobs.all[job.id])
    assert ended(api, hub, job) == ("ERROR", "Job failed with exit code: -9")


def ended(api, hub, job):
    hub.jobs.all[job.id].wait()
    status = api.inspect_job(job_id=job.id, namespace=USER).status
    return status.stage, status.message


def test_a_job_is_cancelled_times_out_and_is_lost(api, hub):
    cancelled, late, lost = (start(api, "sleep", "1000") for _ in range(3))
    api.cancel_job(job_id=cancelled.id, namespace=USER)
    assert ended(api, hub, cancelled) == ("CANCELED", None)
    hub.jobs.time_out(hub.jobs.all[late.id])
    assert ended(api, hub, late) == ("ERROR", "Job timeout")
    hub.jobs.lose(hub.jobs.all[lost.id])
    with pytest.raises(JobNotFoundError):
        api.inspect_job(job_id=lost.id, namespace=USER)


def test_jobs_are_found_by_label_and_only_by_their_owner(api, hub):
    first = start(api, "true", labels={"run": "a", "kind": "x"})
    start(api, "true", labels={"run": "b", "kind": "x"})
    found = list(api.list_jobs(labels={"run": "a", "kind": "x"}, namespace=USER))
    assert [job.id for job in found] == [first.id]
    stranger = hub.add_user("mallory")
    with pytest.raises(HfHubHTTPError, match="403"):
        list(api.list_jobs(namespace=USER, token=stranger))


def test_hardware_has_names_prices_and_memory(api, hub):
    table = {flavour.name: flavour for flavour in api.list_jobs_hardware()}
    assert table["a10g-largex2"].accelerator.quantity == "2"
    assert table["cpu-basic"].unit_cost_usd * 60 == pytest.approx(0.01, rel=0.01)


def test_a_job_waits_as_long_as_a_test_wants_and_a_refused_one_never_starts(api, hub):
    hub.jobs.hold.clear()
    job = start(api, "true")
    assert api.inspect_job(job_id=job.id, namespace=USER).status.stage == "SCHEDULING"
    hub.jobs.hold.set()
    assert ended(api, hub, job) == ("COMPLETED", None)
    hub.fail("job_start", status=402, message="Pre-paid credit balance is insufficient")
    with pytest.raises(HfHubHTTPError, match="402"):
        start(api, "true")
    assert len(hub.jobs.all) == 1
