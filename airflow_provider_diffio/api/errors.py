"""
What can go wrong with Diffio, as classes a user can act on.

Other rooms add classes of their own below these: ``steps/task_state.py`` has ``DiffioTaskStateError``.

* DiffioError
  x DiffioInputError (also ValueError)     nothing was sent, nothing was paid
    + DiffioConfigurationError             the connection lacks something or says something impossible
    + DiffioSourceChangedError             the recording changed while it was read
  x DiffioConnectionError                  no response: network, TLS, timeout
  x DiffioResponseError                    a response that is not what the contract says
    + DiffioGatewayError                   a 4xx that does not come from Diffio: a gateway's or proxy's page
  x DiffioTransferError                    an upload or download that did not arrive whole
    + DiffioLinkRefusedError               a download link that the media host does not accept (any more)
  x DiffioApiError                         a response with an error status
    + DiffioBadRequestError                400: Diffio does not take what was asked
    + DiffioUploadRefusedError             401 or 403 from the upload host: the upload's own permission
    + DiffioAuthenticationError            401
    + DiffioBillingError                   402
    + DiffioPermissionError                403
    + DiffioNotFoundError                  404
      - DiffioTranscriptUnavailableError   404 TRANSCRIPT_UNAVAILABLE
    + DiffioConflictError                  409
      - DiffioNotReadyError                409 without a code, or TRANSCRIPT_PENDING
      - DiffioUploadMissingError           409 UPLOAD_MISSING
      - DiffioIdempotencyConflictError     409 idempotencyKeyConflict
    + DiffioModelRetiredError              410 model_retired
    + DiffioTooLargeError                  413
    + DiffioRateLimitError                 429
    + DiffioServerError                    408 and 5xx
  x DiffioWebhookError                     a delivery that is not proven to come from Diffio
    + DiffioWebhookEventError              one that is, but holds no generation event
  x DiffioGenerationError                  what became of a generation that may have been paid
    + DiffioGenerationFailedError          Diffio reports it as failed
    + DiffioGenerationTimeoutError         it was not over by the deadline
    + DiffioGenerationLimitError           another one would be one more than the task may start
    + DiffioVerificationError              what was restored is no whole recording

Three questions decide what a caller does with one: ``transient`` (may the very same call work in a
moment?), ``final`` (is it pointless to run the whole task again?) and ``may_be_billed`` (does a generation
exist, or may one exist, that costs money?). No class says anything about money by itself, since the same
error can come before a generation is started and after; ``money`` says it for each single error.
"""

from __future__ import annotations

from typing import Any, ClassVar

from airflow_provider_diffio.api.clean_text import clean_text


def _clean(text: str) -> str:
    return text if text.isprintable() else clean_text(text, len(text))


class DiffioError(Exception):
    """
    Base of all errors of this package.

    :param message: what happened, in one sentence, without secrets.
    :param status_code: HTTP status of the response, if one came.
    :param code: Diffio's own error code (``paymentFailed``, ``UPLOAD_MISSING``, ...), where it sent one.
    :param endpoint: the endpoint's name, such as ``create_project``.
    :param project_id: the project it happened on, as far as known.
    :param generation_id: the generation it happened on, as far as known.
    :param advice: what to do next; the class's own sentence when not given.
    :param retry_after: seconds that the server asked to wait.
    :param may_be_billed: whether a generation exists, or may exist, that is billed.
    :param money: one sentence about money; when not given, an error that ``may_be_billed`` says so, unless
        its ``advice`` was given.
    """

    #: Whether the same call, unchanged, may succeed later.
    transient: ClassVar[bool] = False
    #: Whether running the whole task again, with nothing changed, is pointless.
    final: ClassVar[bool] = False
    default_advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: str | None = None,
        endpoint: str | None = None,
        project_id: str | None = None,
        generation_id: str | None = None,
        advice: str | None = None,
        retry_after: float | None = None,
        may_be_billed: bool = False,
        money: str = "",
    ) -> None:
        # Messages quote what Diffio and users wrote, and whoever logs or stores them does not expect it raw.
        self.message = _clean(message)
        super().__init__(self.message)
        self.status_code = status_code
        self.code = code
        self.endpoint = endpoint
        self.project_id = project_id
        self.generation_id = generation_id
        self.advice = self.default_advice if advice is None else advice
        self.retry_after = retry_after
        self.may_be_billed = may_be_billed
        self._money = money

    @property
    def money(self) -> str:
        """What became of the money, in one sentence; empty when there is nothing to say."""
        if self._money or not self.may_be_billed or self.advice != self.default_advice:
            return self._money
        return "A generation exists, or may exist, and is billed."

    @money.setter
    def money(self, sentence: str) -> None:
        self._money = sentence

    def facts(self) -> list[str]:
        """Return where it happened, as far as known: endpoint, status, code, ids."""
        known = {
            "endpoint": self.endpoint,
            "HTTP": self.status_code,
            "code": self.code,
            "project": self.project_id,
            "generation": self.generation_id,
        }
        return [_clean(f"{name} {value}") for name, value in known.items() if value is not None]

    def __str__(self) -> str:
        """Return message, facts, advice and money, as text that every log and database takes."""
        return _clean(self._text())

    def _text(self) -> str:
        parts = [self.message]
        if facts := self.facts():
            parts.append(f"[{', '.join(facts)}]")
        parts += [sentence for sentence in (self.advice, self.money) if sentence]
        return " ".join(parts)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments would be lost by the default, which replays ``args`` alone.
        return (_rebuild, (type(self), self.message, self.__dict__))


