"""What the errors of AI services, gRPC, NATS and AWS mean."""

from __future__ import annotations

from ..config import ErrorCategory
from ..standard import category_of_status, peek
from .http import connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..standard import Rule


def _of_sdk_connection(error: BaseException) -> ErrorCategory:
    """What the transport raised, where we know it: our own refusals come wrapped like the rest."""
    from ..classify import classify_error
    from ..errors import IntegrationError

    cause = error.__cause__
    return classify_error(cause) if isinstance(cause, IntegrationError) else connection(error)


def _of_rate_limit(error: object) -> ErrorCategory | None:
    """A quota that is used up comes with the status of a rate limit, and will not be there in a minute."""
    return ErrorCategory.CLIENT_ERROR if peek(error, "code") == "insufficient_quota" else None


def _sdk(module: str) -> dict[str, Rule]:
    return {
        f"{module}.APITimeoutError": ErrorCategory.TIMEOUT,  # an APIConnectionError, too
        f"{module}.APIConnectionError": _of_sdk_connection,
        f"{module}.APIResponseValidationError": lambda _: ErrorCategory.SERVER_ERROR,  # it has the status of success
        f"{module}.UnprocessableEntityError": lambda _: ErrorCategory.VALIDATION,
        f"{module}.APIError": ErrorCategory.SERVER_ERROR,  # told within a stream; others have a status
    }


_GRPC = {
    "DEADLINE_EXCEEDED": ErrorCategory.TIMEOUT,
    "UNAVAILABLE": ErrorCategory.NETWORK,
    "RESOURCE_EXHAUSTED": ErrorCategory.RATE_LIMIT,
    "INTERNAL": ErrorCategory.SERVER_ERROR,
    "UNKNOWN": ErrorCategory.SERVER_ERROR,
    "DATA_LOSS": ErrorCategory.SERVER_ERROR,
    "ABORTED": ErrorCategory.SERVER_ERROR,  # a conflict: like a serialization failure, worth another try
    **dict.fromkeys(
        (
            "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION",
            "UNIMPLEMENTED",
        ),
        ErrorCategory.CLIENT_ERROR,
    ),
    "INVALID_ARGUMENT": ErrorCategory.VALIDATION,
    "OUT_OF_RANGE": ErrorCategory.VALIDATION,
    "CANCELLED": ErrorCategory.VALIDATION,  # by ourselves: it must count for nothing
}  # fmt: skip
"""https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""


def _of_rpc(error: object) -> ErrorCategory | None:
    ask = peek(error, "code")
    try:
        return _GRPC.get(ask().name)
    except Exception:  # whatever the error is: a code is a function that gives a StatusCode
        return None


def _nats(category: ErrorCategory, *names: str) -> dict[str, Rule]:
    return dict.fromkeys((f"nats.{name}" for name in names), category)


_NATS_WORDS = {
    "authorization violation": ErrorCategory.CLIENT_ERROR,
    "permissions violation": ErrorCategory.CLIENT_ERROR,
    "authentication": ErrorCategory.CLIENT_ERROR,  # expired, revoked, timeout
    "payload violation": ErrorCategory.VALIDATION,
    "exceeded": ErrorCategory.SERVER_ERROR,  # connections, subscriptions: it has no room for more
    "stale connection": ErrorCategory.NETWORK,
    "shutdown": ErrorCategory.NETWORK,
    "expecting info": ErrorCategory.SERVER_ERROR,  # whoever answered speaks another protocol
    "json parse error": ErrorCategory.SERVER_ERROR,
}
"""What a server says in `-ERR`, which nats-py hands on in words alone."""


def _of_nats_words(error: object) -> ErrorCategory | None:
    if not isinstance(error, Exception) or not error.args or not isinstance(error.args[0], str):
        return None
    words = error.args[0].lower()
    return next((category for said, category in _NATS_WORDS.items() if said in words), None)


def _of_jetstream(error: object) -> ErrorCategory | None:
    """Its codes are those of HTTP."""
    return category_of_status(peek(error, "code"))


_THROTTLED = frozenset({
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException", "RequestThrottled",
    "TooManyRequestsException", "ProvisionedThroughputExceededException", "TransactionInProgressException",
    "RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceededException", "SlowDown", "PriorRequestNotComplete",
    "EC2ThrottledException",
})  # fmt: skip
"""The codes that AWS's own SDKs take for throttling, most of which come with the status 400."""


