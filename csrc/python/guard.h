/* guard.h - the guarded call, as the C files behind the call types share it.
 *
 * What:    fs_guard is a callable that stands before another one. Its call path, outermost first:
 *
 *              guard.c      one entry a kind of guard: the success of a call through a clear gate, and nothing else
 *              routes.c     what only some guards have before or after that: de-duplication, keys, a memory
 *              call.c       everything that can also happen to one attempt: gated, refused, failed, slow, overrun
 *              awaitable.c  the same for coroutines: gate at the first send, outcome at the last
 *              recovery.py  all that a failure needs: classification, retry, fallback. Reached by one Python call
 *
 *          A success touches no exception API and allocates nothing.
 * States:  a guard has none; it looks at its breaker (owned by `owner`) and writes into its series (owned by
 *          `operation`), and holds both owners, so the blocks outlive it. `breaker` is a copy of *truth, refreshed when
 *          the gate says MOVED.
 * Units:   fs_ns for limits, stamps for frames.
 * Threads: under the GIL, or free-threaded with one histogram stripe a thread. All fields are written at birth, except
 *          breaker, histogram and vectorcall, which are single words replaced whole.
 * Errors:  Python's convention: NULL or -1 with an exception set.
 */
#ifndef FAILSOFT_PYTHON_GUARD_H
#define FAILSOFT_PYTHON_GUARD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "failsoft/load.h"
#include "bound.h"

/* What the caller of an attempt wants back. */
typedef enum {
    FS_RAISE = 0,   /* the value, or the exception */
    FS_RESULT,      /* an IntegrationResult, never an Exception */
    FS_ATTEMPT,     /* (kind, payload, permit, ns) of one attempt, for recovery.py; nothing settled but success */
    FS_ASYNC = 4,   /* flag: an awaitable asks, so recovery answers with a coroutine */
    FS_LATE = 8,    /* flag: the attempt came back after its deadline */
} fs_mode;

static inline fs_mode fs_mode_of(int mode) { return (fs_mode)(mode & ~(FS_ASYNC | FS_LATE)); }

/* A refusal, but not by the gate: the deadline of the block or the call around has passed. No permit's value. */
#define FS_TOO_LATE ((fs_permit)10)

/* How an attempt ended, as recovery.py says and hears it. */
typedef enum { FS_SUCCEEDED = 0, FS_FAILED, FS_IGNORED_OUTCOME, FS_REFUSED, FS_JUDGED } fs_outcome;

/* What few guards have. */
typedef struct {
    PyObject *memory_key;     /* arguments -> key; NULL: they are it */
    PyObject *shards;         /* a table of guards by key */
    Py_ssize_t memory_most;
    Py_ssize_t shards_most;
    Py_ssize_t memory_hand;   /* see fs_table_put */
    Py_ssize_t shards_hand;
} fs_tables;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *fn;             /* never changes: whoever calls the guard keeps it alive, and it keeps fn alive */
    vectorcallfunc *entry;    /* where fn keeps its own vectorcall; read at each call */
    fs_breaker *breaker;
#if FS_MANY_WRITERS
    fs_series *series;
#else
    fs_histogram *histogram;  /* an empty one that is always due, until the first call */
#endif
    fs_ns limit;              /* a call this long has something to tell */
    fs_ns reach;              /* how far from its start a call's deadline lies; FS_FOREVER: none */
    PyObject *memory;         /* a table of the last values, for a fallback; NULL: none */
    fs_load *load;            /* load control, in a block that `owner` keeps; NULL: none */
    /* cold */
#if !FS_MANY_WRITERS
    fs_series *series;
