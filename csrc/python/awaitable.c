/* The awaitable: what an AsyncGuard returns, and a coroutine to everybody who looks.
 *
 *   NEW --first send--> RUNNING --returned--> DONE
 *    |                    |------raised, nothing to recover--> DONE
 *    |                    '------raised--> RECOVERING --returned/raised--> DONE
 *    |--refused--> DONE, or RECOVERING where fallbacks are
 *    '--no place, but time to wait--> QUEUED --let in--> RUNNING, or refused, or cancelled--> DONE
 *
 * NEW holds no permit: the gate is passed at the first send, so a coroutine that is never awaited holds nothing up. It
 * joins the garbage collector at its first suspension, when a cycle can first run through its frame (a pending task whose
 * loop is dropped), or at birth where an argument or the function could refer to it; calls with neither, numbers and
 * strings in and a value out, save that cost. In RECOVERING it drives a
 * coroutine of recovery.py instead of the user's; in QUEUED too, and keeps the user's for later. */
#include "deadlines.h"
#include "freelist.h"
#include "stop.h"

#include <structmember.h>

typedef enum { NEW = 0, RUNNING, RECOVERING, DONE, QUEUED } stage;

/* Whose turn is it? RESUMABLE says at one look all that its next send has to know: it has been suspended before, is to go
 * on as it is, and nobody need count how deep. The others are looked at more closely. */
typedef enum { IDLE = 0, BUSY, RESUMABLE } turn;

#define STASH 4 /* arguments kept inline; more go into a tuple */

typedef struct {
    PyObject_HEAD
    PyObject *inner;           /* what is driven: the user's coroutine, or recovery's */
    sendfunc send;             /* inner's own am_send, or PyIter_Send */
    fs_guard *guard;
    fs_permit permit;
    uint64_t gate;
    fs_ticks start;
    fs_ns limit;               /* the guard's, or 0: the end of this attempt has something to tell */
    fs_ticks deadline;         /* for remaining() */
    fs_ns until;               /* CLOCK_MONOTONIC bound on the attempt, FS_FOREVER: none but the guard's */
    fs_deadline expiry;        /* armed at the first suspension */
    fs_load *load;             /* whose place it holds; NULL: none */
    PyObject *queued;          /* the user's coroutine, while QUEUED */
    PyObject *names;           /* keyword names of the call, as in a vectorcall */
    PyObject *packed;          /* all argument values where they do not fit the stash */
    PyObject *stash[STASH];
    PyObject *weakrefs;
    uint8_t positional;        /* of stash; packed knows its own from names */
    uint8_t stashed;
    uint8_t stage;
    uint8_t mode;
    bool tracked;
    bool suspended;            /* at least once */
    bool nested;               /* inner is one of us: C calls C, and nobody else counts how deep */
    uint8_t turn;
    bool has_arguments;
} fs_awaitable;

FS_FREE_LIST(fs_awaitable, 64)

#ifdef FS_KEEPS_STOP
PyObject *fs_stop_kept;
#endif

static bool keep_arguments(fs_awaitable *a, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    Py_ssize_t positional = PyVectorcall_NARGS(nargsf);
    Py_ssize_t all = positional + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    a->has_arguments = true;
    a->names = Py_XNewRef(kwnames);
    if (FS_LIKELY(all <= STASH)) {
        for (Py_ssize_t i = 0; i < all; i++) a->stash[i] = Py_NewRef(args[i]);
        a->positional = (uint8_t)positional;
        a->stashed = (uint8_t)all;
        return true;
    }
    a->packed = PyTuple_New(all);
    if (!a->packed) return false;
    for (Py_ssize_t i = 0; i < all; i++) PyTuple_SET_ITEM(a->packed, i, Py_NewRef(args[i]));
    return true;
}

/* (args, kwargs) as recovery wants them; None where none were kept. */
static PyObject *arguments_of(fs_awaitable *a) {
    if (!a->has_arguments) return Py_NewRef(Py_None);
    if (!a->packed) return fs_arguments_pack(a->stash, a->positional, a->names);
    Py_ssize_t named = a->names ? PyTuple_GET_SIZE(a->names) : 0;
    size_t positional = (size_t)(PyTuple_GET_SIZE(a->packed) - named);
    return fs_arguments_pack(((PyTupleObject *)a->packed)->ob_item, positional, a->names);
}

static void drop_arguments(fs_awaitable *a) {
    for (uint8_t i = 0; i < a->stashed; i++) Py_CLEAR(a->stash[i]);
    a->stashed = 0;
    a->has_arguments = false;
    Py_CLEAR(a->names);
    Py_CLEAR(a->packed);
}

