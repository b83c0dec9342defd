"""What a store's exception means to the user: what may work later, what will not, and what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_diffio.api.errors import (
    DiffioError,
    DiffioInputError,
    DiffioSourceChangedError,
    DiffioTransferError,
)

#: 4xx statuses that a later attempt may not meet again.
_PASSING_STATUSES = frozenset({408, 409, 425, 429})
_PASSING_CODES = frozenset(
    {
        "BadDigest",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "IncompleteBody",
        "InvalidPart",
        "NoSuchUpload",
        "RequestTimeout",
    }
)
_LASTING_ERRNOS = frozenset(
    {
        errno.EACCES,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSYS,
        errno.ENOTDIR,
        errno.ENOTSUP,
        errno.EPERM,
        errno.EROFS,
        errno.EXDEV,
    }
)
#: OSErrors that some libraries raise without an error number.
_LASTING_CLASSES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
#: Faults of the caller, the settings or a library: a second try ends the same way.
_FAULTS = (AttributeError, ImportError, LookupError, NotImplementedError, TypeError, ValueError)
#: Errors of botocore, google-auth and azure-identity, by name: the library may not be installed.
_MISSING_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "DefaultCredentialsError",
        "CredentialUnavailableError",
    }
)
#: asyncssh's errors, by name, that a second try meets again.
_LASTING_SSH = frozenset(
    {
        "HostKeyNotVerifiable",
        "IllegalUserName",
        "KeyEncryptionError",
        "KeyExchangeFailed",
        "KeyImportError",
        "PermissionDenied",
        "ProtocolNotSupported",
    }
)

_SECRETS = (
    (re.compile(r"(?<=\w)\?[^\s'\")>]+"), "?..."),
    (re.compile(r"(?<=://)[^/\s@]+@"), "...@"),
    (
        re.compile(
            r"(?i)\b([\w-]*(?:signature|secret|token|password|credential|access_?key)[\w-]*)(\s*[=:]\s*)\S+"
        ),
        r"\1\2...",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"), "..."),
)
_LONGEST_REASON = 300

_ADVICE_CREDENTIALS = "Give the connection credentials, or the worker an identity that the store knows."
_ADVICE_EXPIRED = "The store's temporary credentials have expired. Renew them; a retry then works."
_ADVICE_EXISTS = "Allow overwriting, or choose another path."
_ADVICE_MISSING = "Check the path, and that its bucket or directory exists."
_ADVICE_PERMISSION = "Let the connection's identity, or the worker's user, read and write there."
_ADVICE_UNSUITABLE = "Choose a path on another filesystem or store, which supports this."
_ADVICE_LIBRARY = "Check the path, the connection's fields and the installed version of the store's library."
_ADVICE_FULL = "Free some space there; a retry transfers it again."
_ADVICE_BY_ERRNO = {
    errno.EACCES: _ADVICE_PERMISSION,
    errno.EPERM: _ADVICE_PERMISSION,
    errno.EISDIR: "It is a directory: name a file in it, or end the path with '/'.",
    errno.ENOTDIR: "Correct the path: a part of it before the last '/' is not a directory.",
    errno.EEXIST: _ADVICE_EXISTS,
    errno.ENOENT: _ADVICE_MISSING,
    errno.ELOOP: "Symbolic links in the path lead in a circle: correct them, or choose another path.",
    errno.EROFS: "It is mounted read-only: mount it for writing, or choose another path.",
    errno.ENAMETOOLONG: "Choose a shorter file name.",
    errno.ENOSPC: _ADVICE_FULL,
    errno.EDQUOT: _ADVICE_FULL,
    errno.EINVAL: _ADVICE_UNSUITABLE,
    errno.ENOSYS: _ADVICE_UNSUITABLE,
    errno.ENOTSUP: _ADVICE_UNSUITABLE,
    errno.EXDEV: _ADVICE_UNSUITABLE,
}
_ADVICE_BY_STATUS = {
    401: _ADVICE_PERMISSION,
    403: _ADVICE_PERMISSION,
    404: _ADVICE_MISSING,
}
#: What the classes say that libraries raise without an error number.
_ERRNO_BY_CLASS = {
    FileExistsError: errno.EEXIST,
    FileNotFoundError: errno.ENOENT,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
}
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})


@contextmanager
def store_failures(action: str, uri: str) -> Iterator[None]:
    """
    Turn whatever a store raises inside the block into an error that a user can act on.

    The original stays the cause unless its text seems to hold a secret.

    :param action: what was tried, as in "could not *write* s3://...".
    :param uri: the place, without credentials.
    """
    try:
        yield
    except DiffioError:
        raise
    except Exception as error:
        raise store_failure(error, action, uri) from cause_of(error)


def store_failure(error: Exception, action: str, uri: str) -> DiffioError:
    """
    Say what a store's exception means.

    :param error: what the store's library raised.
    :param action: what was tried, as in "could not *write* s3://...".
    :param uri: the place, without credentials.
    :return: a :class:`DiffioTransferError` when a retry may work, otherwise a
        :class:`DiffioInputError`.
    """
    message = f"Could not {action} {uri}: {reason_of(error)}."
    if type(error).__name__ == "FileExpired":
        return DiffioSourceChangedError(message)
    advice = _advice(error)
    if is_lasting(error):
        return DiffioInputError(message, advice=advice or _ADVICE_MISSING)
    return DiffioTransferError(message, advice=advice)


def already_there(uri: str) -> DiffioInputError:
    """Build the error for a destination that exists and must not be overwritten."""
    return DiffioInputError(f"There is already a file at {uri}.", advice=_ADVICE_EXISTS)


def reason_of(error: Exception) -> str:
    """Return an exception's reason in one line, without anything that looks like a secret."""
    status, code = _response(error)
    facts = ", ".join(str(fact) for fact in (code, f"HTTP {status}" if status else None) if fact)
    text = _scrub(_text(error)).rstrip(". ")
    return f"{text} ({facts})" if facts else text