#endif
    fs_breaker **truth;
    fs_ns overall;
    fs_ns slow;
    fs_ns cancel_after;       /* a call cancelled after this long counts as timed out */
    PyObject *owner;          /* the Breaker */
    PyObject *operation;      /* the Operation */
    PyObject *recovery;       /* failsoft.recovery.Recovery */
    PyObject *judge;          /* failure=: value -> ErrorCategory or None; NULL: none */
    PyObject *dedupe;         /* failsoft.dedupe.Flights; NULL: none */
    PyObject *key;            /* key=: arguments -> key; NULL: none */
    fs_tables *tables;        /* there where `memory` or `key` is; NULL: neither */
    fs_ns tell_at;            /* a refusal is told of not before, */
    uint32_t told;            /* or in a newer generation than this */
    uint8_t skip;             /* leading arguments that are not the operation's own (what to call): 0 or 1 */
    PyObject *dict;
    PyObject *weakrefs;
    bool async;
    bool keeps_arguments;     /* a second attempt or a fallback may want them */
    bool has_fallbacks;
    bool has_closure;         /* fn may refer to what its own calls return */
    bool hands_over;          /* fn is not async but has returned an awaitable */
    bool disabled;
    bool controlled;          /* by load control, in `load` */
    bool undressed;           /* the looks of fn (names, docstring, ...) are not in `dict` yet */
} fs_guard;

extern PyTypeObject fs_guard_type, fs_plain_guard_type, fs_async_guard_type, fs_plain_async_guard_type;
extern PyTypeObject fs_awaitable_type, fs_steps_type, fs_refusal_type, fs_result_type, fs_ready_type;

static inline bool fs_is_any_guard(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object); /* none of them can be subclassed */
    return type == &fs_guard_type || type == &fs_plain_guard_type || type == &fs_async_guard_type ||
           type == &fs_plain_async_guard_type;
}

/* ---- guard.c */

typedef struct {
    PyObject *fn, *owner, *operation, *recovery, *judge;
    PyObject *memory_key, *dedupe, *key; /* NULL: none */
    Py_ssize_t memory_most, shards_most; /* 0: no memory, no shards */
    uint8_t skip;
    fs_breaker **truth;
    fs_series *series;
    fs_ns timeout, overall, slow, cancel_after;
    bool async, binds, keeps_arguments, has_fallbacks, has_closure, immortal, disabled, undressed;
} fs_guard_setup;

PyObject *fs_guard_new(const fs_guard_setup *setup);
int fs_guard_disable(PyObject *guard, bool disabled);

/* Pass this load control from the next call on; NULL: none. */
void fs_guard_control(PyObject *guard, fs_load *load);

/* Let other limits hold from the next call on. */
void fs_guard_retime(PyObject *guard, fs_ns timeout, fs_ns overall, fs_ns slow, fs_ns cancel_after);

/* Make the names that call.c needs. */
int fs_call_setup(void);

/* Ready the types and put them into the module. */
int fs_python_setup(PyObject *module);

/* Call fn through its own vectorcall. Its result needs no check here: our caller checks ours. */
static inline PyObject *fs_guard_enter(fs_guard *guard, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    vectorcallfunc entry = *guard->entry;
    if (FS_UNLIKELY(entry == NULL)) return PyObject_Vectorcall(guard->fn, args, nargsf, kwnames);
    return entry(guard->fn, args, nargsf, kwnames);
}

/* The histogram of this thread; NULL where it has none yet. */
static inline fs_histogram *fs_guard_histogram(fs_guard *guard) {
#if FS_MANY_WRITERS
    return fs_series_have(guard->series, fs_stripe());
#else
    return guard->histogram;
#endif
}

/* Count what the call before has left: see `pending` in histogram.h. Called right after the first clock read. */
static inline void fs_guard_flush(fs_guard *guard) {
#if FS_MANY_WRITERS
    (void)guard;
#else
    fs_histogram_flush(guard->histogram);
#endif
}

static inline fs_ticks fs_guard_deadline(const fs_guard *guard, fs_ticks start) {
    return fs_ns_add(start, fs_ns_to_ticks(fs_load_relaxed(&guard->reach)));
}

