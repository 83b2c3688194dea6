import os
import subprocess
import sys
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "workflow"
# Twenty arrays of a megabyte come and go, ten times.
PROGRAM = """
import resource, sys
import numpy as np
from vcpipe.memory import keep_freed_memory
if sys.argv[1] == "kept":
    print(keep_freed_memory(), keep_freed_memory())
def use():
    its = [np.ones(2**17) for _ in range(20)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def printed(which: str) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(LIBRARY)}
    program = [sys.executable, "-c", PROGRAM, which]
    found = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    return found.stdout.split()


def test_memory_of_batches_is_not_asked_of_the_system_again():
    *said, pages = printed("kept")
    assert said == ["True", "True"]
    assert int(pages) < 100
    assert int(printed("given back")[0]) > 10_000
