"""Take a rule out of the library: a small edit of one function's source, made while a block runs.

An edit whose text is not there exactly once is an error: the code has changed, and the mutant must follow.
"""

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `old` by `new` in a function, `module:function` or `module:Class.method`.

    Both are as in its source without the indentation of the `def`.
    """

    where: str
    old: str
    new: str


@contextmanager
def mutated(edits: Sequence[Edit]) -> Iterator[None]:
    """Run a block with edited functions."""
    with ExitStack() as stack:
        by_function: dict[str, list[Edit]] = {}
        for edit in edits:
            by_function.setdefault(edit.where, []).append(edit)
        for where, some in by_function.items():
            _apply(stack, where, some)
        yield


def _apply(stack: ExitStack, where: str, edits: Sequence[Edit]) -> None:
    module_name, _, path = where.partition(":")
    module = importlib.import_module(module_name)
    owner_name, _, name = path.rpartition(".")
    owner: Any = getattr(module, owner_name) if owner_name else module
    original = inspect.getattr_static(owner, name)
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    for edit in edits:
        count = source.count(edit.old)
        if count != 1:
            raise AssertionError(f"{where} has {edit.old!r} {count} times: the mutant must follow the code")
        source = source.replace(edit.old, edit.new)
    found: dict[str, Any] = {}
    exec(compile(source, f"<mutant of {where}>", "exec"), vars(module), found)
    if owner_name:
        stack.enter_context(mock.patch.object(owner, name, found[name]))
        return
    for other in [module for key, module in sorted(sys.modules.items()) if key.startswith("casimg.")]:
        for attribute, value in list(vars(other).items()):
            if value is original:
                stack.enter_context(mock.patch.object(other, attribute, found[name]))
