#include "guard.h"

/* The permit of a call that passed no gate: of generation 0, which no breaker is ever in. */
#define FS_NO_PERMIT 1

/* Names of what is called in recovery.py, made once. */
static PyObject *name_failed, *name_failed_async, *name_refused, *name_refused_async, *name_judged,
    *name_judged_async, *name_announce, *name_refusal_seen, *name_place_left, *name_shake, *name_in_loop;

static bool refusals_heard;

void fs_hear_refusals(bool heard) { fs_store_relaxed(&refusals_heard, heard); }

/* Its place in GIVE_UPS of decisions.py. */
#define FS_DEADLINE_PASSED 7

/* A guard tells of its refusals at the first of each generation, and then this often. */
#define FS_TELL_EVERY (60 * FS_NS_PER_SECOND)

int fs_call_setup(void) {
    struct { PyObject **name; const char *text; } all[] = {
        {&name_failed, "failed"},   {&name_failed_async, "failed_async"},   {&name_refused, "refused"},
        {&name_judged, "judged"},   {&name_refused_async, "refused_async"}, {&name_judged_async, "judged_async"},
        {&name_announce, "_announce"},  {&name_refusal_seen, "refusal_seen"},
        {&name_place_left, "place_left"}, {&name_shake, "shake"},       {&name_in_loop, "in_loop"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (!(*all[i].name = PyUnicode_InternFromString(all[i].text))) return -1;
    return 0;
}

PyObject *fs_exception_take(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!type) return NULL;
    PyErr_NormalizeException(&type, &value, &traceback);
    PyException_SetTraceback(value, traceback ? traceback : Py_None); /* frames taken off by whoever raised stay off */
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

PyObject *fs_exception_raised(void) {
    if (FS_UNLIKELY(!PyErr_Occurred()))
        PyErr_SetString(PyExc_SystemError, "a guarded callable returned NULL without setting an exception");
    return fs_exception_take();
}

void fs_exception_put(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), exception, PyException_GetTraceback(exception));
#endif
}

/* Something of ours has raised where a caller's result is at stake: say so once, and let the caller's result be. An
 * interrupt is not lost: it comes back at the next chance. */
void fs_report_and_clear(PyObject *where) {
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_Clear();
        PyErr_SetInterrupt();
    } else {
        PyErr_WriteUnraisable(where);
    }
}

PyObject *fs_arguments_pack(PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    PyObject *positional = PyTuple_New(count), *named = PyDict_New();
    if (!positional || !named) goto failed;
    for (Py_ssize_t i = 0; i < count; i++) PyTuple_SET_ITEM(positional, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); i++)
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(kwnames, i), args[count + i]) < 0) goto failed;
    PyObject *packed = PyTuple_Pack(2, positional, named);
    Py_DECREF(positional);
    Py_DECREF(named);
    return packed;
failed:
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return NULL;
}

fs_breaker *fs_guard_breaker(fs_guard *guard) {
    fs_breaker *breaker = fs_load_acquire(&guard->breaker);
    if (FS_LIKELY(!(fs_breaker_gate(breaker) & FS_GATE_MOVED))) return breaker;
    breaker = fs_load_acquire(guard->truth);
    fs_store_release(&guard->breaker, breaker);
    return breaker;
}

static void announce(fs_guard *guard, const fs_change *change) {
    if (FS_LIKELY(change->generation == 0)) return;
    PyObject *parts[6] = {guard->owner, PyLong_FromLong(change->from), PyLong_FromLong(change->to),
                          PyLong_FromLong(change->because), PyLong_FromUnsignedLong(change->generation),
                          PyLong_FromUnsignedLong(change->failures)};
    PyObject *done = NULL;
    if (parts[1] && parts[2] && parts[3] && parts[4] && parts[5])
        done = PyObject_VectorcallMethod(name_announce, parts, 6, NULL);
    if (!done) fs_report_and_clear(guard->owner);
    Py_XDECREF(done);
    for (int i = 1; i < 6; i++) Py_XDECREF(parts[i]);
}

/* fs_now() for a gate that is not clear. An outage is a storm of refusals, each of which has to know the time, and the
 * kernel's clock would be a quarter of what one costs: within NEAR of a reading the counter goes on from there. However
 * wrong the counter were, that is as much as the time could be off; as it is, at most FS_CLOCK_TOLERANCE_PPM of it, 100 ns.
 * A reading that was interrupted is good for once only. */
