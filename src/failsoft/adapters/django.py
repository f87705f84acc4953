"""A middleware for Django, sync and async: deadlines that callers send, and responses to dependencies that fail.

    MIDDLEWARE = ["failsoft.adapters.django.FailsoftMiddleware", ...]
    FAILSOFT = {"header": "x-deadline-ms", "most": 10.0}      # if others than the usual ones are wanted

What it answers is what `failsoft.adapters.starlette` does.
"""

from __future__ import annotations

from collections.abc import Callable

try:
    from django.conf import settings
    from django.http import JsonResponse
except ModuleNotFoundError as error:
    if error.name != "django":
        raise
    raise ImportError("django is not installed: pip install 'failsoft[django]'") from error

from ..checks import refuse_unknown
from ..deadlines import remaining
from ..errors import IntegrationError
from ..functions import is_coroutine_function
from ..wire import HEADER, extract_deadline
from .responses import MOST, NO_TIME, response_to

__all__ = ["FailsoftMiddleware"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class FailsoftMiddleware:
    """Lets a caller's deadline hold for its request, and answers an `IntegrationError` with 503 or 504.

    Guards inside make no call that cannot be answered in time, and `remaining()` says how long there is; the view
    itself is not cut off. A request that has no time left is answered 504. Put it first, so that the others count too.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        told = dict(getattr(settings, "FAILSOFT", {}))
        refuse_unknown(told, ["header", "most"], "FAILSOFT.", ValueError)
        self._header = told.get("header", HEADER)
        self._most = told.get("most", MOST)
        extract_deadline({}, header=self._header, most=self._most)  # it says what is wrong with them
        self._get_response = get_response
        self._is_async = is_coroutine_function(get_response)
        if self._is_async:
            from asgiref.sync import markcoroutinefunction

            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._answer(request)
        with extract_deadline(request.headers, header=self._header, most=self._most):
            return _late() if remaining() == 0.0 else self._get_response(request)

    async def _answer(self, request: Any) -> Any:
        with extract_deadline(request.headers, header=self._header, most=self._most):
            return _late() if remaining() == 0.0 else await self._get_response(request)

    def process_exception(self, request: Any, error: Exception) -> Any:
        """The response to an error of ours that a view raised; None leaves others to Django."""
        if not isinstance(error, IntegrationError):
            return None
        status, headers, body = response_to(error)
        return JsonResponse(body, status=status, headers=headers)


def _late() -> Any:
    return JsonResponse(NO_TIME, status=504)
