"""Faults on demand: what can be told to go wrong, and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count
from typing import Any, Final, Literal, cast, get_args

from airflow_provider_diffio.sandbox.state import Plan

RequestFault = Literal["status", "body", "truncate", "delay", "reset-before", "reset-after"]
GenerationFault = Literal[
    "fail-generation",
    "processing-seconds",
    "transcript-pending",
    "transcript-unavailable",
    "artifact-not-ready",
]

REQUEST_FAULTS: Final[tuple[str, ...]] = get_args(RequestFault)
GENERATION_FAULTS: Final[tuple[str, ...]] = get_args(GenerationFault)
KINDS: Final = (*REQUEST_FAULTS, *GENERATION_FAULTS)

_ids = count(1)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    ``nth`` and ``times`` count matching requests, or generations made, from the moment the fault was
    added: it strikes at the nth and at the following ones until it has struck ``times`` times.
    ``nth="every"`` starts at once and has no end unless ``times`` says so.

    ======================  ====================================================================
    status                  respond with ``status``, ``body``, ``headers``; nothing is done
    body                    do the work, then respond with ``body`` and ``content_type`` instead
    truncate                do the work, announce the response's length, send ``bytes``, hang up
    delay                   wait ``seconds`` first; goes together with any other
    reset-before            read ``bytes`` of the request and reset; nothing is done
    reset-after             do the work, then reset the connection
    fail-generation         the generation fails with ``error`` and ``error_details``
    processing-seconds      the generation takes ``seconds``
    transcript-pending      the transcript comes ``seconds`` after completion
    transcript-unavailable  there will be no transcript
    artifact-not-ready      ``seconds`` long after completion downloads get ``status``
    ======================  ====================================================================
    """

    kind: str
    path: str = "*"
    origin: str | None = None
    method: str | None = None
    nth: int | Literal["every"] = 1
    times: int | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"
    bytes: int = 0
    seconds: float = 0.0
    error: str = "Restoration failed."
    error_details: str | None = None
    fault_id: int = field(default_factory=lambda: next(_ids))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.nth != "every" and (not isinstance(self.nth, int) or self.nth < 1):
            raise ValueError(f'nth must be a number from 1 or "every", not {self.nth!r}')
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1")
        if self.origin not in {None, "api", "media"}:
            raise ValueError("origin must be api or media")
        if self.kind == "status" and not 400 <= (self.status or 0) <= 599:
            raise ValueError("kind status needs a status from 400 to 599")
        if self.kind == "artifact-not-ready" and self.status not in {None, 404, 409}:
            raise ValueError("kind artifact-not-ready takes status 404 or 409")
        if not isinstance(self.headers, Mapping) or not isinstance(self.path, str):
            raise TypeError("headers must be an object and path a string")
        if self.seconds < 0 or self.bytes < 0:
            raise ValueError("seconds and bytes cannot be negative")

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> Fault:
        """A fault as the control route takes it, in the API's camelCase."""
        names = {
            "kind": "kind",
            "path": "path",
            "origin": "origin",
            "method": "method",
            "nth": "nth",
            "times": "times",
            "status": "status",
            "headers": "headers",
            "body": "body",
            "contentType": "content_type",
            "bytes": "bytes",
            "seconds": "seconds",
            "error": "error",
            "errorDetails": "error_details",
        }
        if not isinstance(spec, Mapping):
            raise TypeError("a fault is a JSON object")
        unknown = spec.keys() - names.keys()
        if unknown:
            raise ValueError(f"a fault has no {', '.join(sorted(unknown))}; it takes {', '.join(names)}")
        if "kind" not in spec:
            raise ValueError(f"a fault needs a kind: {', '.join(KINDS)}")
        return cls(**{names[name]: value for name, value in spec.items()})

    def matches_request(self, origin: str, method: str, path: str) -> bool:
        """Whether a request is one this fault counts."""
        return (
            self.kind in REQUEST_FAULTS
            and self.origin in {None, origin}
            and self.method in {None, method}
            and fnmatchcase(path, self.path)
        )


class FaultBook:
    """The faults in force and how often each was passed and struck."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._seen: dict[int, int] = {}
        self._struck: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, faults: Iterable[Fault]) -> None:
        """Put faults in force."""
        self._faults.extend(faults)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()
        self._seen.clear()
        self._struck.clear()

    def for_request(self, origin: str, method: str, path: str) -> list[Fault]:
        """The faults that strike this request: every delay, and the first of the others."""
        striking = [
            fault
            for fault in self._faults
            if fault.matches_request(origin, method, path) and self._strikes(fault)
        ]
        delays = [fault for fault in striking if fault.kind == "delay"]
        others = [fault for fault in striking if fault.kind != "delay"]
        return delays + others[:1]

    def plan(self, processing_seconds: float) -> Plan:
        """What a new generation has before it."""
        fields: dict[str, Any] = {"processing_seconds": processing_seconds}
        for fault in self._faults:
            if fault.kind not in GENERATION_FAULTS or not self._strikes(fault):
                continue
            match cast("GenerationFault", fault.kind):
                case "fail-generation":
                    fields |= {"error": fault.error, "error_details": fault.error_details}
                case "processing-seconds":
                    fields["processing_seconds"] = fault.seconds
                case "transcript-pending":
                    fields["transcript_delay"] = fault.seconds
                case "transcript-unavailable":
                    fields["transcript_unavailable"] = True
                case "artifact-not-ready":
                    fields |= {"artifact_delay": fault.seconds, "artifact_status": fault.status or 409}
        return Plan(**fields)

    def describe(self) -> list[dict[str, Any]]:
        """The faults in force, for the control route."""
        return [
            {
                "id": fault.fault_id,
                "kind": fault.kind,
                "path": fault.path,
                "nth": fault.nth,
                "times": fault.times,
                "seen": self._seen.get(fault.fault_id, 0),
                "struck": self._struck.get(fault.fault_id, 0),
            }
            for fault in self._faults
        ]

    def _strikes(self, fault: Fault) -> bool:
        seen = self._seen[fault.fault_id] = self._seen.get(fault.fault_id, 0) + 1
        struck = self._struck.get(fault.fault_id, 0)
        first, limit = (1, fault.times) if fault.nth == "every" else (fault.nth, fault.times or 1)
        if seen < first or (limit is not None and struck >= limit):
            return False
        self._struck[fault.fault_id] = struck + 1
        return True