/* Steals `inner`. */
static void drive_this(fs_awaitable *a, PyObject *inner) {
    PyAsyncMethods *async = Py_TYPE(inner)->tp_as_async;
    a->send = async && async->am_send ? async->am_send : PyIter_Send;
    a->nested = Py_TYPE(inner) == &fs_awaitable_type;
    Py_XSETREF(a->inner, inner);
}

/* The iterator behind an awaitable; coroutines are their own. Steals `awaitable`. */
PyObject *fs_inner_iterator(PyObject *awaitable) {
    if (FS_LIKELY(PyCoro_CheckExact(awaitable)) || Py_TYPE(awaitable) == &fs_awaitable_type) return awaitable;
    if (PyGen_CheckExact(awaitable)) return awaitable; /* types.coroutine */
    PyAsyncMethods *async = Py_TYPE(awaitable)->tp_as_async;
    PyObject *iterator = NULL;
    if (async && async->am_await) {
        iterator = async->am_await(awaitable);
        if (iterator && !PyIter_Check(iterator)) {
            PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'",
                         Py_TYPE(iterator)->tp_name);
            Py_CLEAR(iterator);
        }
    } else
        PyErr_Format(PyExc_TypeError, "a guarded coroutine function returned %.100s, which can't be awaited",
                     Py_TYPE(awaitable)->tp_name);
    Py_DECREF(awaitable);
    return iterator;
}

/* Could a cycle through an argument or the function hold the awaitable before it is ever awaited? Not where all the
 * arguments are numbers and strings, as on most hot paths. */
static bool may_be_kept(fs_guard *guard, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    Py_ssize_t all = PyVectorcall_NARGS(nargsf) + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    /* What a caller is told to call is the function then. */
    bool told = guard->skip && all > 0 && PyFunction_Check(args[0]);
    for (Py_ssize_t i = told; i < all; i++)
        if (PyType_IS_GC(Py_TYPE(args[i]))) return true;
    return told ? ((PyFunctionObject *)args[0])->func_closure != NULL : guard->has_closure;
}

PyObject *fs_awaitable_new(fs_guard *guard, fs_mode mode, fs_ns until, PyObject *inner, PyObject *const *args,
                           size_t nargsf, PyObject *kwnames) {
    PyObject *iterator = fs_inner_iterator(inner);
    if (FS_UNLIKELY(!iterator)) return NULL;
    fs_awaitable *a = take_free();
    if (!a) {
        a = PyObject_GC_New(fs_awaitable, &fs_awaitable_type);
        if (!a) {
            Py_DECREF(iterator);
            return NULL;
        }
        memset((char *)a + sizeof(PyObject), 0, sizeof *a - sizeof(PyObject));
    }
    drive_this(a, iterator);
    a->guard = (fs_guard *)Py_NewRef((PyObject *)guard);
    a->until = until;
    a->mode = (uint8_t)(mode | FS_ASYNC);
    a->limit = mode == FS_ATTEMPT ? 0 : fs_load_relaxed(&guard->limit);
    a->stage = NEW;
    if (FS_UNLIKELY(may_be_kept(guard, args, nargsf, kwnames))) {
        PyObject_GC_Track((PyObject *)a);
        a->tracked = true;
    }
    if (guard->keeps_arguments && mode != FS_ATTEMPT && !keep_arguments(a, args, nargsf, kwnames)) {
        Py_DECREF(a);
        return NULL;
    }
    return (PyObject *)a;
}

/* inner.close(). An iterator without one, as of a future, has nothing to close. */
PyObject *fs_inner_close(PyObject *inner) {
    PyObject *method = PyObject_GetAttrString(inner, "close");
    if (!method) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return NULL;
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyObject *closed = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return closed;
}

/* Close what will not be run: a coroutine that was never started goes without a warning. */
static void discard(PyObject *inner) {
    PyObject *closed = fs_inner_close(inner);
    if (!closed) fs_report_and_clear(inner);
    Py_XDECREF(closed);
}

/* The same for what was kept while QUEUED. Leaves a passing exception as it is. */
static void discard_queued(fs_awaitable *a) {
    PyObject *passing = fs_exception_take(), *queued = a->queued;
    a->queued = NULL;
    discard(queued);
    Py_DECREF(queued);
    if (passing) fs_exception_put(passing);
}

static inline void leave(fs_awaitable *a) {
    fs_load *load = a->load;
    if (FS_LIKELY(load == NULL)) return;
    a->load = NULL;
    fs_guard_leave(a->guard, load);
}

static fs_ns shorter(fs_ns a, fs_ns b) { return a < b ? a : b; }