/* Has the deadline around a call of this guard passed? *until becomes the end of the block around it if earlier. */
static inline bool fs_guard_overdue(const fs_guard *guard, fs_ns *until) {
    if (FS_LIKELY(!fs_bounds_exist() & (fs_frame_now() == FS_FOREVER))) return false;
    return !fs_load_relaxed(&guard->disabled) && fs_overdue(fs_stamp(), until);
}

static inline bool fs_is_awaitable(PyObject *object) {
    PyAsyncMethods *async = Py_TYPE(object)->tp_as_async;
    return FS_UNLIKELY(async != NULL) && async->am_await != NULL && Py_TYPE(object) != &fs_result_type;
}

/* ---- call.c: one attempt */

/* All that the fast entries leave out. `args` as in a vectorcall. `until` bounds the attempt besides the guard's own
 * timeout (FS_FOREVER: nothing does). */
PyObject *fs_guard_run(fs_guard *guard, fs_mode mode, fs_ns until, PyObject *const *args, size_t nargsf,
                       PyObject *kwnames);

/* What is true now, if the breaker's block has moved. */
fs_breaker *fs_guard_breaker(fs_guard *guard);

/* A permit and the gate it was issued under; not granted: refused, at the time *now. Announces what changed. */
fs_permit fs_guard_admit(fs_guard *guard, uint64_t *gate, fs_ns *now);

/* After fs_guard_admit has given *permit: pass load control, n calls at once. *held is what the call has to leave, NULL:
 * nothing. Not let in: the permit is withdrawn, *permit says why, and true says that the call may wait for it. */
bool fs_guard_enter_load(fs_guard *guard, uint64_t n, fs_permit *permit, uint64_t gate, fs_ns *now, fs_load **held);

/* A granted permit and what it holds, waiting for it in this thread if need be, not beyond `until`; else refused, or 0
 * with an exception set (an interrupt). */
fs_permit fs_guard_pass(fs_guard *guard, uint64_t n, fs_ns until, uint64_t *gate, fs_ns *now, fs_load **held);

/* Out of the queue, in: now the breaker's word holds as of now. What was held is given back where it says no. */
fs_permit fs_guard_admit_waited(fs_guard *guard, uint64_t n, fs_load *held, uint64_t *gate, fs_ns *now);

/* Somebody waits for what has just been left. Leaves a passing exception as it is. */
void fs_guard_wake(fs_guard *guard);

static inline void fs_guard_leave(fs_guard *guard, fs_load *load) {
    if (fs_load_leave(load)) fs_guard_wake(guard);
}

/* A value has come back and is a success: record, settle, and shape it by mode. Steals `value`. */
PyObject *fs_guard_succeeded(fs_guard *guard, int mode, PyObject *value, fs_permit permit, uint64_t gate, fs_ns took,
                             fs_ticks end);

/* Ask failure= about a value. False: it is a success. True: recovery has answered, as for fs_guard_failed. */
bool fs_guard_judge(fs_guard *guard, int mode, PyObject *value, fs_permit permit, fs_ns took, PyObject *arguments,
                    PyObject **answer);

/* An exception is set: hand it to recovery. `arguments` is (args, kwargs), None where nothing may want them, or NULL
 * where there was no memory for them, and then the exception is final: nothing may be called without them. The
 * answer is final, or with FS_ASYNC a coroutine that gives it. */
PyObject *fs_guard_failed(fs_guard *guard, int mode, fs_permit permit, fs_ns took, fs_ticks end, PyObject *arguments);

/* Count a refusal, in metrics and flight recorder, and let it be published and logged where it is news. */
void fs_guard_count_refusal(fs_guard *guard, int mode, fs_permit permit, fs_ns now);

/* The gate said no, by `permit`. Likewise, a coroutine only where there are fallbacks. */
PyObject *fs_guard_refused(fs_guard *guard, int mode, fs_permit permit, fs_ns now, PyObject *arguments);

/* Somebody wants an event of each refusal. */
void fs_hear_refusals(bool heard);

