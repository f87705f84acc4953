"""What caller and log get of a call that failed, was refused, or was answered by a fallback."""

from __future__ import annotations

import time

from . import load, recorder
from ._core import REASONS, STATES, IntegrationResult, now_ns
from .breakers import limit_message, refusal_message
from .classify import retry_after_of
from .config import CircuitState, ErrorCategory
from .course import RESULT, SECOND, Final
from .errors import (
    REFUSALS,
    CircuitOpenError,
    DegradedModeError,
    IntegrationError,
    IntegrationTimeoutError,
    RetryBudgetExhaustedError,
)
from .logs import failure, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._core import Refusal
    from .course import AnyGuard, Arguments
    from .recovery import Recovery

ATTEMPT_TIMEOUT = "attempt timeout"
DEADLINE_PASSED = "deadline passed"


def answer(recovery: Recovery, guard: AnyGuard, mode: int, final: Final, began: int, arguments: Arguments) -> Any:
    """The final answer, as csrc/python/guard.h wants it for the mode."""
    failed = not final.success or final.fallback is not None
    error: IntegrationError | None = None
    if failed:
        error = standard_error(recovery, final, arguments) if mode == RESULT else None
        log(recovery, final, arguments, error)
    if mode == RESULT:
        return IntegrationResult(
            final.success,
            data=final.value,
            error=error,
            guard=guard,
            duration=max(now_ns() - began, 0) / SECOND,
            attempts=final.attempts,
            fallback_type=final.fallback,
            data_age=final.age,
        )
    if final.success or final.fallback is not None or final.judged:
        return True, final.value  # a judged value goes back as the bare function gave it
    raised = final.error if final.error is not None else final.refusal.error()  # type: ignore[union-attr]
    annotate(raised, final)
    return False, raised


def failed_result(error: IntegrationError) -> IntegrationResult[Any]:
    """The result of a call that was never made."""
    return IntegrationResult(False, error=error)


def standard_error(recovery: Recovery, final: Final, arguments: Arguments) -> IntegrationError:
    """The standard form of what went wrong with the primary operation."""
    exhausted = final.gave_up == recorder.NO_BUDGET
    if isinstance(final.error, IntegrationError) and not exhausted:
        error = final.error
        if isinstance(error, IntegrationTimeoutError) and error.reason == ATTEMPT_TIMEOUT:
            error.attempts = final.attempts  # ours, made while the attempt still ran
            error.reason = final.reason or error.reason
            error.details = {**error.details, **details_of(recovery, final, arguments)}
        return error
    if final.error is None and final.refusal is not None and not final.judged:
        refused = final.refusal.error()
        refused.details = {**refused.details, **context_of(recovery, arguments), **_fallback_errors(final)}
        return refused
    kind = IntegrationTimeoutError if final.category is ErrorCategory.TIMEOUT else IntegrationError
    if exhausted:
        kind = RetryBudgetExhaustedError
    original = final.error
    words = shown(str, final.value) if original is None else shown(str, original) or type(original).__name__
    return kind(
        f"{recovery.operation}: {words}",
        category=final.category,
        original_error=original,
        details=details_of(recovery, final, arguments),
        retryable=exhausted or final.category in recovery.policy.retryable_errors,
        integration_type=recovery.integration.type,
        integration_name=recovery.integration.name,
        operation=recovery.operation,
        attempts=final.attempts,
        retry_after=hint_of(final),
        reason=final.reason,
    )


def details_of(recovery: Recovery, final: Final, arguments: Arguments) -> dict[str, object]:
    """What the caller adds, the limits in force, what was tried, and the breaker's numbers."""
    details = context_of(recovery, arguments or ((), {}))
    details["attempt_timeout"] = recovery.timeout
    details["delays"] = final.delays
    details.update(recovery.integration.breaker.numbers())
    details.update(_fallback_errors(final))
    return details


