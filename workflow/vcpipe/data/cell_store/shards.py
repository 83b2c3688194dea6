"""Blocks of one modality, one after the other in files of bounded size, and where each lies."""

import hashlib
from pathlib import Path

import numpy as np
import xxhash

from vcpipe.data.cell_store.layout import INDEX, index_path, shard_name
from vcpipe.errors import InputError
from vcpipe.files import let_go


class ShardWriter:
    def __init__(self, folder: Path, modality: str, shard_bytes: int):
        self.folder, self.modality, self.shard_bytes = folder, modality, shard_bytes
        self.written: list[dict] = []
        self.index = bytearray()
        self.file = None
        self.offset = 0

    def append(self, block: bytes, num_entries: int) -> None:
        if self.file is None or (self.offset and self.offset + len(block) > self.shard_bytes):
            self._close()
            self._open()
        record = np.zeros(1, dtype=INDEX)
        record["xxh3"] = xxhash.xxh3_64_intdigest(block)
        record["offset"], record["length"] = self.offset, len(block)
        record["entries"], record["shard"] = num_entries, len(self.written)
        self.index += record.tobytes()
        self.file.write(block)
        self.sha256.update(block)
        self.offset += len(block)

    def close(self) -> list[dict]:
        """Write the index; name, bytes and sha256 of each shard."""
        self._close()
        np.save(index_path(self.folder, self.modality), np.frombuffer(self.index, dtype=INDEX))
        return self.written

    def _open(self) -> None:
        if len(self.written) > np.iinfo(np.uint16).max:
            raise InputError(
                f"{self.folder}: more than {len(self.written) - 1} shards; raise store.shard_mb."
            )
        self.file = (self.folder / shard_name(self.modality, len(self.written))).open("wb")
        self.offset, self.sha256 = 0, hashlib.sha256()

    def _close(self) -> None:
        if self.file is None:
            return
        self.file.flush()
        let_go(self.file.fileno())
        self.file.close()
        name = shard_name(self.modality, len(self.written))
        self.written.append({"name": name, "bytes": self.offset, "sha256": self.sha256.hexdigest()})
        self.file = None