#define NEAR UINT64_C(100000)
#define NEAR_UNDISTURBED UINT64_C(2000)

static fs_ns now_nearly(void) {
    static FS_THREAD_LOCAL fs_ticks read_at;
    static FS_THREAD_LOCAL fs_ns reading;
    if (FS_UNLIKELY(fs_load_relaxed(&fs_clock.source) != FS_CLOCK_COUNTER)) return fs_now();
    fs_ticks stamp = fs_counter();
    fs_ns since = fs_ticks_to_ns(stamp - read_at); /* huge where the counter was set back */
    if (FS_LIKELY(since < NEAR)) return reading + since;
    fs_ns now = fs_now();
    fs_ticks after = fs_counter();
    if (fs_ticks_to_ns(after - stamp) < NEAR_UNDISTURBED) {
        read_at = after; /* rather than `stamp`: behind by a few ns is never early */
        reading = now;
    }
    return now;
}

fs_permit fs_guard_admit(fs_guard *guard, uint64_t *gate, fs_ns *now) {
    if (FS_UNLIKELY(fs_load_relaxed(&guard->disabled))) {
        *gate = 0;
        return FS_NO_PERMIT;
    }
    fs_breaker *breaker = fs_guard_breaker(guard);
    *gate = fs_breaker_gate(breaker);
    if (fs_gate_clear(*gate)) return fs_permit_of(*gate);
    fs_change change = {0};
    *now = now_nearly();
    fs_permit permit = fs_breaker_acquire(breaker, *now, &change);
    announce(guard, &change);
    return permit;
}

bool fs_guard_enter_load(fs_guard *guard, uint64_t n, fs_permit *permit, uint64_t gate, fs_ns *now, fs_load **held) {
    *held = NULL;
    if (FS_LIKELY(!fs_load_relaxed(&guard->controlled)) || fs_load_relaxed(&guard->disabled)) return false;
    fs_load *load = fs_load_relaxed(&guard->load);
    fs_breaker *breaker = fs_guard_breaker(guard);
    *now = fs_now();
    uint64_t code = fs_load_admit(load, breaker, n, fs_permit_slot(*permit) != 0, false, *now, fs_stamp());
    if (code == 0) {
        *held = load;
        return false;
    }
    fs_breaker_withdraw(breaker, *permit, gate, *now);
    *permit = fs_load_refused(code, n);
    return fs_load_patience(load, code) != 0;
}

fs_permit fs_guard_admit_waited(fs_guard *guard, uint64_t n, fs_load *held, uint64_t *gate, fs_ns *now) {
    fs_permit permit = fs_guard_admit(guard, gate, now);
    if (!fs_permit_granted(permit) && fs_load_withdraw(held, n)) fs_guard_wake(guard);
    return permit;
}

fs_permit fs_guard_pass(fs_guard *guard, uint64_t n, fs_ns until, uint64_t *gate, fs_ns *now, fs_load **held) {
    fs_permit permit = fs_guard_admit(guard, gate, now);
    *held = NULL;
    if (FS_LIKELY(!fs_load_relaxed(&guard->controlled)) || !fs_permit_granted(permit)) return permit;
    if (!fs_guard_enter_load(guard, n, &permit, *gate, now, held)) return permit;
    PyObject *answer = PyObject_CallMethod(guard->recovery, "wait", "KKK", (unsigned long long)n,
                                           (unsigned long long)fs_load_code(permit),
                                           (unsigned long long)(until == FS_FOREVER ? 0 : until));
    uint64_t code = answer ? PyLong_AsUnsignedLongLong(answer) : fs_load_code(permit);
    Py_XDECREF(answer);
    *now = fs_now();
    if (FS_UNLIKELY(PyErr_Occurred())) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) return 0; /* an interrupt */
        fs_report_and_clear(guard->recovery);
        return permit;
    }
    if (code != 0) return fs_load_refused(code, n);
    permit = fs_guard_admit_waited(guard, n, fs_load_relaxed(&guard->load), gate, now);
    if (fs_permit_granted(permit)) *held = fs_load_relaxed(&guard->load);
    return permit;
}

