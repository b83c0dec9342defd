"""
Replacing a library's error by one of ours, so that nothing leads back to the library's.

An HTTP library's error may hold a signed URL in its text. An error that is raised inside of an ``except``
block has the first one as its context, also after ``raise ... from None``, and error trackers report that
context. So the first error is held here, and ours is raised after the block:

.. code-block:: python

    with hold(requests.RequestException) as held:
        return session.get(url)
    raise DiffioConnectionError(describe(held.error))
"""

from __future__ import annotations

from types import TracebackType


class Held:
    """
    What a ``with`` block failed with.

    :ivar failed: whether the block failed with an error of one of the kinds.
    """

    def __init__(self, kinds: tuple[type[Exception], ...]) -> None:
        self._kinds = kinds
        self._error: Exception | None = None

    @property
    def failed(self) -> bool:
        return self._error is not None

    @property
    def error(self) -> Exception:
        """
        The error of the block.

        :raises RuntimeError: when the block did not fail.
        """
        if self._error is None:
            raise RuntimeError("The block did not fail.")
        return self._error

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, self._kinds):
            return False
        self._error = error
        return True


def hold(*kinds: type[Exception]) -> Held:
    """
    End a ``with`` block at an error of these kinds, and keep the error.

    :param kinds: classes of errors; others pass through.
    :return: the context manager, which knows after the block whether it failed, and with what.
    """
    return Held(kinds)
