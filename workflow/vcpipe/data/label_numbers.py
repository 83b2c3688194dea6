"""A label of cells as the number that its vocabulary gives it."""

# B cells

import numpy as np

from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError, listed

MISSING = -1


class LabelNumbers:
    def __init__(self, store: CellStore, column: str, vocabulary: Vocabulary):
        if column not in store.manifest["labels"]:
            raise InputError(
                f"{store.path} has no label {column!r}; it has "
                f"{listed(store.manifest['labels']) or 'none'}. Set {column}_key of its atlases, "
                "or leave out what is learned from it."
            )
        words = store.label_file.words(column)
        unknown = [word for word in words if word not in vocabulary.ids]
        if unknown:
            raise InputError(
                f"{store.path} has the {column} {listed(unknown)}, which its vocabulary lacks; "
                "rerun prepare_cells."
            )
        self.store, self.column = store, column
        # The last stands for the code of a missing label, -1.
        self.number_of_code = np.array([*map(vocabulary.ids.get, words), MISSING], dtype=np.int64)

    def of(self, positions: np.ndarray) -> np.ndarray:
        """int64 [B]: of cells at positions of the store; MISSING where they have none."""
        column = self.store.labels(positions, [self.column])[self.column].combine_chunks()
        codes = column.indices.fill_null(MISSING).to_numpy(zero_copy_only=False)
        return self.number_of_code[codes]