void fs_guard_wake(fs_guard *guard) {
    PyObject *passing = fs_exception_take();
    PyObject *done = PyObject_CallMethodNoArgs(guard->recovery, name_place_left);
    if (FS_UNLIKELY(!done)) {
        /* An interrupt, most likely, in the middle of it: who waits must not have to wait for the next to leave. */
        PyObject *why = fs_exception_take();
        done = PyObject_CallMethodNoArgs(guard->recovery, name_place_left);
        if (!done) fs_report_and_clear(guard->recovery);
        fs_exception_put(why);
        fs_report_and_clear(guard->recovery);
    }
    Py_XDECREF(done);
    if (passing) fs_exception_put(passing);
}

/* The histogram of this thread, its slices up to date. NULL: the arena is full. */
static fs_histogram *histogram_now(fs_guard *guard, fs_breaker *breaker, fs_permit permit, fs_ticks end,
                                   fs_change *change) {
    fs_histogram *histogram = fs_series_stripe(guard->series, fs_stripe());
    if (!histogram) return NULL;
#if !FS_MANY_WRITERS
    guard->histogram = histogram;
#endif
    if (!fs_slices_due(&histogram->slices, end)) return histogram;
    fs_ns now = fs_now();
    fs_clock_check();
    if (fs_load_relaxed(&guard->controlled)) fs_limiter_refresh(&guard->load->limiter, end);
    fs_histogram_turn(histogram, now, end);
    fs_breaker_watch_latency(breaker, guard->series, permit, now, change);
    return histogram;
}

/* Record calls that do not count in the rates, of `ns` each. */
static void count_apart(fs_histogram *histogram, fs_breaker *breaker, fs_ns ns, const fs_totals *calls) {
    fs_histogram_count_apart(histogram, ns, calls);
    fs_breaker_disown(breaker, calls);
}

/* A success that has nothing to tell, as in the fast entries: left to be counted by the next call. */
static bool settled_quietly(fs_guard *guard, uint64_t gate, fs_ns took, fs_ticks end) {
    fs_histogram *histogram = fs_guard_histogram(guard);
    if (!histogram || took >= fs_load_relaxed(&guard->limit) || !fs_gate_clear(gate) ||
        fs_breaker_gate(fs_load_acquire(&guard->breaker)) != gate || fs_load_relaxed(&guard->disabled) ||
        fs_slices_due(&histogram->slices, end))
        return false;
    fs_histogram_defer(histogram, took);
    return true;
}

void fs_guard_settle(fs_guard *guard, fs_permit permit, uint64_t gate, fs_outcome outcome, fs_ns took, fs_ticks end) {
    if (outcome == FS_SUCCEEDED && settled_quietly(guard, gate, took, end)) return;
    fs_breaker *breaker = fs_guard_breaker(guard);
    if (FS_UNLIKELY(fs_load_relaxed(&guard->disabled))) {
        fs_breaker_ignore(breaker, permit); /* a probe that was out when the guard was disabled */
        return;
    }
    if (outcome == FS_IGNORED_OUTCOME) {
        fs_series_note(guard->series, FS_IGNORED, 1);
        fs_breaker_ignore(breaker, permit);
        return;
    }
    fs_change change = {0};
    bool failed = outcome == FS_FAILED, slow = took >= fs_load_relaxed(&guard->slow);
    bool counts = fs_breaker_counts(breaker, permit);
    fs_histogram *histogram = histogram_now(guard, breaker, permit, end, &change);
    if (histogram) {
        fs_ns known = took < FS_VALUE_MOST ? took : FS_VALUE_MOST;
        if (took > FS_VALUE_MOST) fs_tally_add(&histogram->clipped, 1);
        if (counts) {
            fs_histogram_count(histogram, known);
            fs_histogram_outcome(histogram, failed, slow);
        } else {
            count_apart(histogram, breaker, known, &(fs_totals){.calls = 1, .failures = failed, .slow = slow});
        }
    } else {
        fs_series_note(guard->series, FS_UNRECORDED, 1);
    }
    announce(guard, &change);
    uint64_t seen = fs_breaker_gate(breaker);
    if (!failed && !slow && fs_gate_clear(seen) && seen == gate) return;
    change = (fs_change){0};
    if (failed)
        fs_breaker_failure(breaker, permit, took, fs_now(), &change);
    else
        fs_breaker_success(breaker, permit, took, fs_now(), &change);
    announce(guard, &change);
    if (failed && fs_load_relaxed(&guard->controlled)) fs_load_failed(fs_load_relaxed(&guard->load), breaker, fs_now());
}

