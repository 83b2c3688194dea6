"""What the scripts' command lines share: settings from a file, overrides, errors without traceback."""

import argparse
import sys
from collections.abc import Callable

from vcpipe.config.documentation import table_of
from vcpipe.config.reading import read_section
from vcpipe.config.section import Section
from vcpipe.errors import InputError


def parser(manual: str, section: type[Section] | None = None) -> argparse.ArgumentParser:
    """A parser whose --help is the script's docstring and the table of its settings."""
    parts = [manual.strip()]
    if section is not None:
        parts.append("settings (dotted.name=value, after the options):\n" + table_of(section))
    made = argparse.ArgumentParser(
        description="\n\n".join(parts), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if section is not None:
        made.add_argument("--config", metavar="FILE", help="YAML file with settings, or YAML itself")
        made.add_argument(
            "overrides", nargs="*", metavar="dotted.name=value", help="settings that replace the file's"
        )
        made.set_defaults(section=section)
    return made


def parse(made: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse, and put the checked settings at args.config."""
    args = made.parse_intermixed_args(argv)
    if hasattr(args, "section"):
        args.config = read_section(args.section, args.config, args.overrides)
    return args


def run(main: Callable[[list[str] | None], None]) -> None:
    """Run a script; wrong input ends it with one message and exit status 2."""
    try:
        main(None)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
