"""Our speed and memory beside the peers', who run for real on the same data: make bench."""

import sys
from pathlib import Path

# The library is not installed; programs find it beside them.
sys.path.insert(0, str(Path(__file__).parents[2] / "workflow"))
