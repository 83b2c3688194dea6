"""Counts that the tests of the store share."""

import pytest


@pytest.fixture
def counts(generator):
    """200 cells × 90 genes, a tenth of them detected."""
    return generator.poisson(0.1, (200, 90)) * generator.integers(1, 9, (200, 90))