/* What an attempt that ends without an outcome leaves behind. */
static void abandon(fs_awaitable *a);

/* The first suspension: from here on somebody else may hold us, and time may pass without us. False: it cannot be
 * bounded, and an exception is set. */
static bool first_suspension(fs_awaitable *a, PyObject *yielded) {
    a->suspended = true;
    if (!a->tracked) PyObject_GC_Track((PyObject *)a);
    a->tracked = true;
    if (a->stage != RUNNING || (fs_load_relaxed(&a->guard->reach) == FS_FOREVER && a->until == FS_FOREVER)) return true;
    fs_armed_as armed = fs_deadline_arm(&a->expiry, a->start, a->deadline, yielded);
    if (FS_UNLIKELY(armed == FS_NOT_ARMED)) fs_report_and_clear(a->guard->recovery); /* and then it goes on, and is late at worst */
    return armed != FS_UNSUPPORTED;
}

/* The deadline has fired. Take back what it has asked of the task, and hear what to raise in place of `exception` (NULL:
 * a value came): a new reference, or NULL for what it was. */
static PyObject *expired(fs_awaitable *a, PyObject *exception) {
    double given = (double)fs_ticks_to_ns(a->deadline > a->start ? a->deadline - a->start : 0) / 1e9;
    PyObject *task = a->expiry.task;
    a->expiry.task = NULL;
    a->expiry.fired = false;
    PyObject *instead = PyObject_CallMethod(a->guard->recovery, "expired", "OiOd", task, (int)a->expiry.cancelling,
                                            exception ? exception : Py_None, given);
    if (!instead) fs_report_and_clear(a->guard->recovery);
    Py_DECREF(task);
    if (instead == Py_None) Py_CLEAR(instead);
    return instead;
}

static PySendResult drive(fs_awaitable *a, PyObject *arg, PyObject **result);
static PySendResult raised(fs_awaitable *a, PyObject **result);
static PySendResult let_in(fs_awaitable *a, PyObject *code, PyObject **result);
static PySendResult not_waited(fs_awaitable *a, PyObject **result);

/* Go on with a coroutine of recovery's. Steals it. */
static PySendResult recover(fs_awaitable *a, PyObject *coroutine, PyObject **result) {
    drive_this(a, coroutine);
    a->stage = RECOVERING;
    a->deadline = fs_ns_add(a->start, fs_ns_to_ticks(fs_load_relaxed(&a->guard->overall)));
    drop_arguments(a);
    return drive(a, Py_None, result);
}

/* Who outlives its end (a finished task's coroutine) keeps nothing of the call; the others end with it anyway. */
static void end(fs_awaitable *a) {
    a->stage = DONE;
    a->turn = IDLE;
    if (FS_UNLIKELY(Py_REFCNT(a) > 1)) drop_arguments(a);
}

static PySendResult done(fs_awaitable *a, PyObject *answer, PyObject **result) {
    end(a);
    *result = answer;
    return answer ? PYGEN_RETURN : PYGEN_ERROR;
}

/* Keep a value for a fallback to serve. The arguments are still here: there is one. */
static void remember(fs_awaitable *a, PyObject *value, fs_ticks stamp) {
    if (!a->has_arguments) return;
    Py_ssize_t named = a->names ? PyTuple_GET_SIZE(a->names) : 0;
    if (a->packed)
        fs_guard_remember(a->guard, ((PyTupleObject *)a->packed)->ob_item,
                          (size_t)(PyTuple_GET_SIZE(a->packed) - named), a->names, value, stamp);
    else
        fs_guard_remember(a->guard, a->stash, a->positional, a->names, value, stamp);
}

/* The attempt returned a value, but something has to be told: the slow end of finished(). Steals `value`. */
static PySendResult finished_slow(fs_awaitable *a, PyObject *value, fs_ns took, fs_ticks stamp, PyObject **result) {
    PyObject *answer;
    if (a->guard->judge) {
        PyObject *arguments = arguments_of(a);
        if (!arguments) {
            fs_breaker_ignore(fs_guard_breaker(a->guard), a->permit);
            Py_DECREF(value);
            return done(a, NULL, result);
        }
        bool judged = fs_guard_judge(a->guard, a->mode, value, a->permit, took, arguments, &answer);
        Py_DECREF(arguments);
        if (judged) {
            Py_DECREF(value);
            bool final = !answer || fs_mode_of(a->mode) == FS_ATTEMPT;
            return final ? done(a, answer, result) : recover(a, answer, result);
        }
    }
    bool late = stamp >= a->deadline;
    if (a->guard->memory && !late) remember(a, value, stamp);
    int mode = a->mode | (late ? FS_LATE : 0);
    return done(a, fs_guard_succeeded(a->guard, mode, value, a->permit, a->gate, took, stamp), result);
}