def cause_of(error: Exception) -> Exception | None:
    """Return the exception to chain to, or None if its traceback, causes included, could show a secret."""
    current: BaseException | None = error
    while current is not None:
        if _scrub(str(current)) != str(current):
            return None
        current = current.__cause__ or current.__context__
    return error


def is_lasting(error: Exception) -> bool:
    """Tell whether a second try would end the same way, as far as a store's exception shows it."""
    status, code = _response(error)
    if code in _PASSING_CODES:
        return False
    if isinstance(error, FileExistsError) and status in (None, 409):  # Azure's 409 says that it exists
        return True
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING_STATUSES
    if isinstance(error, (*_LASTING_CLASSES, *_FAULTS)):
        return True
    if isinstance(error, OSError):
        return error.errno in _LASTING_ERRNOS
    return type(error).__name__ in _MISSING_CREDENTIALS | _LASTING_SSH


def _advice(error: Exception) -> str | None:
    status, code = _response(error)
    if code in _EXPIRED_CODES:
        return _ADVICE_EXPIRED
    if status == 412 or isinstance(error, FileExistsError):
        return _ADVICE_EXISTS
    if isinstance(error, OSError) and (number := _errno(error)) in _ADVICE_BY_ERRNO:
        return _ADVICE_BY_ERRNO[number]
    if status in _ADVICE_BY_STATUS:
        return _ADVICE_BY_STATUS[status]
    if type(error).__name__ in _MISSING_CREDENTIALS:
        return _ADVICE_CREDENTIALS
    return _ADVICE_LIBRARY if isinstance(error, _FAULTS) else None


def _errno(error: OSError) -> int:
    for cls, number in _ERRNO_BY_CLASS.items():
        if isinstance(error, cls):
            return error.errno or number
    return error.errno or 0


def _response(error: BaseException) -> tuple[int | None, str | None]:
    """Return the HTTP status and error code of the response behind an exception, as far as known."""
    current: BaseException | None = error
    while current is not None:
        response = getattr(current, "response", None)
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, str(response.get("Error", {}).get("Code") or "") or None
        for name in ("status_code", "status", "code"):  # Azure, aiohttp, Google
            value = getattr(current, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value, None
        current = current.__cause__
    return None, None


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and error.filename is not None:
        return os.strerror(error.errno)  # without the path, which the message names already
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0]}"[:_LONGEST_REASON] if lines else name


def _scrub(text: str) -> str:
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
