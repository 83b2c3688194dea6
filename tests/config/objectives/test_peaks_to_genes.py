import pytest
from pydantic import ValidationError

from vcpipe.config.objectives.peaks_to_genes import PeaksToGenes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task_weight": {"zero_bce": 2.0}}, "zero_bce is 2.0 and value_head is categorical"),
        (
            {"value_head": "regression", "task_weight": {"value_mse": 0.5}},
            "value_mse is 0.5 and value_head is regression",
        ),
        (
            {"value_head": "zero_inflated", "task_weight": {"zero_bce": 0, "value_mse": 0}},
            "zero_bce and value_mse are both 0",
        ),
        ({"task_weight": {"mvc": 0}}, "mvc and cell_type are both 0"),
        ({"num_random_features": 64}, "num_random_features is 64 and encoder is transformer"),
        ({"mvc_arch_style": "concat"}, "concat query"),
        ({"task_weight": {"cell_type": 11}}, "less than or equal to 10"),
    ],
)
def test_what_would_not_act_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        PeaksToGenes(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"value_head": "zero_inflated", "task_weight": {"zero_bce": 2.0, "value_mse": 0}},
        {"task_weight": {"mvc": 0, "cell_type": 1.0}},
        {"encoder": "performer", "num_random_features": 64},
    ],
)
def test_what_acts_is_taken(settings):
    PeaksToGenes(**settings)