static PySendResult finished(fs_awaitable *a, PyObject *value, PyObject **result) {
    fs_guard *guard = a->guard;
    if (a->stage == RECOVERING) {
        bool raises = fs_mode_of(a->mode) == FS_RAISE;
        return done(a, raises ? fs_guard_unpack(value) : value, result);
    }
    if (FS_UNLIKELY(a->stage == QUEUED)) return let_in(a, value, result);
    fs_ticks stamp = fs_stamp();
    if (FS_UNLIKELY(fs_deadline_disarm(&a->expiry))) Py_XDECREF(expired(a, NULL)); /* it came too late to matter */
    leave(a);
    fs_ns took = fs_ticks_to_ns(stamp - a->start);
    fs_histogram *histogram = fs_guard_histogram(guard);
#if FS_MANY_WRITERS
    bool due = histogram == NULL || fs_slices_due(&histogram->slices, stamp);
#else
    bool due = fs_slices_due(&histogram->slices, stamp);
#endif
    if (FS_UNLIKELY((took >= a->limit) | (fs_breaker_gate(fs_load_acquire(&guard->breaker)) != a->gate) | due))
        return finished_slow(a, value, took, stamp, result);
    fs_histogram_defer(histogram, took);
    if (FS_UNLIKELY(guard->memory != NULL)) remember(a, value, stamp);
    if (FS_LIKELY(fs_mode_of(a->mode) == FS_RAISE)) {
        end(a);
        *result = value;
        return PYGEN_RETURN;
    }
    return done(a, fs_result_success(guard, value, took), result);
}

/* It gave no value; an exception is set. */
static PySendResult raised(fs_awaitable *a, PyObject **result) {
    if (a->stage == RECOVERING) {
        /* No memory, or an interrupt: it may not have come to settling. A permit given back already is nobody's. */
        fs_breaker_ignore(fs_guard_breaker(a->guard), a->permit);
        return done(a, NULL, result);
    }
    if (FS_UNLIKELY(a->stage == QUEUED)) { /* cancelled, most likely: it never began */
        discard_queued(a);
        return done(a, NULL, result);
    }
    fs_ticks stamp = fs_stamp();
    leave(a);
    fs_ns took = fs_ticks_to_ns(stamp - a->start);
    PyObject *exception = fs_exception_raised();
    PyObject *instead = fs_deadline_disarm(&a->expiry) ? expired(a, exception) : NULL;
    if (instead) Py_SETREF(exception, instead);
    PyObject *arguments = PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_Exception) ? arguments_of(a) : NULL;
    fs_exception_put(exception);
    int mode = a->mode | (stamp >= a->deadline ? FS_LATE : 0);
    PyObject *answer = fs_guard_failed(a->guard, mode, a->permit, took, stamp, arguments);
    Py_XDECREF(arguments);
    bool final = !answer || fs_mode_of(a->mode) == FS_ATTEMPT;
    return final ? done(a, answer, result) : recover(a, answer, result);
}

/* It has suspended, and its deadline cannot be armed: then it does not go on, rather than go on without one. */
static PySendResult unbounded(fs_awaitable *a, PyObject **result) {
    PyObject *why = fs_exception_take();
    a->turn = BUSY;
    Py_CLEAR(*result);
    discard(a->inner);
    abandon(a);
    fs_exception_put(why);
    return done(a, NULL, result);
}

/* Let the inner coroutine run to where it is suspended next, or to its end. It is BUSY still: whoever calls says what is
 * next. Where it has ended it stays so until all of it is told: keys, judging, fallbacks and listeners are users' code,
 * which may have us at hand. */
static inline PySendResult step(fs_awaitable *a, PyObject *arg, PyObject **result) {
    a->turn = BUSY;
    fs_ticks outer = fs_frame_push(a->deadline);
    PySendResult status = a->send(a->inner, arg, result);
    fs_frame_deadline = outer;
    return status;
}

static inline PySendResult ended(fs_awaitable *a, PySendResult status, PyObject **result) {
    if (FS_LIKELY(status == PYGEN_RETURN)) return finished(a, *result, result);
    bool ours = FS_UNLIKELY(a->stage == QUEUED) && PyErr_ExceptionMatches(PyExc_Exception);
    return ours ? not_waited(a, result) : raised(a, result);
}