def diffio_error(exception: BaseException | None) -> DiffioError | None:
    """
    Return the error of ours that an exception is, or that it was raised from or after.

    What a task of the provider ends with may be an exception of Airflow's; this finds the reason with its
    fields, for instance in an ``on_failure_callback``: ``diffio_error(context["exception"])``.

    :param exception: any exception.
    """
    found = [exception]
    for each in found:
        if isinstance(each, DiffioError):
            return each
        if each is not None:
            found += [one for one in (each.__cause__, each.__context__) if one not in found]
    return None


def _rebuild(cls: type[DiffioError], message: str, state: dict[str, Any]) -> DiffioError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class DiffioInputError(DiffioError, ValueError):
    """An argument, file or path that cannot work; raised before a byte is sent."""

    final = True


class DiffioConfigurationError(DiffioInputError):
    """The Airflow connection lacks something, or says something impossible."""

    default_advice = "Check the fields of the Diffio connection."


class DiffioSourceChangedError(DiffioInputError):
    """The recording became longer, shorter or another file while it was read."""

    final = False
    default_advice = (
        "No generation was started. Run it again when no program writes to the recording any more."
    )


class DiffioConnectionError(DiffioError):
    """No response came: network, name resolution, TLS, or a timeout."""

    transient = True
    default_advice = "Check the network, the connection's host and its proxy; a retry may succeed."


class DiffioResponseError(DiffioError):
    """A response that the contract does not allow: not JSON, a missing field, a redirect."""

    default_advice = "Check that the connection's host is the Diffio API and not a proxy or another service."


class DiffioGatewayError(DiffioResponseError):
    """
    A 4xx status without an error of Diffio: the page of a gateway, proxy or firewall in between.

    It says nothing about the object that was asked for, so it is no reason to give anything up.
    """

    transient = True
    default_advice = (
        "The response does not come from Diffio. Check the connection's host, its proxy, and gateways in"
        " between; a retry may succeed."
    )


class DiffioTransferError(DiffioError):
    """A file did not arrive whole, in either direction; nothing incomplete was kept."""

    transient = True
    default_advice = "A retry transfers it again."


class DiffioLinkRefusedError(DiffioTransferError):
    """The media host refuses the download link, most likely because its hours are over."""

    default_advice = "A retry asks Diffio for a new link."


class DiffioApiError(DiffioError):
    """A response with an error status."""


class DiffioBadRequestError(DiffioApiError):
    """400: Diffio does not take an argument, such as the video of a recording that has none."""

    final = True
    default_advice = "Change the argument that Diffio names."


class DiffioUploadRefusedError(DiffioApiError):
    """401 or 403 from the upload host: the upload's own permission ran out or does not fit."""

    default_advice = "A retry asks for a new permission, under a new project."