def context_of(recovery: Recovery, arguments: Arguments) -> dict[str, object]:
    """What the caller adds: a mapping, or what a function makes of the arguments, where those are known."""
    given = recovery.details
    if given is None or (callable(given) and arguments is None):
        return {}
    args, kwargs = arguments or ((), {})
    try:
        return dict(given(*args[recovery.skip :], **kwargs) if callable(given) else given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return {"details_error": shown(repr, error)}


def _fallback_errors(final: Final) -> dict[str, object]:
    if not final.fallback_errors:
        return {}
    return {"fallback_errors": tuple(f"{kind}: {shown(repr, error)}" for kind, error in final.fallback_errors)}


def annotate(error: BaseException, final: Final) -> None:
    """Say on the exception what was tried, if anything was; else it stays as it came."""
    if final.attempts > 1:
        waited = ", ".join(f"{delay:.3g}" for delay in final.delays)
        error.add_note(f"failsoft: {final.attempts} attempts, after waits of {waited} s; then: {final.reason}")
    for kind, problem in final.fallback_errors:
        error.add_note(f"failsoft: the {kind} fallback failed too: {shown(repr, problem)}")


def expired(recovery: Recovery, seconds: float) -> IntegrationTimeoutError:
    """The error of an attempt that was given so many seconds."""
    return IntegrationTimeoutError(
        f"{recovery.operation}: no answer within {seconds:.3g} s",
        details={"attempt_timeout": recovery.timeout},
        integration_type=recovery.integration.type,
        integration_name=recovery.integration.name,
        operation=recovery.operation,
        reason=ATTEMPT_TIMEOUT,
    )


def describe(recovery: Recovery, refusal: Refusal) -> dict[str, object]:
    """Every field of the error for a refusal."""
    integration = recovery.integration
    state = STATES[refusal.state]
    context = context_of(recovery, None)  # a refusal is too cheap to keep the arguments
    error: IntegrationError
    if refusal.late:
        error = IntegrationTimeoutError(
            f"{recovery.operation}: not called, for the deadline around it has passed",
            integration_type=integration.type,
            details=context,
            timestamp=time.time() - refusal.age,
            retryable=False,  # by who has no time left
            integration_name=integration.name,
            operation=recovery.operation,
            reason=DEADLINE_PASSED,
        )
    elif refusal.load:
        error = load.error_of(recovery, refusal, context)
    elif refusal.limited:
        reason = recovery.limit_reason()
        error = DegradedModeError(
            limit_message(integration.name, refusal.capacity, reason),
            integration_type=integration.type,
            capacity=refusal.capacity,
            details={**context, "capacity": refusal.capacity, "state": state, "generation": refusal.generation},
            timestamp=time.time() - refusal.age,
            retryable=True,
            integration_name=integration.name,
            operation=recovery.operation,
            reason=reason,
        )
    else:
        because, wait = REASONS[refusal.because], refusal.retry_after
        error = CircuitOpenError(
            refusal_message(integration.name, state, because, wait),
            integration_type=integration.type,
            details={**context, "state": state, "failures": refusal.failures, "generation": refusal.generation},
            timestamp=time.time() - refusal.age,
            retryable=True,
            integration_name=integration.name,
            operation=recovery.operation,
            retry_after=wait,
            reason=because,
        )
    return dict(vars(error))


def words_of(recovery: Recovery, refusal: Refusal) -> str:
    """Why the gate refused, as the reason of an error that came before."""
    if refusal.late:
        return recorder.GIVE_UPS[recorder.PASSED]
    if refusal.load:
        return f"the gate refused: {load.words(refusal.load, refusal.allowed, refusal.retry_after)}"
    if refusal.limited:
        return f"the gate refused: capacity {refusal.capacity:.3g} ({recovery.limit_reason()})"
    state, reason = CircuitState(STATES[refusal.state]), REASONS[refusal.because]
    return f"the gate refused: circuit {state}" + (f" ({reason})" if reason else "")


def hint_of(final: Final) -> float | None:
    """When the peer asked us to come back, in seconds; a judged response may carry it as an error would."""
    source: Any = final.error if final.error is not None else final.value
    return None if source is None or isinstance(source, REFUSALS) else retry_after_of(source)


def log(recovery: Recovery, final: Final, arguments: Arguments, error: IntegrationError | None = None) -> None:
    """Log what became of a call, unless it repeats what was just logged."""
    integration = recovery.integration
    made: list[IntegrationError] = [error] if error is not None else []

    def standard() -> IntegrationError:
        if not made:
            made.append(standard_error(recovery, final, arguments))
        return made[0]

    def message() -> str:
        answered = f"; the {final.fallback} fallback answered" if final.fallback else ""
        return f"{integration.name}.{recovery.operation} failed: {standard().code}: {shown(str, standard())}{answered}"

    def fields() -> dict[str, object]:
        known = fields_of(standard())
        if isinstance(final.error, IntegrationError):  # raised by the operation, perhaps about another integration
            known["integration"], known["integration_type"] = integration.name, integration.type
            known["operation"], known["reason"] = recovery.operation, final.reason or known["reason"]
            known["details"] = {**context_of(recovery, arguments), **standard().details}
        return {**known, "attempts": final.attempts, "fallback": final.fallback}

    kind: object = type(final.error)
    if final.error is None and final.refusal is not None and not final.judged:
        refusal = final.refusal
        kind = "late" if refusal.late else "limited" if refusal.limited else load.NAMES.get(refusal.load, "refused")
    failure((integration.name, recovery.operation, final.category, kind, final.fallback), message, fields)


def fields_of(error: IntegrationError) -> dict[str, object]:
    """The `extra` of a log record, from the standard error."""
    return {
        "integration": error.integration_name,
        "integration_type": error.integration_type,
        "operation": error.operation,
        "code": error.code,
        "category": error.category,
        "reason": error.reason,
        "attempts": error.attempts,
        "retry_after": error.retry_after,
        "details": dict(error.details),
    }
