"""What a corpus has of each screen: noted in the store, handed on to every model that read it."""

import numpy as np

from vcpipe.data.screen import CONTROL, Screen

LABELS = ("condition", "cell_type", "batch")  # what a split may hold out by


def seen_of(screen: Screen, rows: np.ndarray) -> dict:
    """Labels of the cells that are used, and which of the control cells these are."""
    labels = {label: sorted(set(getattr(screen, label)[rows])) for label in LABELS}
    is_seen = np.isin(np.flatnonzero(screen.condition == CONTROL), rows)
    # A bit each, in the order of rows, which data_digest holds fast.
    return {**labels, "controls": np.packbits(is_seen).tobytes().hex()}


def seen_controls(seen: dict, screen: Screen) -> np.ndarray:
    """Rows of the control cells of a screen that a corpus has."""
    rows = np.flatnonzero(screen.condition == CONTROL)
    bits = np.frombuffer(bytes.fromhex(seen["controls"]), dtype=np.uint8)
    return rows[np.unpackbits(bits, count=len(rows)).astype(bool)]


def together(one: dict[str, dict], other: dict[str, dict]) -> dict[str, dict]:
    """What a model has seen that was trained on one corpus after another, by data digest."""
    made = {**one, **other}
    for digest in one.keys() & other.keys():
        first, second = one[digest], other[digest]
        made[digest] = {label: sorted({*first[label], *second[label]}) for label in LABELS}
        # Where an earlier version did not note controls, none are: finetuning refuses such a model.
        if "controls" in first and "controls" in second:
            bits = [bytes.fromhex(its["controls"]) for its in (first, second)]
            controls = np.bitwise_or(*(np.frombuffer(its, dtype=np.uint8) for its in bits))
            made[digest]["controls"] = controls.tobytes().hex()
    return made
