"""How OpenMP's idle threads are told to behave."""

import os

import pytest

from core.runtime import SPINS, share_the_cores

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_idle_threads_look_for_work_a_little_and_then_sleep():
    share_the_cores()
    assert [os.environ[name] for name in NAMES] == ["PASSIVE", SPINS]


@pytest.mark.parametrize("name", NAMES)
def test_what_somebody_set_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "ACTIVE")
    share_the_cores()
    assert {given: os.environ.get(given) for given in NAMES} == dict.fromkeys(NAMES) | {name: "ACTIVE"}
