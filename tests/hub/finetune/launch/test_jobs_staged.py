"""A run of several stages as a job: the data of each stage goes along, and comes with it to another machine."""

import shutil

import pytest

from finetune.launch.jobs import launcher as jobs
from finetune.plan.prepare import import_data
from tests.hub.finished_run import BASE_ID
from tests.tiny.stages import staged

LAUNCHER = jobs.JobsLauncher("a10g-small", "2h")


@pytest.fixture
def staged_recipe(tmp_path):
    return staged(BASE_ID, tmp_path, ("pretrain", "sft", "dpo"))


def test_the_data_of_every_stage_travels_and_comes_back(hub, renter, staged_recipe):
    LAUNCHER.start(staged_recipe, renter)
    ids = {folder.name for folder in renter.datasets.iterdir()}
    assert len(ids) == 3
    shutil.rmtree(renter.folder)
    (there,) = jobs.attach(renter)
    assert {folder.name for folder in renter.datasets.iterdir()} == ids
    assert {source.dataset for source in there.config().sources} == ids


def test_every_stage_takes_its_time_and_every_method_has_an_estimate(renter, staged_recipe):
    one = import_data(staged_recipe.model_copy(update={"stages": staged_recipe.stages[:1]}), renter)
    three = import_data(staged_recipe, renter)
    big = {"model": "acme/llama-70b"}
    short, long = (jobs.estimate(config.model_copy(update=big), renter, "cpu-basic") for config in (one, three))
    assert long.seconds > short.seconds
    for method in ("lora", "dora", "qlora", "freeze", "full"):
        found = jobs.estimate(three.model_copy(update={**big, "method": method}), renter, "cpu-basic")
        assert (found.seconds == long.seconds) == (method not in ("freeze", "full")), method