def _of_aws(error: object) -> ErrorCategory:
    response = peek(error, "response")
    try:
        code, status = response["Error"].get("Code"), response["ResponseMetadata"].get("HTTPStatusCode")
    except Exception:  # made by hand
        return ErrorCategory.UNKNOWN
    if code in _THROTTLED:
        return ErrorCategory.RATE_LIMIT
    if code in ("RequestTimeout", "RequestTimeoutException"):
        return ErrorCategory.TIMEOUT
    return category_of_status(status) or ErrorCategory.UNKNOWN


def _botocore() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        "ClientError": _of_aws,
        "ConnectTimeoutError": ErrorCategory.TIMEOUT,
        "ReadTimeoutError": ErrorCategory.TIMEOUT,
        "SSLError": connection,
        "HTTPClientError": ErrorCategory.NETWORK,
        "ConnectionError": ErrorCategory.NETWORK,
        "IncompleteReadError": ErrorCategory.NETWORK,
        "ChecksumError": ErrorCategory.SERVER_ERROR,
        "ParamValidationError": ErrorCategory.VALIDATION,
        "NoCredentialsError": ErrorCategory.CLIENT_ERROR,
        "PartialCredentialsError": ErrorCategory.CLIENT_ERROR,
    }
    return {f"botocore.exceptions.{name}": rule for name, rule in rules.items()}


RULES: dict[str, Rule] = {
    **_sdk("openai"),
    "openai.RateLimitError": _of_rate_limit,
    "openai.WebSocketConnectionClosedError": ErrorCategory.NETWORK,
    "openai.WebSocketQueueFullError": ErrorCategory.RATE_LIMIT,
    "openai.LengthFinishReasonError": ErrorCategory.VALIDATION,
    "openai.ContentFilterFinishReasonError": ErrorCategory.VALIDATION,
    **_sdk("anthropic"),
    # Limits of money, which no wait of a call's length lifts.
    "anthropic.EnforcedSpendLimitReachedError": lambda _: ErrorCategory.CLIENT_ERROR,
    "anthropic.ContractSpendLimitReachedError": lambda _: ErrorCategory.CLIENT_ERROR,
    "anthropic.CredentialsError": ErrorCategory.CLIENT_ERROR,
    "grpc.RpcError": _of_rpc,
    "grpc.FutureTimeoutError": ErrorCategory.TIMEOUT,
    "grpc.FutureCancelledError": ErrorCategory.VALIDATION,
    **_nats(ErrorCategory.TIMEOUT, "errors.TimeoutError"),
    **_nats(
        ErrorCategory.NETWORK,
        "errors.NoServersError",
        "errors.ConnectionClosedError",
        "errors.ConnectionReconnectingError",
        "errors.ConnectionDrainingError",
        "errors.StaleConnectionError",
        "errors.UnexpectedEOF",
        "errors.OutboundBufferLimitError",
        "errors.ProtocolError",
    ),
    **_nats(ErrorCategory.RATE_LIMIT, "errors.SlowConsumerError"),  # by ourselves
    **_nats(
        ErrorCategory.SERVER_ERROR,
        "errors.NoRespondersError",
        "js.errors.NoStreamResponseError",
        "js.errors.ServiceUnavailableError",
        "js.errors.ServerError",
    ),
    **_nats(
        ErrorCategory.CLIENT_ERROR,
        "errors.AuthorizationError",
        "errors.InvalidUserCredentialsError",
        "js.errors.BadRequestError",
        "js.errors.NotFoundError",
    ),
    **_nats(
        ErrorCategory.VALIDATION,
        "errors.MaxPayloadError",
        "errors.BadSubjectError",
        "errors.BadSubscriptionError",
        "errors.InvalidCallbackTypeError",
        "errors.BadTimeoutError",
        "errors.JsonParseError",
    ),
    "nats.errors.Error": _of_nats_words,
    "nats.js.errors.APIError": _of_jetstream,
    **_botocore(),
}
