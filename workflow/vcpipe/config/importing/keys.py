"""What a key of another system becomes here, and how a whole file of such keys is converted."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vcpipe.errors import InputError, listed

UNSET = object()
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
RUN, CORPUS, ATLAS = "pretrain.<run>.", "preprocess.<corpus>.", "atlases.<atlas>."


@dataclass(frozen=True)
class Key:
    """One key of another system."""

    ours: str | None  # the key that takes its value; None: it is dropped
    why: str = ""  # it is dropped, or reads differently here
    default: object = UNSET  # theirs, where it must be written out because ours is another
    values: Mapping | Callable | None = None  # their values -> ours
    skip: tuple = ()  # values that are dropped, with `why`
    only: tuple = ()  # the values that can be taken; others are refused, with `why`
    read_if: tuple[str, tuple] | None = None  # another key and its values; otherwise it is dropped
    in_finish: bool = False  # with other keys: Kind.finish puts it


@dataclass(frozen=True)
class Kind:
    """Another system's configuration."""

    title: str
    keys: dict[str, Key]
    fixed: dict[str, object]  # ours: what its code does, without a key for it
    # Keys whose parts are names and values of the user's own.
    free: tuple[str, ...]
    # What no single key decides, from the values by their keys.
    finish: Callable[["Imported", dict], None]
    name_keys: tuple[str, ...]  # what may name the run


@dataclass
class Imported:
    """Our settings by dotted key, and what was said on the way."""

    run: str
    ours: dict[str, object] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def put(self, key: str, value, source: str) -> None:
        """Two keys of theirs may say one thing, but not two."""
        if key in self.ours and self.ours[key] != value:
            raise InputError(
                f"{self.origin[key]} gives {self.ours[key]!r} and {source} gives {value!r}, and "
                f"both are {key} here; expected one value. Correct one of them."
            )
        self.ours[key], self.origin[key] = value, source

    def nested(self) -> dict:
        """As YAML has it; <run>, <corpus> and <atlas> become the run's name."""
        made: dict = {"atlases": {}, "preprocess": {}, "pretrain": {}}
        for key, value in self.ours.items():
            value = [self.run] if value == ["<run>"] else self.run if value == "<run>" else value
            parts = [self.run if part.startswith("<") else part for part in key.split(".")]
            place = made
            for part in parts[:-1]:
                place = place.setdefault(part, {})
            place[parts[-1]] = value
        return made


def flattened(values: Mapping, free: tuple[str, ...], prefix: str = "") -> dict[str, object]:
    """{"train": {"lr": "1e-4"}} -> {"train.lr": 0.0001}; numbers as text become numbers."""
    found = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, dict) and value and dotted not in free:
            found |= flattened(value, free, f"{dotted}.")
        else:
            found[dotted] = _number(value)
    return found


def _number(value):
    """YAML 1.1 reads 1e-4 as text."""
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        return value
    return int(value) if value.lstrip("+-").isdigit() else float(value)


def convert(kind: Kind, values: Mapping, run: str | None = None) -> Imported:
    """All keys of a file in our words; a key that its system does not know is refused."""
    given = flattened(values, kind.free)
    _refuse_unknown(kind, given)
    # A section that is null has no defaults.
    absent = tuple(f"{name}." for name, value in given.items() if value is None)
    whole = {
        name: key.default
        for name, key in kind.keys.items()
        if key.default is not UNSET and not name.startswith(absent)
    } | given
    named = next((str(whole[name]) for name in kind.name_keys if whole.get(name)), "imported")
    made = Imported(run or re.sub(r"[^A-Za-z0-9._-]+", "_", named).lstrip("._-") or "imported")
    for name, value in whole.items():
        _convert_key(kind, name, value, whole, name in given, made)
    for key, value in kind.fixed.items():
        made.ours.setdefault(key, value)
    kind.finish(made, whole)
    return made


def _convert_key(
    kind: Kind, name: str, value, whole: Mapping, is_given: bool, made: Imported
) -> None:
    key = kind.keys.get(name)
    if key is None or key.in_finish:  # None: an empty section
        return
    shown = f"{name}: {value!r}"
    if key.read_if and not _is_read(kind, key.read_if, whole):
        if is_given:
            other, read = key.read_if
            made.dropped.append(f"{shown}: it is read where {other} is {_either(read)}")
        return
    if key.only and value not in key.only:
        raise InputError(f"{shown} cannot be taken over: {key.why}. Expected {_either(key.only)}.")
    if value in key.skip or key.ours is None:
        if is_given:
            made.dropped.append(f"{shown}: {key.why}")
        return
    made.put(key.ours, _in_our_words(name, key, value), name)
    if is_given and key.why:
        made.changed.append(f"{shown} -> {key.ours}: {made.ours[key.ours]!r} ({key.why})")


def _in_our_words(name: str, key: Key, value):
    if key.values is None:
        return value
    if callable(key.values):
        return key.values(value)
    if isinstance(value, list | dict) or value not in key.values:
        near = difflib.get_close_matches(str(value), [str(each) for each in key.values], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{name} is {value!r}; expected {_either(key.values)}.{hint}")
    return key.values[value]


def _is_read(kind: Kind, read_if: tuple[str, tuple], whole: Mapping) -> bool:
    other, read = read_if
    return whole.get(other) in read


def _either(values) -> str:
    return " or ".join(repr(value) for value in values)


def _refuse_unknown(kind: Kind, given: Mapping) -> None:
    problems = []
    for name, value in given.items():
        is_section = any(key.startswith(f"{name}.") for key in kind.keys)
        if name in kind.keys or (is_section and (value is None or value == {})):
            continue
        near = difflib.get_close_matches(name, kind.keys, n=1, cutoff=0.6)
        last = [key for key in kind.keys if key.split(".")[-1] == name.split(".")[-1]]
        found = near or last[:1]
        hint = f"did you mean {found[0]!r}?" if found else f"it knows {listed(kind.keys, 12)}."
        problems.append(f"{name} is no key of {kind.title}; {hint}")
    if problems:
        raise InputError("\n  ".join([f"{len(problems)} unknown keys:", *problems]))
