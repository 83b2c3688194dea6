"""The processes of one training, forked from one that has imported what they need.

torchrun starts each as a program of its own, which imports torch anew: tests/training/
test_processes.py does that. Call it in a program without threads of its own.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable


def run_in_ranks(world: int, act: Callable[..., None], *arguments) -> None:
    """Call act in so many processes, each of which finds its place where torchrun puts it."""
    fork, port = multiprocessing.get_context("fork"), free_port()
    ranks = [
        fork.Process(target=as_rank, args=(rank, world, port, act, *arguments))
        for rank in range(world)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * world


def as_rank(rank: int, world: int, port: int, act: Callable[..., None], *arguments) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update({name: str(value) for name, value in places.items()})
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    act(*arguments)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]