int64_t fs_guard_record_many(fs_guard *guard, fs_permit permit, const int64_t *ns, size_t count) {
    fs_breaker *breaker = fs_guard_breaker(guard);
    fs_change change = {0};
    fs_ticks end = fs_stamp();
    int64_t slow = 0, signs = 0;
    fs_ns from = fs_load_relaxed(&guard->slow);
    for (size_t i = 0; i < count; i++) {
        signs |= ns[i];
        slow += (uint64_t)ns[i] >= from;
    }
    if (signs < 0) {
        PyErr_SetString(PyExc_ValueError, "durations must be 0 or more, got a negative one");
        return -1;
    }
    if (fs_load_relaxed(&guard->disabled)) return 0;
    bool counts = fs_breaker_counts(breaker, permit);
    fs_histogram *histogram = histogram_now(guard, breaker, permit, end, &change);
    if (!histogram)
        fs_series_note(guard->series, FS_UNRECORDED, (uint32_t)count);
    else if (counts)
        fs_histogram_record_many(histogram, ns, count, end);
    else
        for (size_t i = 0; i < count; i++) {
            fs_ns known = (uint64_t)ns[i] < FS_VALUE_MOST ? (uint64_t)ns[i] : FS_VALUE_MOST;
            count_apart(histogram, breaker, known, &(fs_totals){.calls = 1});
        }
    announce(guard, &change);
    return slow;
}

void fs_guard_settle_batch(fs_guard *guard, fs_permit permit, fs_outcome outcome, const fs_batch *batch) {
    fs_breaker *breaker = fs_guard_breaker(guard);
    if (fs_load_relaxed(&guard->disabled) || outcome == FS_IGNORED_OUTCOME) {
        if (!fs_load_relaxed(&guard->disabled)) fs_series_note(guard->series, FS_IGNORED, batch->count);
        fs_breaker_ignore(breaker, permit);
        return;
    }
    fs_change change = {0};
    fs_ns each = batch->count ? batch->took / batch->count : 0;
    fs_ns known = each < FS_VALUE_MOST ? each : FS_VALUE_MOST;
    uint32_t slow = batch->slow + (each >= fs_load_relaxed(&guard->slow) ? batch->count : 0);
    bool counts = fs_breaker_counts(breaker, permit);
    fs_histogram *histogram = histogram_now(guard, breaker, permit, fs_stamp(), &change);
    if (!histogram) {
        fs_series_note(guard->series, FS_UNRECORDED, batch->count);
    } else if (counts) {
        fs_histogram_repeat(histogram, known, batch->count);
        fs_tally_add(&histogram->slices.live.failures, batch->failed);
        fs_tally_add(&histogram->slices.live.slow, slow);
    } else {
        count_apart(histogram, breaker, known,
                    &(fs_totals){.calls = batch->count, .failures = batch->failed, .slow = slow});
    }
    announce(guard, &change);
    bool all = outcome == FS_FAILED, some = all || batch->failed;
    /* Of a batch in which some have failed nobody knows the order; the others come first. A probe has one outcome. */
    bool success = !some || (!all && fs_permit_slot(permit) == 0);
    fs_ns longest = slow ? fs_load_relaxed(&guard->slow) : each;
    change = (fs_change){0};
    if (success && (slow || !fs_gate_clear(fs_breaker_gate(breaker))))
        fs_breaker_success(breaker, permit, longest, fs_now(), &change);
    announce(guard, &change);
    change = (fs_change){0};
    if (some) fs_breaker_failure(breaker, permit, longest, fs_now(), &change);
    announce(guard, &change);
    if (some && fs_load_relaxed(&guard->controlled)) fs_load_failed(fs_load_relaxed(&guard->load), breaker, fs_now());
}

/* Call a method of recovery with the attempt. NULL: it raised, which an Exception of ours never does to a caller. */
static PyObject *recover(fs_guard *guard, PyObject *name, fs_mode mode, PyObject *what, PyObject *category,
                         fs_permit permit, fs_ns took, PyObject *arguments) {
    PyObject *parts[8] = {guard->recovery, (PyObject *)guard, PyLong_FromLong(mode), what,
                          category ? category : Py_None, PyLong_FromUnsignedLongLong(permit),
                          PyLong_FromUnsignedLongLong(took), arguments ? arguments : Py_None};
    PyObject *answer = NULL;
    if (parts[2] && parts[5] && parts[6]) answer = PyObject_VectorcallMethod(name, parts, 8, NULL);
    Py_XDECREF(parts[2]);
    Py_XDECREF(parts[5]);
    Py_XDECREF(parts[6]);
    return answer;
}

