"""Docstrings of this package are plain text with a few roles; the site wants Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import griffe

#: ``:class:`~package.Name```: the module of what is meant, if any, and its name.
_ROLE = re.compile(r":(?P<role>class|func|meth|mod|data):`(?P<short>~?)(?P<target>[\w.]+)`")
_RULER = re.compile(r" *=+ +=+")
_PARAMETER = re.compile(r"^\s*:param (\w+):", re.MULTILINE)


class PlainText(griffe.Extension):
    """Turns roles into cross-references, and shows parameters that a base class takes."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite everything, once all of the package is known."""
        _visit(pkg, dict(_classes(pkg)))


def _classes(obj: griffe.Object) -> Iterator[tuple[str, str]]:
    """Where each class is defined, by its name alone, as docstrings call it."""
    for member in obj.members.values():
        if not member.is_alias:
            if member.is_class:
                yield member.name, member.path
            yield from _classes(member)


def _visit(obj: griffe.Object, classes: Mapping[str, str]) -> None:
    if isinstance(obj, griffe.Class):
        _add_documented_parameters(obj)
    if obj.docstring:
        obj.docstring.value = _rewritten(obj.docstring.value, obj, classes)
    for member in obj.members.values():
        if not member.is_alias:
            _visit(member, classes)


def _add_documented_parameters(cls: griffe.Class) -> None:
    """Show ``diffio_conn_id`` where it is used; ``**kwargs`` takes it to the base class."""
    init = cls.members.get("__init__")
    if not isinstance(init, griffe.Function) or not cls.docstring:
        return
    own = list(init.parameters)
    for name in _PARAMETER.findall(cls.docstring.value):
        if name in init.parameters:
            continue
        inherited = next(
            (base["__init__"].parameters[name] for base in cls.mro() if _takes(base, name)),
            None,
        )
        if inherited is not None:
            rest = [
                parameter
                for parameter in own
                if parameter.kind is griffe.ParameterKind.var_keyword
            ]
            own = [parameter for parameter in own if parameter not in rest] + [
                inherited,
                *rest,
            ]
    init.parameters = griffe.Parameters(*own)


def _takes(cls: griffe.Class, name: str) -> bool:
    init = cls.members.get("__init__")
    return isinstance(init, griffe.Function) and name in init.parameters


def _rewritten(text: str, obj: griffe.Object, classes: Mapping[str, str]) -> str:
    """Return a docstring in Markdown."""

    def reference(match: re.Match[str]) -> str:
        target = match["target"]
        shown = f"`{target.rpartition('.')[2] if match['short'] else target}`"
        if match["role"] in ("mod", "data"):
            return shown  # these have no heading of their own
        head, dot, rest = target.partition(".")
        if head != obj.package.name:
            target = f"{classes.get(head) or obj.resolve(head)}{dot}{rest}"
        return f"[{shown}][{target}]"

    return _ROLE.sub(reference, "\n".join(_with_tables(text.splitlines()))).replace(
        "``", "`"
    )


def _with_tables(lines: list[str]) -> Iterator[str]:
    """Give the lines; tables of two columns become Markdown's, which want a header."""
    rulers = [number for number, line in enumerate(lines) if _RULER.fullmatch(line)]
    if not rulers:
        yield from lines
        return
    second = lines[rulers[0]].rindex(" =") + 1
    for number, line in enumerate(lines):
        if number == rulers[0]:
            if len(rulers) == 2:
                yield "| | |\n|---|---|"
        elif number in rulers:
            yield "" if number == rulers[-1] else "|---|---|"
        elif rulers[0] < number < rulers[-1]:
            yield f"| {line[:second].strip()} | {line[second:].strip()} |"
        else:
            yield line
