"""The Jobs routes of the Hub stand-in: hardware, start, list, inspect, cancel; logs and metrics as they come."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from tests.hub.jobs_runner import Job
from tests.hub.replies import Call, Refused

KEEP_ALIVE_SECONDS = 30
_NVIDIA = {"type": "gpu", "manufacturer": "Nvidia"}
HARDWARE = [
    ("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", "50 GB", None, 167),
    ("t4-small", "Nvidia T4 - small", "4 vCPU", "15 GB", "50 GB", ("T4", "1", "16 GB"), 6667),
    ("a10g-small", "Nvidia A10G - small", "4 vCPU", "14 GB", "110 GB", ("A10G", "1", "24 GB"), 16667),
    ("a10g-largex2", "2x Nvidia A10G - large", "24 vCPU", "92 GB", "1000 GB", ("A10G", "2", "48 GB"), 50000),
]


def hardware(call: Call) -> None:
    answers = []
    for name, title, cpu, ram, storage, gpu, price in HARDWARE:
        accelerator = {**_NVIDIA, "model": gpu[0], "quantity": gpu[1], "vram": gpu[2]} if gpu else None
        about = {"name": name, "prettyName": title, "cpu": cpu, "ram": ram, "ephemeralStorage": storage}
        cost = {"unitCostMicroUSD": price, "unitCostUSD": price / 1e6, "unitLabel": "minute"}
        answers.append({**about, "accelerator": accelerator, **cost})
    call.json(answers)


def start(call: Call, namespace: str) -> None:
    account = call.signed_in()
    if not account.owns(namespace) or call.role == "read":
        raise Refused(403, f"You don't have the rights to run jobs under the namespace {namespace}")
    spec = json.loads(call.body())
    if spec["flavor"] not in [name for name, *_ in HARDWARE]:
        raise Refused(400, f"Invalid flavor {spec['flavor']}")
    job = call.hub.jobs.start(namespace, call.token, spec)
    if call.hub.jobs.mute:
        call.handler.close_connection = True
        return
    call.json(described(job))


def listed(call: Call, namespace: str) -> None:
    own_namespace(call, namespace)
    wanted = [tuple(label.split("=", 1)) for label in call.query.get("label", [])]
    stages = call.query.get("stage")
    call.json(
        [
            described(job)
            for job in reversed(call.hub.jobs.all.values())
            if job.namespace == namespace
            and all(job.spec.get("labels", {}).get(key) == value for key, value in wanted)
            and (not stages or job.stage in stages)
        ]
    )


def own_namespace(call: Call, namespace: str) -> None:
    if not call.signed_in().owns(namespace):
        raise Refused(403, f"You don't have access to the jobs of {namespace}")


def find(call: Call, namespace: str, job_id: str) -> Job:
    own_namespace(call, namespace)
    job = call.hub.jobs.all.get(job_id)
    if job is None or job.namespace != namespace:
        raise Refused(404, "Job not found")
    return job


def inspect(call: Call, namespace: str, job_id: str) -> None:
    call.json(described(find(call, namespace, job_id)))


def cancel(call: Call, namespace: str, job_id: str) -> None:
    job = find(call, namespace, job_id)
    call.hub.jobs.cancel(job)
    call.json(described(job))


def described(job: Job) -> dict:
    """A job as the Hub tells of it: secrets by name only."""
    now = job.finished or time.time()
    durations = {
        "schedulingSecs": int((job.started or now) - job.created),
        "runningSecs": int(now - job.started) if job.started else None,
        "totalSecs": int(now - job.created),
    }
    kept = {name: job.spec.get(name) for name in ("command", "arguments", "environment", "flavor", "labels", "volumes")}
    return {
        **kept,
        "id": job.id,
        "createdAt": moment(job.created),
        "startedAt": moment(job.started),
        "finishedAt": moment(job.finished),
        "dockerImage": job.spec.get("dockerImage"),
        "secrets": {name: None for name in job.spec.get("secrets", {})},
        "owner": {"id": job.namespace, "name": job.namespace, "type": "user"},
        "status": {"stage": job.stage, "message": job.message},
        "durations": durations,
    }


def moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"


def logs(call: Call, namespace: str, job_id: str) -> None:
    stream(call, log_events(find(call, namespace, job_id)))


def metrics(call: Call, namespace: str, job_id: str) -> None:
    job = find(call, namespace, job_id)
    if job.ended:
        raise Refused(406, "The job has ended")
    stream(call, metric_events(job))


def stream(call: Call, events: Iterator[bytes]) -> None:
    """Write server-sent events as they come; a fault that cuts does so after the first."""
    handler = call.handler
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    with suppress(BrokenPipeError, ConnectionResetError):
        for event in events:
            handler.wfile.write(event)
            handler.wfile.flush()
            if call.fault and call.fault.cut:
                return


def log_events(job: Job) -> Iterator[bytes]:
    """Every line from the first on, then each new one, until the job has ended."""
    sent = 0
    while True:
        with job.news:
            if len(job.lines) == sent and not job.ended:
                job.news.wait(KEEP_ALIVE_SECONDS)
            some, ended = job.lines[sent:], job.ended
        sent += len(some)
        for seconds, line in some:
            yield f"data: {json.dumps({'data': line, 'timestamp': moment(seconds)})}\n\n".encode()
        if ended and not some:
            return
        if not some:
            yield b": keep-alive\n\n"


def metric_events(job: Job) -> Iterator[bytes]:
    while not job.ended:
        gpus = {"882fa930": {"utilization": 71, "memory_used_bytes": 10**9, "memory_total_bytes": 24 * 10**9}}
        sample = {"cpu_usage_pct": 50, "memory_used_bytes": 10**9, "memory_total_bytes": 16 * 10**9, "gpus": gpus}
        yield f"event: metric\ndata: {json.dumps(sample)}\n\n".encode()
        with job.news:
            job.news.wait_for(lambda: job.ended, 1)


_NAMESPACE = r"/api/jobs/(?P<namespace>[^/]+)"
_JOB = _NAMESPACE + r"/(?P<job_id>[0-9a-f]{24})"
ROUTES: list[tuple[str, str, str, Callable[..., None]]] = [
    ("GET", r"/api/jobs/hardware", "hardware", hardware),
    ("POST", _NAMESPACE, "job_start", start),
    ("GET", _NAMESPACE, "job_list", listed),
    ("GET", _JOB, "job_inspect", inspect),
    ("GET", _JOB + r"/logs", "job_logs", logs),
    ("GET", _JOB + r"/metrics", "job_metrics", metrics),
    ("POST", _JOB + r"/cancel", "job_cancel", cancel),
]