/* Something of ours has raised where a caller's result is at stake: say so once, and let the caller's result be. */
void fs_report_and_clear(PyObject *where);

/* What recovery answered in mode FS_RAISE, (True, value) or (False, exception): the value, or the exception set with
 * its traceback as it was. Steals `answer`. */
PyObject *fs_guard_unpack(PyObject *answer);

/* Record an attempt in the series and tell the breaker. */
void fs_guard_settle(fs_guard *guard, fs_permit permit, uint64_t gate, fs_outcome outcome, fs_ns took, fs_ticks end);

/* The same for a batch: `count` calls of which `failed` have failed, that took `took` together. `slow` more of the batch,
 * recorded before, were slow. */
typedef struct {
    uint32_t count, failed, slow;
    fs_ns took;
} fs_batch;

void fs_guard_settle_batch(fs_guard *guard, fs_permit permit, fs_outcome outcome, const fs_batch *batch);

/* Record the durations of calls of a batch. Answers how many were slow; -1 with an exception set: one is negative. */
int64_t fs_guard_record_many(fs_guard *guard, fs_permit permit, const int64_t *ns, size_t count);

/* (args, kwargs) from a vectorcall. */
PyObject *fs_arguments_pack(PyObject *const *args, size_t nargsf, PyObject *kwnames);

/* The exception that is set, normalised, with its traceback; none is set afterwards. And back. Steals. */
PyObject *fs_exception_take(void);

/* The same after a call that gave NULL. Where it has not said why, that is the error, as everywhere in Python. */
PyObject *fs_exception_raised(void);
void fs_exception_put(PyObject *exception);

/* ---- place.c */

extern PyTypeObject fs_place_type;

/* An object that holds the place that has been entered, and leaves it when it dies; without memory for it, now. */
PyObject *fs_place_new(fs_guard *guard, fs_load *load);

/* ---- routes.c */

/* Where a call of this guard goes: through its de-duplication, to the guard of its key, or to fs_guard_run. */
PyObject *fs_guard_route(fs_guard *guard, fs_mode mode, PyObject *const *args, size_t nargsf, PyObject *kwnames);

/* The same, past the de-duplication. */
PyObject *fs_guard_once(fs_guard *guard, fs_mode mode, PyObject *const *args, size_t nargsf, PyObject *kwnames);

/* Keep a value for these arguments. Never raises. */
void fs_guard_remember(fs_guard *guard, PyObject *const *args, size_t nargsf, PyObject *kwnames, PyObject *value,
                       fs_ticks stamp);

/* (value, age in seconds) kept for these arguments, or None. */
PyObject *fs_guard_recall(fs_guard *guard, PyObject *const *args, size_t nargsf, PyObject *kwnames);

/* ---- awaitable.c */

/* Steals `inner`, a coroutine or another awaitable. */
PyObject *fs_awaitable_new(fs_guard *guard, fs_mode mode, fs_ns until, PyObject *inner, PyObject *const *args,
                           size_t nargsf, PyObject *kwnames);

/* The iterator behind an awaitable; coroutines are their own. Steals `awaitable`. */
PyObject *fs_inner_iterator(PyObject *awaitable);

/* inner.throw(*args) and inner.close(), also of iterators that have no such method. */
PyObject *fs_inner_throw(PyObject *inner, PyObject *args);
PyObject *fs_inner_close(PyObject *inner);

/* What a send came to, as the methods answer: a yielded object, or NULL with StopIteration or the error. */
PyObject *fs_send_as_method(PySendResult status, PyObject *result);

/* ---- result.c */

PyObject *fs_refusal_new(fs_guard *guard, fs_permit permit, fs_ns now);
PyObject *fs_refusal_raise(PyObject *refusal);
PyObject *fs_result_success(fs_guard *guard, PyObject *value, fs_ns took);
PyObject *fs_result_refused(fs_guard *guard, fs_permit permit, fs_ns now);
int fs_refusal_errors_set(PyObject *const classes[6]);

#endif
