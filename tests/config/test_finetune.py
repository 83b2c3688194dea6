import pytest
from pydantic import ValidationError

from vcpipe.config.finetune import Perturbation


@pytest.mark.parametrize("number", [1, 2, 257])
def test_so_few_or_so_many_bins_of_inputs_are_refused(number):
    with pytest.raises(ValidationError, match="n_input_bins"):
        Perturbation(n_input_bins=number)


@pytest.mark.parametrize("number", [0, 3, 51])
def test_log_values_and_scgpts_bins_are_possible(number):
    assert Perturbation(n_input_bins=number).n_input_bins == number
