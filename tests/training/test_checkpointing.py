import resource

import pytest
import torch

from vcpipe.errors import InputError
from vcpipe.training.checkpointing import Checkpoints, Damaged, read_whole, write_whole
from vcpipe.training.progress import Progress


def state(update: int, top=(), size: int = 1000) -> dict:
    progress = Progress(update=update, top=[list(its) for its in top], rows=[[update] * 6])
    return {
        "model": {"weight": torch.full((size,), float(update))},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
        "progress": vars(progress),
    }


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path, said):
    made = Checkpoints(tmp_path, said.append, writes=True)
    yield made
    made.close()


def flip_a_byte(path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"\x00\x00\x00\x40" * 8) + 2] ^= 0x01  # of the weights, which are 2.0
    path.write_bytes(content)


def cut_off(path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def test_what_was_saved_is_read_back(checkpoints, said):
    checkpoints.save(state(1), False)
    checkpoints.save(state(2), False)
    checkpoints.wait()
    found = checkpoints.read()
    assert found["progress"] == state(2)["progress"]
    assert torch.equal(found["model"]["weight"], torch.full((1000,), 2.0))
    assert checkpoints.update == 2
    assert not said


def test_a_state_is_what_it_was_when_it_was_saved(checkpoints):
    """Training changes the weights while they are written."""
    its = state(1)
    checkpoints.save(its, False)
    its["model"]["weight"].zero_()
    checkpoints.wait()
    assert torch.equal(checkpoints.read()["model"]["weight"], torch.ones(1000))


@pytest.mark.parametrize("damage", [flip_a_byte, cut_off])
def test_a_damaged_checkpoint_is_told_and_the_one_before_serves(
    checkpoints, tmp_path, said, damage
):
    checkpoints.save(state(1), False)
    checkpoints.save(state(2), False)
    checkpoints.wait()
    damage(tmp_path / "last.pt")
    assert checkpoints.read()["progress"]["update"] == 1
    assert checkpoints.update == 1
    assert len(said) == 1
    assert said[0].startswith(str(tmp_path / "last.pt"))
    assert said[0].endswith("the one before it serves")
    damage(tmp_path / "last.pt")
    cut_off(tmp_path / "previous.pt")
    with pytest.raises(InputError, match="Bring back a copy, or remove"):
        checkpoints.read()


def test_a_run_that_died_between_two_names_goes_on(checkpoints, tmp_path):
    checkpoints.save(state(1), False)
    checkpoints.wait()
    (tmp_path / "last.pt").replace(tmp_path / "previous.pt")
    assert checkpoints.read()["progress"]["update"] == 1


def test_a_folder_without_checkpoints_holds_none(checkpoints):
    assert checkpoints.read() is None


def test_weights_are_kept_while_a_checkpoint_speaks_of_them(checkpoints, tmp_path):
    def kept() -> set[str]:
        checkpoints.wait()
        return {path.stem.rpartition("_")[2] for path in (tmp_path / "top").iterdir()}

    checkpoints.save(state(1, [(0.5, 0, 1)]), True)
    checkpoints.save(state(2, [(0.4, 0, 2), (0.5, 0, 1)]), True)
    assert kept() == {"1", "2"}
    checkpoints.save(state(3, [(0.3, 1, 3), (0.4, 0, 2)]), True)
    assert kept() == {"1", "2", "3"}  # previous.pt speaks of 1
    checkpoints.save(state(4, [(0.3, 1, 3), (0.4, 0, 2)]), False)
    assert kept() == {"2", "3"}
    best = checkpoints.best_weights([[0.3, 1, 3], [0.4, 0, 2]])
    assert torch.equal(best["weight"], torch.full((1000,), 3.0))


def test_a_full_disk_is_told_and_the_older_checkpoint_stays(checkpoints, tmp_path, said):
    """A limit on the size of files stands for the disk."""
    checkpoints.save(state(1, [(0.5, 0, 1)]), True)
    checkpoints.wait()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        checkpoints.save(state(2, [(0.4, 0, 2), (0.5, 0, 1)], size=100_000), True)
        checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(said) == 1
    assert said[0].startswith("checkpoint of update 2 is not kept: ")
    assert "File too large" in said[0]
    assert said[0].endswith("the last checkpoint is update 1.")
    assert checkpoints.read()["progress"]["update"] == 1
    best = checkpoints.best_weights([[0.4, 0, 2], [0.5, 0, 1]])
    assert torch.equal(best["weight"], torch.ones(1000))
    assert "the weights of update 2, 0.4000, are not on disk" in said[-1]
    with pytest.raises(InputError, match="holds no weights of the updates that were best"):
        checkpoints.best_weights([[0.4, 0, 2]])


def test_nothing_in_a_checkpoint_is_executed(tmp_path, capsys):
    class Payload:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"x": Payload(), "digest": ""}, tmp_path / "last.pt")
    with pytest.raises(Damaged):
        read_whole(tmp_path / "last.pt")
    assert "executed" not in capsys.readouterr().out


def test_every_kind_of_value_has_its_part_in_the_digest(tmp_path):
    path, content = tmp_path / "x.pt", {"a": {"b": torch.zeros(2, dtype=torch.int64)}, "c": [0.5]}
    write_whole(path, content)
    for change in (
        {"a": {"b": torch.zeros(2, dtype=torch.int32)}},
        {"a": {"d": content["a"]["b"]}},
        {"c": [0.25]},
    ):
        stored = torch.load(path, weights_only=True)
        torch.save(stored | change, tmp_path / "changed.pt")
        with pytest.raises(Damaged, match="its digest is another"):
            read_whole(tmp_path / "changed.pt")
    assert read_whole(path)["c"] == [0.5]
