"""Which files of a directory are recordings to restore, and where their restored files go: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from string import Formatter
from typing import Any, NamedTuple

from airflow_provider_diffio.api.endpoints import check_download_type
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.storage.file_names import check_component

#: The ending of a restored file, by its type.
ENDINGS: Mapping[str, str] = {"audio": "mp3", "video": "mp4", "transcript": "json"}
ORDERS = ("name", "oldest")
#: What a name may hold in braces.
_FIELDS = ("name", "stem", "ext")


class Patterns:
    """
    Shell patterns, in any case, that a path below a directory is compared with.

    A pattern with a ``/`` is compared with the whole path, any other with the name of the file. ``**/``
    stands for any number of directories. Hidden files, and those in hidden directories, are found only by a
    pattern that names them.

    :param patterns: such as ``*.wav`` or ``2024/*.mp3``.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        texts = [each.casefold().removeprefix("./") for each in patterns]
        below = [each for each in texts if "/" in each]
        below += [each.removeprefix("**/") for each in below if each.startswith("**/")]
        self._of_path = _any_of(below)
        self._of_name = _any_of([each for each in texts if "/" not in each])
        self._hidden = any(part.startswith(".") for each in texts for part in each.split("/"))

    def match(self, relative: str) -> bool:
        """Tell whether one of them fits a path."""
        folded = relative.casefold()
        if not self._hidden and any(part.startswith(".") for part in folded.split("/")):
            return False
        name = folded.rpartition("/")[2]
        return bool(self._of_name and self._of_name(name)) or bool(self._of_path and self._of_path(folded))


def read_patterns(value: Any, name: str) -> tuple[str, ...]:
    """
    Return one or several patterns.

    :param value: a text, or a list of texts.
    :param name: the argument's name, for messages.
    :raises DiffioInputError: when it is something else.
    """
    from airflow_provider_diffio.api.arguments import read_texts

    patterns = (value,) if isinstance(value, str) else tuple(read_texts(value, name))
    for pattern in patterns:
        if pattern.strip() in ("", "None"):
            raise DiffioInputError(f"{name} holds {pattern!r}, which fits no file.")
    return patterns


class Naming(NamedTuple):
    """
    How the restored files of a recording are called.

    :ivar template: such as ``{name}.{ext}``.
    :ivar download_types: of ``audio``, ``video``, ``transcript``.
    """

    template: str
    download_types: tuple[str, ...]

    @classmethod
    def read(cls, template: str, download_types: Iterable[str]) -> Naming:
        """
        Check both.

        :raises DiffioInputError: when they cannot work.
        """
        types = []
        for given in download_types:
            check_download_type(given)
            types.append("audio" if given == "mp3" else given)
        if not types or len(set(types)) < len(types):
            raise DiffioInputError(
                f"download_types must name each type once, and at least one; it is {list(types)!r}."
            )
        fields = _fields_of(template)
        if unknown := sorted(fields - set(_FIELDS)):
            raise DiffioInputError(
                f"name is {template!r}, and {{{unknown[0]}}} stands for nothing.",
                advice="It may hold {name} (interview.wav), {stem} (interview) and {ext} (mp3, mp4, json).",
            )
        if not fields & {"name", "stem"}:
            raise DiffioInputError(
                f"name is {template!r}, which is the same for each recording.",
                advice="Put {name} or {stem} into it.",
            )
        if len(types) > 1 and "ext" not in fields:
            raise DiffioInputError(
                f"name is {template!r}, which is the same for {' and '.join(types)}.",
                advice="Put {ext} into it.",
            )
        return cls(template, tuple(types))

    def paths(self, relative: str) -> tuple[str, ...]:
        """
        Return the path of each type's file below the output directory, in the order of the types.

        :param relative: the recording's path below its own directory.
        :raises DiffioInputError: when it would be no plain file name.
        """
        directory, _, name = relative.rpartition("/")
        for part in directory.split("/") if directory else ():
            check_component(part)
        stem = name.rpartition(".")[0] or name
        paths = []
        for each in self.download_types:
            file = self.template.format(name=name, stem=stem, ext=ENDINGS[each])
            check_component(file)
            paths.append(f"{directory}/{file}" if directory else file)
        return tuple(paths)

    def siblings(self, uri: str) -> tuple[str, ...] | None:
        """
        Return the files that a file would belong to if it were a restored one; None when it is none.

        :param uri: the file.
        """
        for each in self.download_types:
            ending = f".{ENDINGS[each]}"
            if uri.casefold().endswith(ending):
                base = uri[: -len(ending)]
                return tuple(f"{base}.{ENDINGS[other]}" for other in self.download_types)
        return None


def without_outputs(files: Iterable[tuple[str, tuple[str, ...]]]) -> set[str]:
    """
    Return which recordings of a directory are restored files of others in it.

    :param files: each recording's URI with those of its restored files.
    """
    outputs: set[str] = set()
    found: set[str] = set()
    # The name of a restored file is longer than the recording's, as a rule; so recordings come first.
    for uri, targets in sorted(files, key=lambda file: (len(file[0]), file[0])):
        if uri in outputs:
            found.add(uri)
        else:
            outputs.update(target for target in targets if target != uri)
    return found


def is_below(uri: str, directory: str) -> bool:
    """
    Tell whether a file is in a directory or below it.

    :param uri: the file.
    :param directory: the directory, with or without its final ``/``.
    """
    return uri.startswith(directory.rstrip("/") + "/")


def _any_of(patterns: list[str]) -> Any:
    if not patterns:
        return None
    return re.compile("|".join(translate(each) for each in patterns)).match


def _fields_of(template: str) -> set[str]:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise DiffioInputError(f"name is {template!r}, which is no pattern: {error}.") from None
    fields = set()
    for _, field, form, conversion in parts:
        if field is None:
            continue
        if form or conversion:
            raise DiffioInputError(f"name is {template!r}; a field in it takes no format.")
        fields.add(field)
    return fields