static PySendResult drive(fs_awaitable *a, PyObject *arg, PyObject **result) {
    if (FS_UNLIKELY(a->nested) && Py_EnterRecursiveCall(" while awaiting a guarded call")) return raised(a, result);
    PySendResult status = step(a, arg, result);
    if (FS_UNLIKELY(a->nested)) Py_LeaveRecursiveCall();
    if (status != PYGEN_NEXT) return ended(a, status, result);
    a->turn = a->nested ? IDLE : RESUMABLE;
    return FS_LIKELY(a->suspended) || first_suspension(a, *result) ? PYGEN_NEXT : unbounded(a, result);
}

/* The same where it is RESUMABLE. */
static inline PySendResult resume(fs_awaitable *a, PyObject *arg, PyObject **result) {
    PySendResult status = step(a, arg, result);
    if (FS_UNLIKELY(status != PYGEN_NEXT)) return ended(a, status, result);
    a->turn = RESUMABLE;
    return PYGEN_NEXT;
}

/* The gate said no at the time `now`, by a->permit. */
static PySendResult refused(fs_awaitable *a, fs_ns now, PyObject **result) {
    fs_guard *guard = a->guard;
    a->start = fs_stamp();
    discard(a->inner);
    PyObject *arguments = arguments_of(a);
    PyObject *answer = arguments ? fs_guard_refused(guard, a->mode, a->permit, now, arguments) : NULL;
    Py_XDECREF(arguments);
    bool final = !answer || !guard->has_fallbacks || fs_mode_of(a->mode) == FS_ATTEMPT;
    return final ? done(a, answer, result) : recover(a, answer, result);
}

/* The queue has raised of its own accord, which nobody has thrown into it: then there is no waiting for this call. */
static PySendResult not_waited(fs_awaitable *a, PyObject **result) {
    fs_report_and_clear(a->guard->recovery);
    drive_this(a, a->queued);
    a->queued = NULL;
    return refused(a, fs_now(), result);
}

/* Go to the queue, and keep the user's coroutine for when we come out. */
static PySendResult queue(fs_awaitable *a, fs_ns now, PyObject **result) {
    unsigned long long until = a->until == FS_FOREVER ? 0 : a->until;
    PyObject *coroutine = PyObject_CallMethod(a->guard->recovery, "wait_async", "KKK", 1ULL,
                                              (unsigned long long)fs_load_code(a->permit), until);
    if (!coroutine) {
        fs_report_and_clear(a->guard->recovery);
        return refused(a, now, result);
    }
    a->queued = a->inner;
    a->inner = NULL;
    drive_this(a, coroutine);
    a->stage = QUEUED;
    a->deadline = FS_FOREVER;
    return drive(a, Py_None, result);
}

/* Ask deadline, breaker and load control. False: no, or not yet, and *result and *status are there. */
static bool begin_gated(fs_awaitable *a, PyObject **result, PySendResult *status) {
    fs_guard *guard = a->guard;
    fs_ns now;
    bool overdue = fs_guard_overdue(guard, &a->until);
    a->permit = overdue ? FS_TOO_LATE : fs_guard_admit(guard, &a->gate, &now);
    if (FS_UNLIKELY(overdue)) now = fs_now();
    bool waits = fs_permit_granted(a->permit) && fs_guard_enter_load(guard, 1, &a->permit, a->gate, &now, &a->load);
    if (fs_permit_granted(a->permit)) return true;
    *status = waits ? queue(a, now, result) : refused(a, now, result);
    return false;
}

/* Chaos is on: what it has in store for this call stands before the user's coroutine, and is driven as a part of it. */
static void shake(fs_awaitable *a) {
    PyObject *instead = PyObject_CallMethod(a->guard->recovery, "shake_async", "O", a->inner);
    if (instead)
        drive_this(a, instead);
    else
        fs_report_and_clear(a->guard->recovery);
}

/* The gate is passed, at a->start. */
static void start(fs_awaitable *a) {
    fs_guard *guard = a->guard;
    fs_guard_flush(guard);
    a->deadline = fs_guard_deadline(guard, a->start);
    if (FS_UNLIKELY(!fs_gate_clear(a->gate) | fs_load_relaxed(&guard->disabled))) {
        a->limit = 0; /* the breaker has to hear of it */
        if (a->gate & FS_GATE_CHAOS) shake(a);
    }
    if (FS_UNLIKELY(a->until != FS_FOREVER)) {
        fs_ns now = fs_now();
        fs_ns left = a->until > now ? a->until - now : 0;
        a->deadline = shorter(a->deadline, a->start + fs_ns_to_ticks(left));
        a->limit = 0;
    }
    a->stage = RUNNING;
}

