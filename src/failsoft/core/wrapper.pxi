# Owns with_integration_resilience: it finds the guard of a call that has been made before, and runs it; wrapper.py does
# everything else.

cdef dict known_faces = {}
faces = known_faces
"""Of with_integration_resilience: {integration's name: {operation's name: (type, the guard that is told what to call)}}."""

cdef object first_time = None


def set_first_time(function):
    """What with_integration_resilience does where it knows nothing yet, or is asked for more."""
    global first_time
    first_time = function


def with_integration_resilience(
    integration_type, integration_name, operation, *, operation_name=None, fallbacks=(), bint retry=True,
    bint idempotent=True, registry=None,
):
    """Run `operation` behind an integration's guard. Gives an `IntegrationResult`, to be awaited if it is async.

    Sync operations give the result itself; coroutine functions, and functions that return an awaitable, give an
    awaitable of it. `operation_name` is what the calls are recorded under, the function's own name by default.
    `retry=False` makes one attempt only, `idempotent=False` retries only what provably never reached the dependency.
    """
    cdef dict operations
    cdef tuple known
    cdef _ccalls.PyObject *args[1]
    if registry is None and operation_name is None and (fallbacks is () or fallbacks == ()) and retry and idempotent:
        operations = known_faces.get(integration_name)
        known = None if operations is None else operations.get(getattr(operation, "__name__", None))
        if known is not None and known[0] is integration_type:
            args[0] = <_ccalls.PyObject *>operation
            return fs_guard_run(<fs_guard *><_ccalls.PyObject *>known[1], FS_RESULT, FS_FOREVER, args, 1, NULL)
    return first_time(integration_type, integration_name, operation, operation_name, fallbacks, retry, idempotent, registry)