PyObject *fs_guard_unpack(PyObject *answer) {
    if (!answer || !PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 2) {
        if (answer) PyErr_Format(PyExc_SystemError, "recovery answered %R", answer);
        Py_XDECREF(answer);
        return NULL;
    }
    PyObject *payload = Py_NewRef(PyTuple_GET_ITEM(answer, 1));
    bool good = PyTuple_GET_ITEM(answer, 0) == Py_True;
    Py_DECREF(answer);
    if (good) return payload;
    fs_exception_put(payload);
    return NULL;
}

static PyObject *attempt_of(fs_outcome kind, PyObject *payload, fs_permit permit, fs_ns took) {
    return Py_BuildValue("(iNKK)", (int)kind, payload, (unsigned long long)permit, (unsigned long long)took);
}

/* What a caller of this mode gets of an answer of recovery's. */
static PyObject *shaped(int mode, PyObject *answer) { return mode == FS_RAISE ? fs_guard_unpack(answer) : answer; }

/* asyncio's CancelledError, without importing asyncio for it. */
static bool is_cancelled(PyObject *exception) {
    static PyObject *known;
    PyObject *cancelled = fs_load_acquire(&known);
    if (!cancelled) {
        PyObject *passing = PyUnicode_FromString("asyncio.exceptions");
        PyObject *module = passing ? PyImport_GetModule(passing) : NULL;
        cancelled = module ? PyObject_GetAttrString(module, "CancelledError") : NULL;
        fs_store_release(&known, cancelled); /* threads that find it at once find the same, which nobody lets go */
        Py_XDECREF(passing);
        Py_XDECREF(module);
        PyErr_Clear();
    }
    return cancelled && PyObject_TypeCheck(exception, (PyTypeObject *)cancelled);
}

/* Not an Exception: it passes untouched and counts as ignored. But a call given up after long was hanging, and a
 * user's own short timeout must not hide that for ever. */
static void pass_through(fs_guard *guard, int mode, PyObject *exception, fs_permit permit, fs_ns took, fs_ticks end) {
    bool long_enough = took >= fs_load_relaxed(&guard->cancel_after) || mode & FS_LATE;
    bool hung = (mode & FS_ASYNC) && long_enough && is_cancelled(exception);
    if (hung) fs_series_note(guard->series, FS_TIMEOUTS, 1);
    fs_guard_settle(guard, permit, 0, hung ? FS_FAILED : FS_IGNORED_OUTCOME, took, end);
    fs_exception_put(exception);
}

PyObject *fs_guard_failed(fs_guard *guard, int mode, fs_permit permit, fs_ns took, fs_ticks end, PyObject *arguments) {
    PyObject *exception = fs_exception_take();
    if (!PyObject_TypeCheck(exception, (PyTypeObject *)PyExc_Exception)) {
        pass_through(guard, mode, exception, permit, took, end);
        return NULL;
    }
    if (fs_mode_of(mode) == FS_ATTEMPT) return attempt_of(FS_FAILED, exception, permit, took);
    if (!arguments) {
        fs_breaker_ignore(fs_guard_breaker(guard), permit);
        fs_exception_put(exception);
        return NULL;
    }
    PyObject *name = mode & FS_ASYNC ? name_failed_async : name_failed;
    PyObject *answer = recover(guard, name, fs_mode_of(mode), exception, NULL, permit, took, arguments);
    if (answer) {
        Py_DECREF(exception);
        return shaped(mode, answer);
    }
    fs_breaker_ignore(fs_guard_breaker(guard), permit);
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        Py_DECREF(exception); /* an interrupt while waiting for a retry goes on its way */
        return NULL;
    }
    /* At the recursion limit or out of memory, recovery fails too: the exception on its way says it all. */
    bool exhausted = PyErr_ExceptionMatches(PyExc_RecursionError) || PyErr_ExceptionMatches(PyExc_MemoryError);
    if (exhausted)
        PyErr_Clear();
    else
        PyErr_WriteUnraisable(guard->recovery);
    fs_exception_put(exception);
    return NULL;
}