/* Out of the queue, by the code that recovery gives: 0, or what refused. Steals `code`. */
static PySendResult let_in(fs_awaitable *a, PyObject *code, PyObject **result) {
    uint64_t why = PyLong_AsUnsignedLongLong(code);
    Py_DECREF(code);
    drive_this(a, a->queued);
    a->queued = NULL;
    fs_ns now = fs_now();
    a->permit = fs_load_refused(why, 1);
    if (why == 0) {
        a->permit = fs_guard_admit_waited(a->guard, 1, fs_load_relaxed(&a->guard->load), &a->gate, &now);
        if (fs_permit_granted(a->permit)) a->load = fs_load_relaxed(&a->guard->load);
    }
    if (!fs_permit_granted(a->permit)) return refused(a, now, result);
    a->suspended = false; /* it has not begun before */
    a->start = fs_stamp();
    start(a);
    return drive(a, Py_None, result);
}

/* Pass the gate, or be refused: then *result and the answer are final. */
static bool begin(fs_awaitable *a, PyObject **result, PySendResult *status) {
    fs_guard *guard = a->guard;
    a->gate = fs_breaker_gate(fs_load_acquire(&guard->breaker));
    a->permit = fs_permit_of(a->gate);
    a->start = fs_stamp();
    bool bounded = (a->start >= fs_frame_now()) | fs_bounds_exist();
    bool gated = !fs_gate_clear(a->gate) | fs_load_relaxed(&guard->disabled) | bounded;
    if (FS_UNLIKELY(fs_load_relaxed(&guard->controlled)) && !gated) {
        gated = !fs_load_enter(fs_load_relaxed(&guard->load), a->start);
        a->load = gated ? NULL : fs_load_relaxed(&guard->load);
    }
    if (FS_UNLIKELY(gated)) {
        if (!begin_gated(a, result, status)) return false;
        a->start = fs_stamp();
    }
    start(a);
    return true;
}

/* May it be driven now? With the words a coroutine uses. */
static bool usable(fs_awaitable *a) {
    if (FS_UNLIKELY(a->turn == BUSY)) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return false;
    }
    if (FS_UNLIKELY(a->stage == DONE)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return false;
    }
    return true;
}

static PySendResult awaitable_send(PyObject *self, PyObject *arg, PyObject **result) {
    fs_awaitable *a = (fs_awaitable *)self;
    if (a->turn == RESUMABLE) return resume(a, arg, result);
    *result = NULL;
    if (FS_UNLIKELY(!usable(a))) return PYGEN_ERROR;
    if (a->stage == NEW) {
        if (FS_UNLIKELY(arg != Py_None)) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        PySendResult status;
        a->turn = BUSY; /* refusals are told too */
        if (FS_UNLIKELY(!begin(a, result, &status))) return status;
    }
    return drive(a, arg, result);
}

/* As the methods answer: a yielded object, or NULL with StopIteration or the error. */
PyObject *fs_send_as_method(PySendResult status, PyObject *result) {
    if (status == PYGEN_NEXT) return result;
    if (status == PYGEN_RETURN) fs_stop_fresh(result);
    return NULL;
}

static PyObject *awaitable_iternext(PyObject *self) {
    PyObject *result;
    PySendResult status = awaitable_send(self, Py_None, &result);
    if (status != PYGEN_RETURN) return fs_send_as_method(status, result);
    /* Held by `await` alone, we die as soon as it has the value, and take the value out of the kept exception. */
    fs_stop(result, Py_REFCNT(self) == 1);
    return NULL;
}

static PyObject *awaitable_send_method(PyObject *self, PyObject *arg) {
    PyObject *result;
    PySendResult status = awaitable_send(self, arg, &result);
    return fs_send_as_method(status, result);
}

/* inner.throw(*args). An iterator without a throw raises where it waits, as under a bare await. */
PyObject *fs_inner_throw(PyObject *inner, PyObject *args) {
    PyObject *method = PyObject_GetAttrString(inner, "throw");
    if (method) {
        PyObject *yielded = PyObject_CallObject(method, args);
        Py_DECREF(method);
        return yielded;
    }
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return NULL;
    PyErr_Clear();
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback)) return NULL;
    if (PyExceptionInstance_Check(type))
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    else if (PyExceptionClass_Check(type))
        PyErr_SetObject(type, value);
    else
        PyErr_SetString(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException");
    return NULL;
}

