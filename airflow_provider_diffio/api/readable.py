"""Sizes and times as a person reads them, for logs and messages."""

from __future__ import annotations

_UNITS = ("kB", "MB", "GB", "TB")


def readable_size(size_bytes: int) -> str:
    """
    Return a size in decimal units: ``412 bytes``, ``4.2 MB``, ``120 MB``.

    :param size_bytes: number of bytes.
    """
    if size_bytes < 1000:
        return f"{size_bytes} byte{'s' * (size_bytes != 1)}"
    size = float(size_bytes)
    for unit in _UNITS:
        size /= 1000
        # What would round to four digits belongs to the next unit.
        if size < 999.5 or unit == _UNITS[-1]:
            break
    return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"


def readable_seconds(seconds: float) -> str:
    """
    Return a length of time: ``0.4 s``, ``100 s``, ``2 min 5 s``, ``6 h``, ``2 d 3 h``.

    :param seconds: how long; what is below zero counts as none.
    """
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}".removesuffix(".0") + " s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(at for at, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)