/* The flight recorder's entry of a refusal. */
static void note_refusal(fs_guard *guard, fs_breaker *breaker, uint64_t gate, fs_permit permit, fs_ns now) {
    fs_decision decision = {
        .first = now, .operation = guard->series->name, .generation = fs_gate_generation(gate),
        .kind = permit == FS_NO_ROOM ? FS_LIMIT : FS_REFUSAL, .because = (uint8_t)fs_breaker_because(breaker),
        .state = (uint8_t)fs_gate_state(gate),
    };
    if (permit == FS_TOO_LATE) {
        decision.kind = FS_GIVE_UP;
        decision.because = FS_DEADLINE_PASSED;
    }
    if (permit == FS_NO_ROOM) decision.number = fs_capacity_of(fs_breaker_share(breaker, now));
    if (fs_load_code(permit)) {
        decision.kind = FS_LOAD;
        decision.because = (uint8_t)fs_load_code(permit);
        decision.number = fs_load_code(permit) == FS_RATE_LIMITED
                              ? (double)fs_load_retry_after(fs_load_relaxed(&guard->load), permit, now) / 1e9
                              : fs_load_number(fs_load_relaxed(&guard->load), fs_load_code(permit));
    }
    if (!fs_recorder_again(&breaker->recorder, &breaker->block, &decision))
        fs_recorder_note(&breaker->recorder, &breaker->block, &decision);
}

/* Let recovery publish and log a refusal. */
static void tell_refusal(fs_guard *guard, int mode, fs_permit permit, fs_ns now) {
    if (fs_mode_of(mode) != FS_ATTEMPT && permit != FS_TOO_LATE) {
        fs_store_relaxed(&guard->tell_at, fs_ns_add(now, FS_TELL_EVERY));
        fs_store_relaxed(&guard->told, fs_gate_generation(fs_breaker_gate(fs_guard_breaker(guard))));
    }
    PyObject *parts[4] = {guard->recovery, (PyObject *)guard, PyLong_FromLong(fs_mode_of(mode)),
                          fs_refusal_new(guard, permit, now)};
    PyObject *done = NULL;
    if (parts[2] && parts[3]) done = PyObject_VectorcallMethod(name_refusal_seen, parts, 4, NULL);
    if (!done) fs_report_and_clear(guard->recovery);
    Py_XDECREF(done);
    Py_XDECREF(parts[2]);
    Py_XDECREF(parts[3]);
}

void fs_guard_count_refusal(fs_guard *guard, int mode, fs_permit permit, fs_ns now) {
    fs_series_note(guard->series, FS_REJECTED, 1);
    fs_breaker *breaker = fs_guard_breaker(guard);
    uint64_t gate = fs_breaker_gate(breaker);
    note_refusal(guard, breaker, gate, permit, now);
    bool news = now >= fs_load_relaxed(&guard->tell_at) || fs_load_relaxed(&guard->told) != fs_gate_generation(gate);
    /* A retry that is refused is no news: its call tells what it has come to, and the next one of the refusal. */
    if (fs_mode_of(mode) == FS_ATTEMPT || permit == FS_TOO_LATE) news = false;
    if (FS_UNLIKELY(news | fs_load_relaxed(&refusals_heard))) tell_refusal(guard, mode, permit, now);
}

PyObject *fs_guard_refused(fs_guard *guard, int mode, fs_permit permit, fs_ns now, PyObject *arguments) {
    fs_guard_count_refusal(guard, mode, permit, now);
    if (fs_mode_of(mode) == FS_RESULT && !guard->has_fallbacks) return fs_result_refused(guard, permit, now);
    PyObject *refusal = fs_refusal_new(guard, permit, now);
    if (!refusal) return NULL;
    if (fs_mode_of(mode) == FS_ATTEMPT) return attempt_of(FS_REFUSED, refusal, 0, 0);
    if (guard->has_fallbacks) {
        PyObject *name = mode & FS_ASYNC ? name_refused_async : name_refused;
        PyObject *answer = recover(guard, name, fs_mode_of(mode), refusal, NULL, 0, 0, arguments);
        Py_DECREF(refusal);
        return shaped(mode, answer);
    }
    return fs_refusal_raise(refusal);
}

