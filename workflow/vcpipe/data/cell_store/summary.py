"""What is in a store, in lines for a terminal."""

from collections import Counter
from pathlib import Path

import pyarrow.compute as pc

from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.cell_store.verification import stored_files
from vcpipe.data.vocabulary_files import read_vocabularies
from vcpipe.errors import InputError, listed


def summary(store: CellStore) -> str:
    about = store.manifest
    size = sum(its["bytes"] for its in stored_files(about).values())
    cells = max(len(store), 1)
    lines = [
        f"{store.path}: {len(store):,} cells, {size:,} bytes ({size / cells:,.0f} per cell), "
        f"{store.num_blocks:,} blocks of {store.block_size}, {about['compression']}",
        f"data_digest: {about['data_digest']}",
    ]
    lines += [f"{name}: {len(its):,} cells" for name, its in store.sets.items()]
    if len(store.grouped):
        by = ", ".join(["dataset", *about["settings"]["group_by"]])
        lines.append(f"grouped: {len(store.grouped):,} cells, {about['num_groups']:,} by {by}")
    for name, number in sorted(_cells_of_datasets(store).items()):
        its = about["datasets"][name]
        measured = ", ".join(
            f"{len(store.measured[modality][name]):,} features of {modality}"
            for modality in store.modalities
        )
        digests = listed(its["data_digests"], 3)
        lines.append(f"dataset {name} ({its['species']}): {number:,} cells, {measured}; {digests}")
    for modality, its in about["modalities"].items():
        found = about["statistics"]["modalities"][modality]
        lengths = found["lengths"]
        lines.append(
            f"{modality}: {its['num_entries']:,} counts above zero, largest "
            f"{found['largest_count']}; {lengths['0']} to {lengths['1']} features per cell, half "
            f"below {lengths['0.5']}; {len(its['shards'])} shards"
        )
        for species, number in its["num_features"].items():
            lines.append(
                f"{modality} vocabulary of {species}: {number:,} features, digest "
                f"{its['vocabulary_digests'][species]}"
            )
    lines.append(f"labels: {', '.join(about['labels']) or 'none'}")
    for its in about["statistics"]["sources"]:
        reasons = ", ".join(f"{number:,} {why}" for why, number in its["left_out"].items())
        lines.append(
            f"source {its['file']}: {its['kept']:,} of {its['num_cells']:,} cells; left out: "
            f"{reasons}"
        )
    lines += [f"settings.{key}: {value}" for key, value in about["settings"].items()]
    lines += [f"about.{key}: {value}" for key, value in about["about"].items()]
    return "\n".join(lines)


def _cells_of_datasets(store: CellStore) -> Counter[str]:
    """Counted batch by batch; the grouped copy lies behind and is not counted."""
    found: Counter[str] = Counter()
    left = len(store)
    for batch in store.label_file.batches():
        for each in pc.value_counts(batch.column("dataset")[:left]).to_pylist():
            found[each["values"]] += each["counts"]
        left -= min(left, len(batch))
    return found


def check_names(store: CellStore, folder: Path) -> list[str]:
    """Compare the names in the store with a folder of build_vocabulary; what was compared."""
    vocabularies, compared = read_vocabularies(folder), []
    for modality in store.modalities:
        for species in store.manifest["modalities"][modality]["num_features"]:
            ids = vocabularies.of(modality, species).ids
            names = store.feature_names(modality, species)
            differ = [name for number, name in enumerate(names) if ids.get(name) != number]
            if differ or len(ids) != len(names):
                raise InputError(
                    f"{store.path} was made with another {modality} vocabulary of {species} than "
                    f"that in {folder}: {len(names)} and {len(ids)} names, other ids for "
                    f"{listed(differ, 3) or 'none'}. Rerun prepare_cells."
                )
            compared.append(f"{modality} of {species}")
    return compared
