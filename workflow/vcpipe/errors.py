"""What ends a program in an orderly way: wrong input, or a signal."""

INTERRUPTED = 75  # exit status after a signal: EX_TEMPFAIL, start it again


class InputError(ValueError):
    """Something a person gave is wrong: what it is, what was expected, what to do."""


class Interrupted(Exception):
    """A signal asked the program to stop; its state is saved."""


def listed(names, limit: int = 8) -> str:
    """Join names for a message, cut after a few: listed("abcd", 2) gives "a, b, ... (4 in all)"."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, ... ({len(names)} in all)"