bool fs_guard_judge(fs_guard *guard, int mode, PyObject *value, fs_permit permit, fs_ns took, PyObject *arguments,
                    PyObject **answer) {
    PyObject *category = PyObject_CallOneArg(guard->judge, value);
    if (!category) fs_report_and_clear(guard->judge);
    if (!category || category == Py_None) {
        Py_XDECREF(category);
        return false;
    }
    if (fs_mode_of(mode) == FS_ATTEMPT) {
        PyObject *both = PyTuple_Pack(2, value, category);
        *answer = both ? attempt_of(FS_JUDGED, both, permit, took) : NULL;
    } else {
        PyObject *name = mode & FS_ASYNC ? name_judged_async : name_judged;
        *answer = recover(guard, name, fs_mode_of(mode), value, category, permit, took, arguments);
        if (*answer)
            *answer = shaped(mode, *answer);
        else
            fs_breaker_ignore(fs_guard_breaker(guard), permit);
    }
    Py_DECREF(category);
    return true;
}

PyObject *fs_guard_succeeded(fs_guard *guard, int mode, PyObject *value, fs_permit permit, uint64_t gate, fs_ns took,
                             fs_ticks end) {
    /* The value stands, however late it came; the dependency was too slow all the same. */
    bool late = took >= fs_load_relaxed(&guard->reach) || mode & FS_LATE;
    if (late) fs_series_note(guard->series, FS_TIMEOUTS, 1);
    fs_guard_settle(guard, permit, gate, late ? FS_FAILED : FS_SUCCEEDED, took, end);
    switch (fs_mode_of(mode)) {
    case FS_RESULT:
        return fs_result_success(guard, value, took);
    case FS_ATTEMPT:
        return attempt_of(FS_SUCCEEDED, value, permit, took);
    case FS_RAISE:
    case FS_ASYNC:
    case FS_LATE:
        break;
    }
    return value;
}

/* A coroutine function that raises when called (wrong arguments, mostly) has not reached anything. */
static PyObject *made_nothing(fs_guard *guard, fs_mode mode, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    if (mode == FS_RAISE) return NULL;
    PyObject *exception = fs_exception_raised();
    PyObject *arguments = fs_arguments_pack(args, nargsf, kwnames);
    fs_exception_put(exception);
    PyObject *answer = fs_guard_failed(guard, mode | FS_ASYNC, FS_NO_PERMIT, 0, fs_stamp(), arguments);
    Py_XDECREF(arguments);
    return answer;
}

/* Is what a caller (skip = 1) is told to call a coroutine function for certain? */
static bool told_coroutine(const fs_guard *guard, PyObject *const *args, size_t nargsf) {
    if (guard->skip == 0 || PyVectorcall_NARGS(nargsf) == 0 || !PyFunction_Check(args[0])) return false;
    return ((PyCodeObject *)((PyFunctionObject *)args[0])->func_code)->co_flags & CO_COROUTINE;
}

/* Keep a success that came in time for a fallback to serve. Of a retried one recovery decides. */
static void remember_timely(fs_guard *guard, fs_mode mode, PyObject *const *args, size_t nargsf, PyObject *kwnames,
                            PyObject *value, bool late, fs_ticks end) {
    if (guard->memory && mode != FS_ATTEMPT && !late)
        fs_guard_remember(guard, args, nargsf, kwnames, value, end);
}

/* Chaos is on: true where it ends this call, with *value, or NULL and an exception. It has kept the call waiting, if it
 * was to. */
static bool shaken(fs_guard *guard, PyObject **value) {
    PyObject *answer = PyObject_CallMethodNoArgs(guard->recovery, name_shake);
    bool ends = answer != Py_None;
    if (ends) *value = answer ? Py_NewRef(PyTuple_GET_ITEM(answer, 0)) : NULL;
    Py_XDECREF(answer);
    return ends;
}

/* In a thread with a running loop, what a caller is told to call may well give an awaitable, which is asked about at its
 * first send: then chaos must not block the loop here. It is called first, and where it turns out to be a plain function
 * after all, chaos comes before its answer rather than before its work. */
static bool shaken_after(fs_guard *guard) {
    if (!guard->skip) return false;
    PyObject *answer = PyObject_CallMethodNoArgs(guard->recovery, name_in_loop);
    bool runs = answer == Py_True;
    if (!answer) fs_report_and_clear(guard->recovery);
    Py_XDECREF(answer);
    return runs;
}

/* Call the function while chaos is on. */
static PyObject *enter_shaken(fs_guard *guard, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    PyObject *value;
    if (!shaken_after(guard)) return shaken(guard, &value) ? value : fs_guard_enter(guard, args, nargsf, kwnames);
    PyObject *answer = fs_guard_enter(guard, args, nargsf, kwnames);
    if (!answer || fs_is_awaitable(answer) || !shaken(guard, &value)) return answer;
    Py_DECREF(answer);
    return value;
}

