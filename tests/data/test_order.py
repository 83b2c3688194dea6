import numpy as np
import pytest

from vcpipe.data.order import num_steps, step_cells


def epoch(num_cells: int, world: int, epoch: int = 0, seed: int = 0, batch_size: int = 4):
    return [
        [
            step_cells(
                num_cells, batch_size, seed=seed, epoch=epoch, step=step, rank=rank, world=world
            )
            for rank in range(world)
        ]
        for step in range(num_steps(num_cells, batch_size, world))
    ]


@pytest.mark.parametrize("num_cells", [1, 4, 17, 64])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_cell_is_seen_once_in_an_epoch(num_cells, world):
    seen = np.concatenate([part for step in epoch(num_cells, world) for part in step])
    assert sorted(seen) == list(range(num_cells))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_no_batch_is_larger_than_asked(world):
    assert max(len(part) for step in epoch(50, world) for part in step) <= 4


@pytest.mark.parametrize("num_cells", [3, 5, 7, 50])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_no_process_is_left_without_a_cell(num_cells, batch_size):
    for step in epoch(num_cells, 3, batch_size=batch_size):
        assert min(len(part) for part in step) > 0


def test_the_order_is_a_function_of_seed_and_epoch():
    first = [part.tolist() for step in epoch(17, 1) for part in step]
    assert first == [part.tolist() for step in epoch(17, 1) for part in step]
    assert first != [part.tolist() for step in epoch(17, 1, epoch=1) for part in step]
    assert first != [part.tolist() for step in epoch(17, 1, seed=1) for part in step]
