import os
import re
import subprocess
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from vcpipe.data.hdf5 import GrowingArray, writing_hdf5

IN_A_NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def test_a_file_appears_only_when_its_block_ends_well(tmp_path):
    out = tmp_path / "made.h5"
    with writing_hdf5(out) as file:
        file["numbers"] = np.arange(9)
        assert not out.exists()
    with pytest.raises(KeyError), writing_hdf5(out) as file:
        file["absent"]
    with h5py.File(out) as file:
        assert file["numbers"][8] == 8
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_an_array_grows_part_by_part_and_hdf5_reads_it(tmp_path, generator, compressed, dtype):
    parts = [generator.integers(0, 9, size).astype(dtype) for size in (3, 0, 25, 8, 1)]
    with writing_hdf5(tmp_path / "made.h5") as file:
        array = GrowingArray(file, "numbers", dtype, 8, compressed=compressed)
        for part in parts:
            array.append(part)
        array.close()
    with h5py.File(tmp_path / "made.h5") as file:
        found = file["numbers"]
        assert (found.compression == "gzip") == compressed
        np.testing.assert_array_equal(found[:], np.concatenate(parts))


@pytest.fixture
def raw(tmp_path) -> Path:
    generator = np.random.default_rng(0)
    counts = sp.csr_matrix(generator.poisson(1.0, (400, 300)).astype(np.float32))
    cells = ad.AnnData(counts)
    cells.obs["target_gene"] = ["non-targeting", "0"] * 200
    cells.obs["batch"] = "a"
    cells.write_h5ad(tmp_path / "raw.h5ad")
    return tmp_path / "raw.h5ad"


@pytest.mark.skipif(
    subprocess.run([*IN_A_NAMESPACE, "true"], check=False, capture_output=True).returncode != 0,
    reason="needs leave to mount a small disk of its own",
)
@pytest.mark.parametrize("size", ["100k", "400k", "880k"])
def test_a_disk_that_fills_midway_leaves_nothing_and_the_error_says_what_was_needed(
    tmp_path, raw, size
):
    disk = tmp_path / "disk"
    disk.mkdir()
    # The disk looks large enough beforehand, as one does that others write to as well.
    program = f"""
import os, shutil, subprocess, sys
from collections import namedtuple
subprocess.run(["mount", "-t", "tmpfs", "-o", "size={size}", "tmpfs", {str(disk)!r}], check=True)
shutil.disk_usage = lambda path: namedtuple("Usage", "free")(10**9)
from scripts.convert_to_gears import main
from vcpipe.config.arguments import run
try:
    run(main)
finally:
    print("left:", os.listdir({str(disk)!r}))
"""
    done = subprocess.run(
        [
            *(*IN_A_NAMESPACE, sys.executable, "-c", program, f"--cells={raw}", "--name=a"),
            *(f"--out={disk}/out.h5ad", f"--report={disk}/report.json"),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "out.h5ad cannot be written: No space left on device, after" in done.stderr
    assert re.search(r"It needs about 9\d\d kB; 1 GB are free", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert "left: []" in done.stdout