PyObject *fs_guard_run(fs_guard *guard, fs_mode mode, fs_ns until, PyObject *const *args, size_t nargsf,
                       PyObject *kwnames) {
    bool told = told_coroutine(guard, args, nargsf), async = guard->async || told;
    if (async || fs_load_relaxed(&guard->hands_over)) {
        PyObject *inner = told ? PyObject_Vectorcall(args[0], args + 1, (size_t)PyVectorcall_NARGS(nargsf) - 1, kwnames)
                               : fs_guard_enter(guard, args, nargsf, kwnames);
        if (!inner) return made_nothing(guard, mode, args, nargsf, kwnames);
        if (async || fs_is_awaitable(inner))
            return fs_awaitable_new(guard, mode, until, inner, args, nargsf, kwnames);
        return fs_guard_succeeded(guard, mode, inner, FS_NO_PERMIT, 0, 0, fs_stamp()); /* for once, it did not */
    }
    uint64_t gate;
    fs_ns now;
    fs_load *held = NULL;
    bool overdue = fs_guard_overdue(guard, &until);
    fs_permit permit = overdue ? FS_TOO_LATE : fs_guard_pass(guard, 1, until, &gate, &now, &held);
    if (FS_UNLIKELY(overdue)) now = fs_now();
    PyObject *arguments = NULL, *answer = NULL;
    if (FS_UNLIKELY(!fs_permit_granted(permit))) {
        if (FS_UNLIKELY(permit == 0) && PyErr_Occurred()) return NULL;
        if (guard->has_fallbacks && mode != FS_ATTEMPT && !(arguments = fs_arguments_pack(args, nargsf, kwnames)))
            return NULL;
        answer = fs_guard_refused(guard, mode, permit, now, arguments);
        Py_XDECREF(arguments);
        return answer;
    }
    fs_ticks start = fs_stamp();
    fs_ticks deadline = fs_guard_deadline(guard, start);
    if (until != FS_FOREVER) {
        now = fs_now();
        fs_ticks bound = start + fs_ns_to_ticks(until > now ? until - now : 0);
        deadline = bound < deadline ? bound : deadline;
    }
    fs_ticks outer = fs_frame_push(deadline);
    PyObject *value = gate & FS_GATE_CHAOS ? enter_shaken(guard, args, nargsf, kwnames)
                                           : fs_guard_enter(guard, args, nargsf, kwnames);
    fs_frame_deadline = outer;
    fs_ticks end = fs_stamp();
    fs_ns took = fs_ticks_to_ns(end - start);
    bool late = end >= deadline;
    if (held) fs_guard_leave(guard, held);
    if (value && !guard->judge && !fs_is_awaitable(value)) {
        remember_timely(guard, mode, args, nargsf, kwnames, value, late, end);
        return fs_guard_succeeded(guard, (int)mode | (late ? FS_LATE : 0), value, permit, gate, took, end);
    }
    if (value && fs_is_awaitable(value)) {
        /* The awaitable passes the gate again at its first send; this passage was for nothing. */
        fs_breaker_withdraw(fs_guard_breaker(guard), permit, gate, fs_now());
        if (held) fs_limiter_give_back(&held->limiter, 1);
        fs_store_relaxed(&guard->hands_over, guard->skip == 0);
        return fs_awaitable_new(guard, mode, until, value, args, nargsf, kwnames);
    }
    PyObject *exception = value ? NULL : fs_exception_raised();
    if (mode != FS_ATTEMPT) arguments = fs_arguments_pack(args, nargsf, kwnames);
    if (exception) {
        fs_exception_put(exception);
        answer = fs_guard_failed(guard, mode, permit, took, end, arguments);
    } else if (!arguments && mode != FS_ATTEMPT) {
        fs_breaker_ignore(fs_guard_breaker(guard), permit); /* no memory, and the error says so */
    } else if (!fs_guard_judge(guard, mode, value, permit, took, arguments, &answer)) {
        remember_timely(guard, mode, args, nargsf, kwnames, value, late, end);
        answer = fs_guard_succeeded(guard, (int)mode | (late ? FS_LATE : 0), Py_NewRef(value), permit, gate, took, end);
    }
    Py_XDECREF(value);
    Py_XDECREF(arguments);
    return answer;
}
