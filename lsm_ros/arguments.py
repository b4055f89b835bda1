"""Command line flags from the option dataclasses of config.py, so that no default and no text is written twice; and how
programs that are started as modules tell what is wrong."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import Field, fields
from typing import TypeVar

from lsm_ros.config import Options
from lsm_ros.errors import LsmError

T = TypeVar("T", bound=Options)


def add_options(parser: argparse.ArgumentParser, options: type[Options], title: str,
                aliases: dict[str, str] | None = None) -> None:
    """A flag for every field of `options`, in a group of its own; `aliases` gives fields a second, shorter flag."""
    group = parser.add_argument_group(title, options.__doc__)
    for item in fields(options):
        flags = [f"--{item.name.replace('_', '-')}", *([aliases[item.name]] if item.name in (aliases or {}) else [])]
        kind = {"action": argparse.BooleanOptionalAction} if isinstance(item.default, bool) else \
            {"type": type(item.default), "metavar": {int: "N", float: "X"}.get(type(item.default), "TEXT")}
        group.add_argument(*flags, dest=item.name, default=item.default, help=_help(item), **kind)


def read_options(arguments: argparse.Namespace, options: type[T]) -> T:
    """The dataclass of the flags that add_options made. Raises ConfigError for a value outside its range."""
    return options(**{item.name: getattr(arguments, item.name) for item in fields(options)})


def exit_code(main: Callable[[], object]) -> int:
    """Runs the `main` of a module; 2 where it ends in an error, which is told in one line, as by `lsm`."""
    try:
        main()
    except (LsmError, OSError) as error:
        print(f"lsm: {error}", file=sys.stderr)
        return 2
    return 0


def _help(item: Field) -> str:
    meta, notes = item.metadata, []
    if meta["minimum"] is not None and meta["maximum"] is not None:
        notes.append(f"{meta['minimum']:g} to {meta['maximum']:g}")
    elif meta["minimum"] is not None:
        notes.append(f"at least {meta['minimum']:g}")
    elif meta["maximum"] is not None:
        notes.append(f"at most {meta['maximum']:g}")
    if meta["choices"]:
        notes.append(" or ".join(map(str, meta["choices"])))
    if item.default != "":
        notes.append(f"default {item.default}")
    text = f"{meta['text']} [{'; '.join(notes)}]" if notes else meta["text"]
    return text.replace("%", "%%")
