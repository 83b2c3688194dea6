import numpy as np

from vcpipe.data.order import BatchDraw, generator_of, num_steps


def test_what_is_drawn_is_a_function_of_its_name():
    def drawn(*key):
        return generator_of(*key).random(4).tolist()

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert drawn(1, 2, 3) != drawn(1, 3, 2)
    draws = [BatchDraw(0, 1, step, rank).generator().random() for step in (0, 1) for rank in (0, 1)]
    assert len(np.unique(draws)) == 4


def test_every_process_has_a_cell_in_every_step():
    for num_cells in range(3, 40):
        for batch_size in (1, 2, 4):
            steps = num_steps(num_cells, batch_size, 3)
            assert num_cells // steps >= 3
