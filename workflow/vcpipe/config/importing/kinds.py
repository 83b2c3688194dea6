"""The systems whose configurations can be read, and their tables for people."""

from vcpipe.config.importing.epifoundation import EPIFOUNDATION
from vcpipe.config.importing.keys import Kind
from vcpipe.config.importing.scconcept import SCCONCEPT
from vcpipe.config.importing.scmodelforge import SCMODELFORGE

KINDS = {
    "epifoundation": EPIFOUNDATION,
    "scmodelforge": SCMODELFORGE,
    "scconcept": SCCONCEPT,
}


def import_tables() -> str:
    """Every key of the other systems and what it becomes, for config/README.md."""
    return "\n\n".join(_table(name, kind) for name, kind in KINDS.items())


def _table(name: str, kind: Kind) -> str:
    lines = [
        f"**{kind.title}** (`--kind {name}`)",
        "",
        "| key | here | |",
        "| --- | --- | --- |",
    ]
    for theirs, key in kind.keys.items():
        here = f"`{key.ours}`" if key.ours else "dropped"
        note = key.why
        if key.only:
            note = f"{' or '.join(str(value) for value in key.only)} only: {note}"
        if key.read_if:
            other, values = key.read_if
            read = " or ".join(str(value) for value in values)
            note = "; ".join(part for part in (f"where `{other}` is {read}", note) if part)
        lines.append(f"| `{theirs}` | {here} | {note} |")
    return "\n".join(lines)
