"""What the settings of training may not say together."""

import pytest
from pydantic import ValidationError

from vcpipe.config.training import Scheduler, Training


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "constant", "gamma": 0.5}, "gamma is read by step, cosine_restarts"),
        ({"name": "cosine", "warmup_steps": 5}, "warmup_steps is read by constant, step, cosine_w"),
        ({"name": "step", "total_steps": 5}, "total_steps is read by cosine_warmup, cosine, line"),
        ({"name": "step", "min_lr": 1e-6}, "min_lr is read by"),
        ({"name": "linear", "cycle_mult": 3}, "cycle_mult is read by cosine_restarts"),
        ({"name": "linear", "first_cycle_epochs": 3}, "first_cycle_epochs is read by cosine_rest"),
        ({"name": "linear", "total_steps": 5, "warmup_steps": 5}, "expected fewer steps of warm"),
    ],
)
def test_settings_that_a_schedule_does_not_read_are_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        Scheduler(**values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"precision": "16-mixed"}, "expected bf16-mixed or 32"),
        ({"compile": True}, "expected one of the two"),
    ],
)
def test_divided_weights_have_one_scale_and_are_not_compiled(values, words):
    with pytest.raises(ValidationError, match=words):
        Training(strategy="fsdp", **values)


def test_a_bare_32_is_a_precision():
    assert Training(precision=32).precision == "32"
