"""preprocess.<corpus>.store: how cells lie on disk; decides speed, never a token."""

from pydantic import Field

from vcpipe.config.section import Section


class CellStore(Section):
    seed: int = Field(0, ge=0, description="of the order of cells on disk")
    block_size: int = Field(256, ge=1, le=65536, description="cells that are read together")
    shard_mb: int = Field(1024, ge=1, le=4095, description="size of a file of blocks")
    compression: str = Field(
        "zstd", pattern="^(zstd|lz4)$", description="zstd is smaller, lz4 fast"
    )
    level: int = Field(3, ge=1, le=9, description="of the compression")
    group_by: list[str] = Field(
        [],
        description="labels of a second copy in which cells of a group lie together: "
        "[cell_type, condition]; the dataset always comes first; empty: no second copy",
    )
    memory_mb: int = Field(256, ge=1, description="buffer of cells while the store is written")