class DiffioAuthenticationError(DiffioApiError):
    """401: the API key is missing, mistyped or unknown."""

    final = True
    default_advice = "Check the API key in the connection's password field and its 'key_header'."


class DiffioBillingError(DiffioApiError):
    """402: the account or the key may not spend (``paymentFailed``, ``spendLimitExceeded``)."""

    final = True
    default_advice = "Settle it in Diffio's billing portal, or raise the key's limit."


class DiffioPermissionError(DiffioApiError):
    """403: the key is not active, lacks the permission, or does not own the object."""

    final = True
    default_advice = "Use a key that is active, has the permission, and owns the project."


class DiffioNotFoundError(DiffioApiError):
    """404: the project, generation or artifact does not exist for this key."""

    final = True
    default_advice = "Check the id, and that the same API key is used that created it."


class DiffioTranscriptUnavailableError(DiffioNotFoundError):
    """404 ``TRANSCRIPT_UNAVAILABLE``: the generation has no transcript and will not get one."""

    default_advice = "The restored audio can still be downloaded."


class DiffioConflictError(DiffioApiError):
    """409: the object is not in the state that the call needs."""


class DiffioNotReadyError(DiffioConflictError):
    """409 without a code, or ``TRANSCRIPT_PENDING``: not yet; the same call works later."""

    transient = True
    default_advice = "Wait for the generation to complete, then ask again."


class DiffioUploadMissingError(DiffioConflictError):
    """409 ``UPLOAD_MISSING``: the project's file has not arrived."""

    default_advice = "Upload the file again; this creates a new project."


class DiffioIdempotencyConflictError(DiffioConflictError):
    """409 ``idempotencyKeyConflict``: the key was used on this project for another model."""

    final = True
    default_advice = "Use another idempotency key, or the model of the first request."


class DiffioModelRetiredError(DiffioApiError):
    """
    410: the model is no longer offered.

    :ivar supported_models: the models that Diffio names instead.
    """

    final = True

    def __init__(self, message: str, *, supported_models: tuple[str, ...] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.supported_models = supported_models


class DiffioTooLargeError(DiffioApiError):
    """413: the file, or a part of it, is over the limit."""

    final = True
    default_advice = "Split the recording."


class DiffioRateLimitError(DiffioApiError):
    """429: too many requests."""

    transient = True
    default_advice = "Lower the number of tasks that run at once (an Airflow pool does), or retry later."


class DiffioServerError(DiffioApiError):
    """408 or 5xx: Diffio could not do it now."""

    transient = True
    default_advice = "A retry may succeed."


class DiffioWebhookError(DiffioError):
    """A delivery that is not proven to come from Diffio, or is not what a delivery is."""

    final = True
    default_advice = "Respond with HTTP 400 and do nothing else."


class DiffioWebhookEventError(DiffioWebhookError):
    """A delivery that Diffio signed, whose body is no generation event."""

    default_advice = "Respond with HTTP 422 and do nothing else."


class DiffioGenerationError(DiffioError):
    """What became of a generation that exists and may have been billed."""


class DiffioGenerationFailedError(DiffioGenerationError):
    """
    Diffio reports the generation as failed.

    :ivar error: Diffio's own ``error`` text, or None.
    :ivar error_details: Diffio's own ``errorDetails`` text, or None.
    """

    def __init__(
        self, message: str, *, error: str | None = None, error_details: str | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.error = error
        self.error_details = error_details


class DiffioGenerationTimeoutError(DiffioGenerationError):
    """The generation was not over by the deadline; it goes on at Diffio and is still billed."""

    transient = True


class DiffioGenerationLimitError(DiffioGenerationError):
    """Another generation would be one more than ``max_generations`` allows this task instance to start."""

    final = True


class DiffioVerificationError(DiffioGenerationError):
    """
    A restored file does not decode to its end, or is not as long as its source (``verify="audio"``).

    :ivar kept_at: where the file is that failed, or None.
    """

    final = True
    default_advice = (
        "Listen to it. It is never published, and no other generation is started by itself. Clear the task"
        " to fetch the same one again, or give verify=None to take it as it is."
    )
    kept_at: str | None = None
