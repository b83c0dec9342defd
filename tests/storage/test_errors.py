from __future__ import annotations

import errno
import traceback

import pytest

from airflow_provider_diffio.api.errors import DiffioError, DiffioInputError, DiffioTransferError
from airflow_provider_diffio.storage.errors import store_failure, store_failures


class ResponseError(Exception):
    """Shaped as those of Google's and Azure's libraries."""

    def __init__(self, status_code: int, message: str = "") -> None:
        super().__init__(message)
        self.status_code = status_code


class ClientError(Exception):
    """Shaped as botocore's."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


class NoCredentialsError(Exception):
    """Named as botocore's."""


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("a.wav"),
        PermissionError("Access Denied"),
        IsADirectoryError(errno.EISDIR, "Is a directory"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.ENAMETOOLONG, "File name too long"),
        ResponseError(401),
        ResponseError(403),
        ResponseError(404),
        ClientError("NoSuchBucket", 404),
        ClientError("PreconditionFailed", 412),
        NoCredentialsError("Unable to locate credentials"),
        NotImplementedError(),
        ImportError("no library"),
    ],
)
def test_what_will_not_work_later(error: Exception) -> None:
    failure = store_failure(error, "write", "s3://audio/a.wav")
    assert isinstance(failure, DiffioInputError)
    assert not failure.transient
    assert "s3://audio/a.wav" in str(failure)
    assert failure.advice


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        OSError("Failure"),
        TimeoutError(),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        ResponseError(408),
        ResponseError(429),
        ResponseError(503),
        ClientError("NoSuchUpload", 404),
        ClientError("ExpiredToken", 400),
        ClientError("SlowDown", 503),
        RuntimeError("the loop is closed"),
    ],
)
def test_what_may_work_later(error: Exception) -> None:
    failure = store_failure(error, "write", "s3://audio/a.wav")
    assert isinstance(failure, DiffioTransferError)
    assert failure.transient
    assert failure.advice


@pytest.mark.parametrize(
    "text",
    [
        "GET https://s3.example/a.wav?X-Amz-Signature=0123abcd&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE failed",
        "no response from https://user:0123abcd@s3.example/",
        "secret_key=0123abcd is wrong",
        "aws_secret_access_key: 0123abcd",
        "SharedAccessSignature=0123abcd",
        "AKIAIOSFODNN7EXAMPLE0123abcd is unknown".upper().replace("ABCD", "ABCD"),
    ],
)
def test_secrets_are_in_neither_message_nor_traceback(text: str) -> None:
    with pytest.raises(DiffioError) as caught, store_failures("read", "s3://audio/a.wav"):
        raise OSError(errno.EIO, text)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for secret in ("0123abcd", "0123ABCD", "AKIAIOSFODNN7EXAMPLE"):
        assert secret not in shown


def test_a_harmless_cause_is_kept() -> None:
    cause = OSError(errno.EIO, "Input/output error")
    with pytest.raises(DiffioTransferError) as caught, store_failures("read", "/a.wav"):
        raise cause
    assert caught.value.__cause__ is cause


def test_our_own_errors_pass() -> None:
    own = DiffioInputError("as it is")
    with pytest.raises(DiffioInputError) as caught, store_failures("read", "/a.wav"):
        raise own
    assert caught.value is own


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "mounted read-only"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links"), "lead in a circle"),
        (OSError(errno.ENOTDIR, "Not a directory"), "is not a directory"),
        (OSError(errno.EISDIR, "Is a directory"), "name a file in it"),
        (OSError(errno.EPERM, "Operation not permitted"), "the worker's user"),
        (OSError(errno.ENOTSUP, "Operation not supported"), "another filesystem"),
        (OSError(errno.ENOSPC, "No space left on device"), "Free some space"),
        (ClientError("ExpiredToken", 400), "have expired"),
        (ClientError("PreconditionFailed", 412), "Allow overwriting"),
        (ResponseError(403), "read and write there"),
        (ResponseError(404), "bucket or directory exists"),
        (FileExistsError("a.wav"), "Allow overwriting"),
        (TypeError("no such argument"), "version of the store's library"),
    ],
)
def test_the_advice_fits_the_reason(error: Exception, advice: str) -> None:
    assert advice in str(store_failure(error, "write", "/a.wav").advice)


def test_a_lost_race_is_final_whatever_the_status() -> None:
    error = FileExistsError("dir/a.wav")
    error.__cause__ = ResponseError(409, "BlobAlreadyExists")
    failure = store_failure(error, "publish", "abfs://audio/a.wav")
    assert failure.final
    assert failure.advice == "Allow overwriting, or choose another path."
