"""Four heads in one matrix are four heads."""

import torch

from vcpipe.models.linear import MultiTaskLinear


def test_each_head_has_logits_of_its_own_rows():
    torch.manual_seed(0)
    model = MultiTaskLinear(5, [2, 4, 3])
    values = torch.randn(7, 5)
    logits = model(values)
    assert [its.shape for its in logits] == [(7, 2), (7, 4), (7, 3)]
    second = values @ model.heads.weight[2:6].T + model.heads.bias[2:6]
    assert torch.allclose(logits[1], second)


def test_each_head_starts_with_xaviers_bounds_as_if_it_stood_alone():
    torch.manual_seed(0)
    model = MultiTaskLinear(200, [4, 400])
    small, large = model.heads.weight.split([4, 400])
    for weights, classes in ((small, 4), (large, 400)):
        bound = (6 / (200 + classes)) ** 0.5
        assert 0.95 * bound < weights.abs().max() <= bound
    assert not model.heads.bias.any()