static PyObject *awaitable_throw(PyObject *self, PyObject *args) {
    fs_awaitable *a = (fs_awaitable *)self;
    if (!usable(a)) return NULL;
    a->turn = BUSY;
    fs_ticks outer = fs_frame_push(a->stage == NEW ? FS_FOREVER : a->deadline);
    PyObject *yielded = fs_inner_throw(a->inner, args);
    fs_frame_deadline = outer;
    if (a->stage == NEW) a->stage = DONE; /* never began, so there is nothing to settle */
    if (yielded || a->stage == DONE) {
        a->turn = IDLE;
        return yielded;
    }
    PyObject *result = NULL;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PySendResult ended = raised(a, &result);
        return fs_send_as_method(ended, result);
    }
    PyObject *stop = fs_exception_take();
    PyObject *value = Py_NewRef(((PyStopIterationObject *)stop)->value ? ((PyStopIterationObject *)stop)->value : Py_None);
    Py_DECREF(stop);
    PySendResult status = finished(a, value, &result);
    return fs_send_as_method(status, result);
}

static void abandon(fs_awaitable *a) {
    bool began = a->stage == RUNNING;
    a->stage = DONE; /* first: who hears of it may have us at hand */
    a->turn = IDLE;
    leave(a);
    if (began) fs_guard_settle(a->guard, a->permit, 0, FS_IGNORED_OUTCOME, 0, 0);
    if (FS_UNLIKELY(a->queued != NULL)) discard_queued(a);
    if (fs_deadline_disarm(&a->expiry)) Py_XDECREF(expired(a, NULL));
}

/* A coroutine that refuses to close goes on living. */
static bool is_suspended(PyObject *inner) {
    PyObject *frame = PyObject_GetAttrString(inner, "cr_frame");
    PyErr_Clear();
    bool suspended = frame && frame != Py_None;
    Py_XDECREF(frame);
    return suspended;
}

static PyObject *awaitable_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_awaitable *a = (fs_awaitable *)self;
    if (a->stage == DONE) Py_RETURN_NONE;
    if (!usable(a)) return NULL;
    a->turn = BUSY;
    PyObject *closed = fs_inner_close(a->inner);
    a->turn = IDLE;
    PyObject *raised_by_close = closed ? NULL : fs_exception_take();
    if (closed || !is_suspended(a->inner)) abandon(a);
    if (raised_by_close) fs_exception_put(raised_by_close);
    return closed;
}

static int awaitable_traverse(PyObject *self, visitproc visit, void *arg) {
    fs_awaitable *a = (fs_awaitable *)self;
    Py_VISIT(a->inner);
    Py_VISIT(a->guard);
    Py_VISIT(a->expiry.task);
    Py_VISIT(a->queued);
    Py_VISIT(a->names);
    Py_VISIT(a->packed);
    for (uint8_t i = 0; i < a->stashed; i++) Py_VISIT(a->stash[i]);
    return 0;
}

static int awaitable_clear(PyObject *self) {
    fs_awaitable *a = (fs_awaitable *)self;
    abandon(a);
    drop_arguments(a);
    Py_CLEAR(a->inner);
    return 0;
}

static void dealloc(PyObject *self) {
    fs_awaitable *a = (fs_awaitable *)self;
    if (a->weakrefs) PyObject_ClearWeakRefs(self);
    if (FS_UNLIKELY(a->stage == RUNNING || a->expiry.task || a->queued)) {
        /* We may be dying while an exception passes through; settling must not disturb it. */
        PyObject *passing = fs_exception_take();
        abandon(a);
        if (passing) fs_exception_put(passing);
    }
    if (a->has_arguments) drop_arguments(a);
    Py_CLEAR(a->inner);
    Py_CLEAR(a->guard);
    fs_stop_forget();
    a->tracked = false;
    a->suspended = false;
    a->turn = IDLE;
    if (!give_free(a)) PyObject_GC_Del(self);
}

static void awaitable_dealloc(PyObject *self) {
    fs_awaitable *a = (fs_awaitable *)self;
    if (a->tracked) PyObject_GC_UnTrack(self);
    a->tracked = false;
    if (FS_LIKELY(!a->nested)) {
        dealloc(self);
        return;
    }
    Py_TRASHCAN_BEGIN(self, awaitable_dealloc)
    dealloc(self);
    Py_TRASHCAN_END
}

/* What `await` asks first: of the one that waits already there is no second. */
static PyObject *awaitable_await(PyObject *self) {
    fs_awaitable *a = (fs_awaitable *)self;
    if (a->stage == NEW || a->stage == DONE) return Py_NewRef(self);
    PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
    return NULL;
}

/* ---- What __await__() gives to Python code: an iterator, which a coroutine itself is not. */

typedef struct {
    PyObject_HEAD
    PyObject *awaitable;
} fs_steps;

static PyObject *awaitable_steps(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_steps *steps = PyObject_GC_New(fs_steps, &fs_steps_type);
    if (!steps) return NULL;
    steps->awaitable = Py_NewRef(self);
    PyObject_GC_Track((PyObject *)steps);
    return (PyObject *)steps;
}

