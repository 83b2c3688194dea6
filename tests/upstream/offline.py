"""What the programs here share that other Pythons run: no network, and an answer as JSON."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gears import PertData


def answer(program: Callable[[Path], dict]) -> None:
    """Print what the program makes of the folder that the command line names, and nothing else."""
    sys.addaudithook(refuse_the_network)
    # GEARS and scGPT print.
    output = os.dup(1)
    os.dup2(2, 1)
    result = program(Path(sys.argv[1]).resolve())
    with os.fdopen(output, "w") as file:
        json.dump(result, file)


def refuse_the_network(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"asked for the network: {event} {arguments[1:]}")


def name_of_cell(data: PertData) -> dict[bytes, str]:
    """Names by the bytes of a cell: a value that is not exactly that of the h5ad has no name."""
    rows = data.adata.X.toarray()
    return {row.tobytes(): name for row, name in zip(rows, data.adata.obs_names, strict=True)}
