"""Rows of a CSR matrix inside an h5ad, read straight from its three arrays.

anndata's own reader makes and checks several matrices on the way, which takes longer than reading.
"""

import h5py
import numpy as np
import scipy.sparse as sp

from vcpipe.errors import InputError


class CsrFile:
    """An open group of data, indices and indptr; row starts are held, the rest is read."""

    def __init__(self, group: h5py.Group):
        self.starts = group["indptr"][:].astype(np.int64, copy=False)
        self.data, self.indices = group["data"], group["indices"]
        self.shape = tuple(int(size) for size in group.attrs["shape"])
        self._refuse_damage(group)

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        """Consecutive rows."""
        first, last, _ = rows.indices(self.shape[0])
        entries = slice(self.starts[first], self.starts[last])
        # One chunk's entries can be counted by int32, whatever the file's can.
        starts = self.starts[first : last + 1] - self.starts[first]
        return sp.csr_matrix(
            (self.data[entries], self.indices[entries], starts.astype(np.int32)),
            shape=(last - first, self.shape[1]),
        )

    def _refuse_damage(self, group: h5py.Group) -> None:
        entries = len(self.data)
        ends = self.starts[[0, -1]].tolist() if len(self.starts) else []
        if (
            len(self.starts) != self.shape[0] + 1
            or len(self.indices) != entries
            or ends != [0, entries]
            or (np.diff(self.starts) < 0).any()
        ):
            raise InputError(
                f"{group.file.filename}: {group.name[1:]} is no CSR matrix of {self.shape[0]} × "
                f"{self.shape[1]}: its indptr, {len(self.starts)} numbers, goes from "
                f"{' to '.join(map(str, ends)) or 'nothing'}, beside {len(self.indices)} indices "
                f"and {entries} values. The file is damaged; write or download it again."
            )