static PyObject *steps_self(PyObject *self) { return Py_NewRef(self); }

static PyObject *steps_next(PyObject *self) {
    fs_awaitable *a = (fs_awaitable *)((fs_steps *)self)->awaitable;
    PyObject *result;
    PySendResult status = FS_LIKELY(a->turn == RESUMABLE) ? resume(a, Py_None, &result)
                                                          : awaitable_send((PyObject *)a, Py_None, &result);
    return FS_LIKELY(status == PYGEN_NEXT) ? result : fs_send_as_method(status, result);
}

static PyObject *steps_send(PyObject *self, PyObject *arg) {
    return awaitable_send_method(((fs_steps *)self)->awaitable, arg);
}

static PyObject *steps_throw(PyObject *self, PyObject *args) {
    return awaitable_throw(((fs_steps *)self)->awaitable, args);
}

static PyObject *steps_close(PyObject *self, PyObject *ignored) {
    return awaitable_close(((fs_steps *)self)->awaitable, ignored);
}

static int steps_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((fs_steps *)self)->awaitable);
    return 0;
}

static int steps_clear(PyObject *self) {
    Py_CLEAR(((fs_steps *)self)->awaitable);
    return 0;
}

static void steps_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    steps_clear(self);
    PyObject_GC_Del(self);
}

static PyMethodDef steps_methods[] = {
    {"send", steps_send, METH_O, "As of a coroutine."},
    {"throw", steps_throw, METH_VARARGS, "As of a coroutine."},
    {"close", steps_close, METH_NOARGS, "As of a coroutine."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject fs_steps_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.AwaitableSteps",
    .tp_doc = "The iterator over the steps of a guarded coroutine.",
    .tp_basicsize = sizeof(fs_steps),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = steps_dealloc,
    .tp_traverse = steps_traverse,
    .tp_clear = steps_clear,
    .tp_iter = steps_self,
    .tp_iternext = steps_next,
    .tp_methods = steps_methods,
};

static PyObject *awaitable_repr(PyObject *self) {
    fs_awaitable *a = (fs_awaitable *)self;
    return PyUnicode_FromFormat("<failsoft guarded %R>", a->inner ? a->inner : Py_None);
}

/* What coroutines show of themselves, shown of the inner one. */
static PyObject *get_of_inner(PyObject *self, void *name) {
    fs_awaitable *a = (fs_awaitable *)self;
    PyObject *value = a->inner ? PyObject_GetAttrString(a->inner, name) : NULL;
    if (value) return value;
    PyErr_Clear();
    Py_RETURN_NONE;
}

static PyMethodDef awaitable_methods[] = {
    {"send", awaitable_send_method, METH_O, "send($self, value, /)\n--\n\nAs of a coroutine."},
    {"throw", awaitable_throw, METH_VARARGS, "throw($self, /, *args)\n--\n\nAs of a coroutine."},
    {"__await__", awaitable_steps, METH_NOARGS | METH_COEXIST, "__await__($self, /)\n--\n\nAs of a coroutine."},
    {"close", awaitable_close, METH_NOARGS, "close($self, /)\n--\n\nAs of a coroutine."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef awaitable_getset[] = {
    {"__name__", get_of_inner, NULL, NULL, "__name__"},
    {"__qualname__", get_of_inner, NULL, NULL, "__qualname__"},
    {"cr_await", get_of_inner, NULL, NULL, "cr_await"},
    {"cr_code", get_of_inner, NULL, NULL, "cr_code"},
    {"cr_frame", get_of_inner, NULL, NULL, "cr_frame"},
    {"cr_origin", get_of_inner, NULL, NULL, "cr_origin"},
    {"cr_running", get_of_inner, NULL, NULL, "cr_running"},
    {"cr_suspended", get_of_inner, NULL, NULL, "cr_suspended"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyAsyncMethods awaitable_async = {.am_await = awaitable_await, .am_send = awaitable_send};

PyTypeObject fs_awaitable_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.Awaitable",
    .tp_doc = "A guarded coroutine in flight.",
    .tp_basicsize = sizeof(fs_awaitable),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = awaitable_dealloc,
    .tp_traverse = awaitable_traverse,
    .tp_clear = awaitable_clear,
    .tp_repr = awaitable_repr,
    .tp_as_async = &awaitable_async,
    .tp_iternext = awaitable_iternext, /* without tp_iter: `await` wants it, nobody may iterate */
    .tp_methods = awaitable_methods,
    .tp_getset = awaitable_getset,
    .tp_weaklistoffset = offsetof(fs_awaitable, weakrefs),
};
