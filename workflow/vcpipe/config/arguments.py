"""What the scripts' command lines share: settings files, overrides, errors without traceback."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from vcpipe.config.atlases import Atlas
from vcpipe.config.documentation import table_of
from vcpipe.config.reading import read_section, read_sections
from vcpipe.config.section import Section
from vcpipe.errors import INTERRUPTED, InputError, Interrupted


def parser(manual: str, section: type[Section] | None = None) -> argparse.ArgumentParser:
    """A parser whose --help is the script's docstring and the table of its settings."""
    parts = [manual.strip()]
    if section is not None:
        parts.append("settings (dotted.name=value, after the options):\n" + table_of(section))
    made = argparse.ArgumentParser(
        description="\n\n".join(parts), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if section is not None:
        made.add_argument(
            "--config", metavar="FILE", help="YAML file with settings, or YAML itself"
        )
        made.add_argument(
            "overrides",
            nargs="*",
            metavar="dotted.name=value",
            help="settings that replace the file's",
        )
        made.set_defaults(section=section)
    return made


def parse(made: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse, and put the checked settings at args.config."""
    args = made.parse_intermixed_args(argv)
    if hasattr(args, "section"):
        args.config = read_section(args.section, args.config, args.overrides)
    if hasattr(args, "atlases"):
        args.atlases = read_sections(Atlas, args.atlases)
    return args


def add_source_arguments(made: argparse.ArgumentParser) -> None:
    """The cells of a corpus: screens and atlases."""
    made.add_argument("--screens", type=Path, nargs="*", default=[], help="converted screens")
    made.add_argument("--atlases", default="{}", help="YAML, or a file: {name: settings}")


def add_corpus_arguments(made: argparse.ArgumentParser) -> None:
    """The same with what is held out of the screens."""
    add_source_arguments(made)
    made.add_argument("--split", type=Path, nargs="*", default=[], help="one per screen, or none")
    made.add_argument(
        "--controls", type=Path, nargs="*", default=[], help="one per screen, or none"
    )


def add_training_arguments(made: argparse.ArgumentParser) -> None:
    """The options of every program that trains."""
    made.add_argument("--out", type=Path, required=True, help="folder to write: the model")
    made.add_argument("--metrics", type=Path, required=True, help="CSV to write: losses and rates")
    made.add_argument("--state", type=Path, required=True, help="folder to resume from")
    made.add_argument(
        "--threads",
        type=int,
        default=1,
        help="that read cells and make batches, of all processes of a node (default: 1)",
    )
    made.add_argument(
        "--devices", type=int, default=0, help="GPUs on this node, 0 for the CPU (default: 0)"
    )


def run(main: Callable[[list[str] | None], None]) -> None:
    """Run a script; wrong input ends it with one message and status 2, a signal with status 75."""
    # As an exception, SIGTERM lets half-written files be removed; training handles it by itself.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        main(None)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # `| head` has read enough; the interpreter's own flush at exit must not fail again.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    except Interrupted as reason:
        print(f"{reason}; start it again to go on", file=sys.stderr)
        sys.exit(INTERRUPTED)
