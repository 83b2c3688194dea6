import numpy as np

from vcpipe.data.seen import seen_controls, seen_of, together


def test_a_model_that_was_trained_twice_has_seen_the_cells_of_both(screen):
    first, second = np.arange(0, 60), np.arange(40, 100)
    one = {screen.data_digest: seen_of(screen, first)}
    other = {screen.data_digest: seen_of(screen, second), "another": seen_of(screen, first)}
    both = together(one, other)
    assert both[screen.data_digest] == seen_of(screen, np.arange(100))
    assert both["another"] == other["another"]
    assert set(seen_controls(both[screen.data_digest], screen)) == {
        *seen_controls(one[screen.data_digest], screen),
        *seen_controls(other[screen.data_digest], screen),
    }
