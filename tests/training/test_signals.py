import os
import signal
import time

import pytest

from vcpipe.training.signals import MARGIN_SECONDS, StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_asks_to_stop_and_does_nothing_else(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.reason == f"a signal ({number.name})"
    assert signal.getsignal(number) == before


def test_a_second_interrupt_from_the_keyboard_stops_at_once():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_end_of_a_slurm_job_asks_to_stop_before_it(monkeypatch):
    for left, stops in ((MARGIN_SECONDS + 60, False), (MARGIN_SECONDS - 1, True)):
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time() + left)))
        with StopRequest() as stop:
            assert bool(stop) == stops
    monkeypatch.setenv("SLURM_JOB_END_TIME", "Unknown")
    with StopRequest() as stop:
        assert not stop
