#include "deadlines.h"
#include "flow.h"
#include "table.h"

#include <structmember.h>

FS_THREAD_LOCAL fs_ticks fs_frame_deadline = FS_FOREVER;

#if FS_MANY_WRITERS
FS_THREAD_LOCAL uint32_t fs_frame_stripe;

uint32_t fs_frame_assign_stripe(void) {
    static uint32_t threads;
    uint32_t stripe = fs_add_relaxed(&threads, 1) % FS_STRIPES;
    fs_frame_stripe = stripe + 1;
    return stripe;
}
#else
/* Always due (a slice of no length), so the first call takes the slow way and finds or makes the real one. */
static fs_histogram idle_histogram;
#endif

static vectorcallfunc no_entry;

/* The hot path. Four questions are asked of a call that came back, all at once, since "no" to each is the rule: was it
 * long enough to tell (or negative: the clock jumped); has the gate changed; is the slice over; is the value awaitable. */
static inline __attribute__((always_inline)) PyObject *call_clear(PyObject *self, PyObject *const *args, size_t nargsf,
                                                                  PyObject *kwnames, const bool remembers,
                                                                  const bool controlled) {
    fs_guard *guard = (fs_guard *)self;
    uint64_t gate = fs_breaker_gate(fs_load_acquire(&guard->breaker));
    if (FS_UNLIKELY(!fs_gate_clear(gate))) return fs_guard_run(guard, FS_RAISE, FS_FOREVER, args, nargsf, kwnames);
    fs_ticks start = fs_stamp();
    fs_guard_flush(guard);
    if (FS_UNLIKELY((start >= fs_frame_now()) | fs_bounds_exist()) && fs_bounded(start))
        return fs_guard_run(guard, FS_RAISE, FS_FOREVER, args, nargsf, kwnames);
    fs_load *load = controlled ? fs_load_relaxed(&guard->load) : NULL;
    if (controlled && FS_UNLIKELY(!fs_load_enter(load, start)))
        return fs_guard_run(guard, FS_RAISE, FS_FOREVER, args, nargsf, kwnames);
    fs_ticks outer = fs_frame_push(fs_guard_deadline(guard, start));
    PyObject *value = fs_guard_enter(guard, args, nargsf, kwnames);
    fs_frame_deadline = outer;
    fs_ticks end = fs_stamp();
    fs_ns took = fs_ticks_to_ns(end - start);
    if (controlled) fs_guard_leave(guard, load);
    if (FS_UNLIKELY(value == NULL)) {
        PyObject *exception = fs_exception_raised();
        PyObject *arguments = fs_arguments_pack(args, nargsf, kwnames);
        fs_exception_put(exception);
        PyObject *answer = fs_guard_failed(guard, FS_RAISE, fs_permit_of(gate), took, end, arguments);
        Py_XDECREF(arguments);
        return answer;
    }
    fs_histogram *histogram = fs_guard_histogram(guard);
#if FS_MANY_WRITERS
    bool due = histogram == NULL || fs_slices_due(&histogram->slices, end);
#else
    bool due = fs_slices_due(&histogram->slices, end);
#endif
    fs_ns limit = fs_load_relaxed(&guard->limit);
    if (FS_UNLIKELY((took >= limit) | (fs_breaker_gate(fs_load_acquire(&guard->breaker)) != gate) | due)) goto slow;
    if (FS_UNLIKELY(fs_is_awaitable(value))) goto slow;
    fs_histogram_defer(histogram, took);
    if (remembers) fs_guard_remember(guard, args, nargsf, kwnames, value, end);
    return value;
slow:
    if (fs_is_awaitable(value)) {
        /* Who is told what to call cannot know what it will give next. */
        fs_store_relaxed(&guard->hands_over, guard->skip == 0);
        if (controlled) fs_limiter_give_back(&load->limiter, 1); /* it passes again, at its first send */
        return fs_awaitable_new(guard, FS_RAISE, FS_FOREVER, value, args, nargsf, kwnames);
    }
    if (remembers && took < fs_load_relaxed(&guard->reach))
        fs_guard_remember(guard, args, nargsf, kwnames, value, end);
    return fs_guard_succeeded(guard, FS_RAISE, value, fs_permit_of(gate), gate, took, end);
}

static PyObject *guard_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    return call_clear(self, args, nargsf, kwnames, false, false);
}

/* Each success is kept for a fallback to serve. */
static PyObject *guard_call_remembering(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    return call_clear(self, args, nargsf, kwnames, true, false);
}

/* Load control stands before it. */
static PyObject *guard_call_controlled(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    return call_clear(self, args, nargsf, kwnames, false, true);
}

static PyObject *guard_call_controlled_remembering(PyObject *self, PyObject *const *args, size_t nargsf,
                                                   PyObject *kwnames) {
    return call_clear(self, args, nargsf, kwnames, true, true);
}

/* The call goes to the guard of its key, or waits for one like it. */
static PyObject *guard_call_routed(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    return fs_guard_route((fs_guard *)self, FS_RAISE, args, nargsf, kwnames);
}

/* Values are judged (failure=), so that each call has something to ask. */
static PyObject *guard_call_judged(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    return fs_guard_run((fs_guard *)self, FS_RAISE, FS_FOREVER, args, nargsf, kwnames);
}

static PyObject *async_guard_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    fs_guard *guard = (fs_guard *)self;
    PyObject *inner = fs_guard_enter(guard, args, nargsf, kwnames);
    if (FS_UNLIKELY(inner == NULL)) return NULL;
    return fs_awaitable_new(guard, FS_RAISE, FS_FOREVER, inner, args, nargsf, kwnames);
}

static PyObject *guard_call_disabled(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    return fs_guard_enter((fs_guard *)self, args, nargsf, kwnames);
}

static vectorcallfunc entry_of(const fs_guard *guard) {
    if (guard->dedupe || guard->key) return guard_call_routed;
    if (guard->async) return async_guard_call;
    if (guard->judge) return guard_call_judged;
    if (fs_load_relaxed(&guard->controlled))
        return guard->memory ? guard_call_controlled_remembering : guard_call_controlled;
    return guard->memory ? guard_call_remembering : guard_call;
}

void fs_guard_control(PyObject *object, fs_load *load) {
    fs_guard *guard = (fs_guard *)object;
    /* An entry that looks for it must find it. It stays when the entry no longer looks: a call may be on its way there. */
    if (load) fs_store_release(&guard->load, load);
    fs_store_relaxed(&guard->controlled, load != NULL);
    if (!fs_load_relaxed(&guard->disabled)) fs_store_release(&guard->vectorcall, entry_of(guard));
}

void fs_guard_retime(PyObject *object, fs_ns timeout, fs_ns overall, fs_ns slow, fs_ns cancel_after) {
    fs_guard *guard = (fs_guard *)object;
    /* Other settings may be those of another block, unmarked: it is shared. */
    fs_store_release(&guard->breaker, fs_load_acquire(guard->truth));
    fs_ns reach = timeout < overall ? timeout : overall, told = reach < slow ? reach : slow;
    fs_store_relaxed(&guard->overall, overall);
    fs_store_relaxed(&guard->slow, slow);
    fs_store_relaxed(&guard->cancel_after, cancel_after);
    fs_store_relaxed(&guard->reach, reach);
    /* Where each value has to be looked at, each call has something to tell. */
    fs_store_relaxed(&guard->limit, guard->judge ? 0 : told < FS_VALUE_MOST ? told : FS_VALUE_MOST);
}

int fs_guard_disable(PyObject *guard, bool disabled) {
    fs_guard *self = (fs_guard *)guard;
    vectorcallfunc entry = disabled ? guard_call_disabled : entry_of(self);
    fs_store_relaxed(&self->disabled, disabled);
    fs_store_release(&self->vectorcall, entry);
    return 0;
}

#if FS_MANY_WRITERS
/* A shared guard's reference count is a line that all threads write. 3.14 can defer it; on 3.13 an object can only be
 * made immortal, which the guards of decorated functions, made once and kept, can afford. */
static void make_shareable(PyObject *guard) {
#if PY_VERSION_HEX >= 0x030E0000
    PyUnstable_Object_EnableDeferredRefcount(guard);
#else
    guard->ob_tid = _Py_UNOWNED_TID;
    guard->ob_ref_local = _Py_IMMORTAL_REFCNT_LOCAL;
    guard->ob_ref_shared = 0;
#endif
}
#endif

static PyTypeObject *type_of(const fs_guard_setup *setup) {
    if (setup->async) return setup->binds ? &fs_async_guard_type : &fs_plain_async_guard_type;
    return setup->binds ? &fs_guard_type : &fs_plain_guard_type;
}

static bool make_tables(fs_guard *guard, const fs_guard_setup *setup) {
    fs_tables *tables = guard->tables = PyMem_Calloc(1, sizeof *tables);
    if (!tables) {
        PyErr_NoMemory();
        return false;
    }
    tables->memory_key = Py_XNewRef(setup->memory_key);
    tables->memory_most = setup->memory_most;
    tables->shards_most = setup->shards_most;
    if (setup->memory_most && !(guard->memory = PyDict_New())) return false;
    return !setup->key || (tables->shards = PyDict_New());
}

static void drop_tables(fs_guard *guard) {
    if (!guard->tables) return;
    Py_CLEAR(guard->tables->memory_key);
    Py_CLEAR(guard->tables->shards);
    PyMem_Free(guard->tables);
}

PyObject *fs_guard_new(const fs_guard_setup *setup) {
    PyTypeObject *type = type_of(setup);
    fs_guard *self = PyObject_GC_New(fs_guard, type);
    if (!self) return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof *self - sizeof(PyObject));
    self->fn = Py_NewRef(setup->fn);
    Py_ssize_t offset = Py_TYPE(self->fn)->tp_vectorcall_offset;
    bool direct = PyType_HasFeature(Py_TYPE(self->fn), Py_TPFLAGS_HAVE_VECTORCALL) && offset > 0;
    self->entry = direct ? (vectorcallfunc *)(void *)((char *)self->fn + offset) : &no_entry;
    self->truth = setup->truth;
    self->breaker = fs_load_acquire(setup->truth);
    self->series = setup->series;
#if !FS_MANY_WRITERS
    self->histogram = &idle_histogram;
#endif
    self->owner = Py_NewRef(setup->owner);
    self->operation = Py_NewRef(setup->operation);
    self->recovery = Py_NewRef(setup->recovery);
    self->judge = Py_XNewRef(setup->judge);
    self->dedupe = Py_XNewRef(setup->dedupe);
    self->key = Py_XNewRef(setup->key);
    self->skip = setup->skip;
    self->async = setup->async;
    self->keeps_arguments = setup->keeps_arguments;
    self->has_fallbacks = setup->has_fallbacks;
    self->has_closure = setup->has_closure;
    self->undressed = setup->undressed;
    fs_guard_retime((PyObject *)self, setup->timeout, setup->overall, setup->slow, setup->cancel_after);
    PyObject_GC_Track((PyObject *)self);
    if ((setup->memory_most || setup->key) && !make_tables(self, setup)) goto failed;
    fs_guard_disable((PyObject *)self, setup->disabled);
#if FS_MANY_WRITERS
    if (setup->immortal) make_shareable((PyObject *)self);
#endif
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static void guard_dealloc(PyObject *object) {
    fs_guard *self = (fs_guard *)object;
    PyObject_GC_UnTrack(object);
    if (self->weakrefs) PyObject_ClearWeakRefs(object);
    Py_CLEAR(self->fn);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->operation);
    Py_CLEAR(self->recovery);
    Py_CLEAR(self->judge);
    Py_CLEAR(self->memory);
    Py_CLEAR(self->dedupe);
    Py_CLEAR(self->key);
    drop_tables(self);
    Py_CLEAR(self->dict);
    PyObject_GC_Del(object);
}

static int guard_traverse(PyObject *object, visitproc visit, void *arg) {
    fs_guard *self = (fs_guard *)object;
    Py_VISIT(self->fn);
    Py_VISIT(self->owner);
    Py_VISIT(self->operation);
    Py_VISIT(self->recovery);
    Py_VISIT(self->judge);
    Py_VISIT(self->memory);
    Py_VISIT(self->dedupe);
    Py_VISIT(self->key);
    if (self->tables) {
        Py_VISIT(self->tables->memory_key);
        Py_VISIT(self->tables->shards);
    }
    Py_VISIT(self->dict);
    return 0;
}

/* A finaliser elsewhere in a dying cycle may still call the guard, and a call may be under way in another thread, so it
 * keeps all it needs to be called. Every other cycle also passes through a dict or a closure, which break it: those of
 * what it remembers through the dict of that. */
static int guard_clear(PyObject *object) {
    Py_CLEAR(((fs_guard *)object)->dict);
    return 0;
}

static PyObject *guard_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(owner)) {
    return instance == NULL || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

static PyObject *guard_repr(PyObject *object) {
    fs_guard *self = (fs_guard *)object;
    return PyUnicode_FromFormat("<failsoft guard of %R>", self->fn);
}

/* By reference, as functions pickle. */
static PyObject *guard_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyObject_GetAttrString(self, "__qualname__");
}

static PyObject *guard_outcome(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    fs_guard *guard = (fs_guard *)self;
#if PY_VERSION_HEX < 0x030C0000
    /* 3.11 finds methods fast on objects that have their dict, later ones also where it is yet to come. */
    if (FS_UNLIKELY(guard->dict == NULL) && !(guard->dict = PyDict_New())) PyErr_Clear();
#endif
    if (FS_UNLIKELY(guard->dedupe || guard->key)) return fs_guard_route(guard, FS_RESULT, args, (size_t)nargs, kwnames);
    return fs_guard_run(guard, FS_RESULT, FS_FOREVER, args, (size_t)nargs, kwnames);
}

/* A call's arguments as recovery holds them, laid out for a vectorcall. Both containers were made by us and are not
 * shared with user code, so borrowed items stay. */
typedef struct {
    PyObject **args;
    Py_ssize_t count;
    PyObject *names;
} fs_flat;

static bool flatten(fs_flat *flat, PyObject *args, PyObject *kwargs) {
    Py_ssize_t named = PyDict_GET_SIZE(kwargs);
    flat->count = PyTuple_GET_SIZE(args);
    flat->args = PyMem_New(PyObject *, (size_t)(flat->count + named) + 1);
    flat->names = named ? PyTuple_New(named) : NULL;
    if (!flat->args || (named && !flat->names)) {
        PyMem_Free(flat->args);
        Py_XDECREF(flat->names);
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t i = 0; i < flat->count; i++) flat->args[i] = PyTuple_GET_ITEM(args, i);
    PyObject *key, *value;
    for (Py_ssize_t at = 0, i = 0; PyDict_Next(kwargs, &at, &key, &value); i++) {
        PyTuple_SET_ITEM(flat->names, i, Py_NewRef(key));
        flat->args[flat->count + i] = value;
    }
    return true;
}

static void flat_free(fs_flat *flat) {
    PyMem_Free(flat->args);
    Py_XDECREF(flat->names);
}

/* (kind, payload, permit, ns) of one attempt that must end by the CLOCK_MONOTONIC time `until` (ns; 0: no bound). */
static PyObject *guard_attempt(PyObject *self, PyObject *arguments) {
    unsigned long long until;
    PyObject *args, *kwargs;
    if (!PyArg_ParseTuple(arguments, "KO!O!:_attempt", &until, &PyTuple_Type, &args, &PyDict_Type, &kwargs)) return NULL;
    fs_flat flat;
    if (!flatten(&flat, args, kwargs)) return NULL;
    PyObject *answer = fs_guard_run((fs_guard *)self, FS_ATTEMPT, until ? until : FS_FOREVER, flat.args,
                                    (size_t)flat.count, flat.names);
    flat_free(&flat);
    return answer;
}

/* A whole call past the de-duplication. */
static PyObject *guard_once(PyObject *self, PyObject *arguments) {
    int mode;
    PyObject *args, *kwargs;
    fs_flat flat;
    if (!PyArg_ParseTuple(arguments, "iO!O!:_once", &mode, &PyTuple_Type, &args, &PyDict_Type, &kwargs)) return NULL;
    if (!flatten(&flat, args, kwargs)) return NULL;
    PyObject *answer = fs_guard_once((fs_guard *)self, (fs_mode)mode, flat.args, (size_t)flat.count, flat.names);
    flat_free(&flat);
    return answer;
}

static PyObject *guard_remember(PyObject *self, PyObject *arguments) {
    PyObject *args, *kwargs, *value;
    fs_flat flat;
    if (!PyArg_ParseTuple(arguments, "O!O!O:_remember", &PyTuple_Type, &args, &PyDict_Type, &kwargs, &value)) return NULL;
    if (!flatten(&flat, args, kwargs)) return NULL;
    fs_guard_remember((fs_guard *)self, flat.args, (size_t)flat.count, flat.names, value, fs_stamp());
    flat_free(&flat);
    Py_RETURN_NONE;
}

static PyObject *guard_recall(PyObject *self, PyObject *arguments) {
    PyObject *args, *kwargs;
    fs_flat flat;
    if (!PyArg_ParseTuple(arguments, "O!O!:_recall", &PyTuple_Type, &args, &PyDict_Type, &kwargs)) return NULL;
    if (!flatten(&flat, args, kwargs)) return NULL;
    PyObject *answer = fs_guard_recall((fs_guard *)self, flat.args, (size_t)flat.count, flat.names);
    flat_free(&flat);
    return answer;
}

/* Say how an attempt ended that `_attempt` or a handler has left open. */
static PyObject *guard_settle(PyObject *self, PyObject *arguments) {
    unsigned long long permit, took;
    int outcome;
    if (!PyArg_ParseTuple(arguments, "KiK:_settle", &permit, &outcome, &took)) return NULL;
    /* A gate of 0 equals no real one: the breaker is always asked. */
    fs_guard_settle((fs_guard *)self, permit, 0, (fs_outcome)outcome, took, fs_stamp());
    Py_RETURN_NONE;
}

static PyObject *guard_metrics(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyObject_CallMethod(((fs_guard *)self)->recovery, "metrics", NULL);
}

/* (permit, the place it holds or None, may wait) for n calls at once: now, or out of the queue. */
static PyObject *guard_gate(PyObject *self, PyObject *arguments) {
    fs_guard *guard = (fs_guard *)self;
    unsigned long long n;
    int waited;
    if (!PyArg_ParseTuple(arguments, "Kp:_gate", &n, &waited)) return NULL;
    uint64_t gate;
    fs_ns now;
    fs_load *held = waited ? fs_load_relaxed(&guard->load) : NULL;
    bool waits = false;
    fs_permit permit = waited ? fs_guard_admit_waited(guard, n, held, &gate, &now) : fs_guard_admit(guard, &gate, &now);
    if (!waited && fs_permit_granted(permit)) waits = fs_guard_enter_load(guard, n, &permit, gate, &now, &held);
    bool holds = held && fs_permit_granted(permit);
    PyObject *place = holds ? fs_place_new(guard, held) : Py_NewRef(Py_None);
    if (!place) fs_breaker_ignore(fs_guard_breaker(guard), permit);
    return place ? Py_BuildValue("(KNN)", (unsigned long long)permit, place, PyBool_FromLong(waits)) : NULL;
}

/* The same for a block that waits in this thread, if need be: a permit. The block has its place before anything else can
 * happen. */
static PyObject *guard_pass(PyObject *self, PyObject *arguments) {
    fs_guard *guard = (fs_guard *)self;
    PyObject *block;
    unsigned long long n;
    if (!PyArg_ParseTuple(arguments, "OK:_pass", &block, &n)) return NULL;
    uint64_t gate;
    fs_ns now;
    fs_load *held;
    fs_permit permit = fs_guard_pass(guard, n, FS_FOREVER, &gate, &now, &held);
    if (!fs_permit_granted(permit) && PyErr_Occurred()) return NULL;
    if (!held) return PyLong_FromUnsignedLongLong(permit);
    PyObject *place = fs_place_new(guard, held);
    bool kept = place && PyObject_SetAttrString(block, "_place", place) == 0;
    Py_XDECREF(place);
    if (kept) return PyLong_FromUnsignedLongLong(permit);
    fs_breaker_ignore(fs_guard_breaker(guard), permit);
    return NULL;
}

static PyObject *guard_many(PyObject *self, PyObject *n) {
    return PyObject_CallMethod(((fs_guard *)self)->recovery, "many", "OO", self, n);
}

/* (how many, their sum in ns, how many slow) of durations that are recorded now; at most `most`. */
static PyObject *guard_record_many(PyObject *self, PyObject *arguments) {
    unsigned long long permit;
    unsigned int most;
    PyObject *values;
    if (!PyArg_ParseTuple(arguments, "KIO:_record_many", &permit, &most, &values)) return NULL;
    Py_buffer view;
    if (PyObject_GetBuffer(values, &view, PyBUF_CONTIG_RO | PyBUF_FORMAT) < 0) return NULL;
    bool fits = view.itemsize == 8 && view.format && (strcmp(view.format, "q") == 0 || strcmp(view.format, "l") == 0);
    Py_ssize_t count = fits ? view.len / 8 : 0;
    int64_t slow = -1;
    uint64_t sum = 0;
    if (!fits)
        PyErr_SetString(PyExc_TypeError,
                        "durations must be a contiguous buffer of int64 nanoseconds, like a numpy int64 array");
    else if ((size_t)count > most)
        PyErr_Format(PyExc_ValueError, "durations must be at most %u more in this batch, got %zd", most, count);
    else
        slow = fs_guard_record_many((fs_guard *)self, permit, view.buf, (size_t)count);
    for (Py_ssize_t i = 0; slow >= 0 && i < count; i++) sum += (uint64_t)((const int64_t *)view.buf)[i];
    PyBuffer_Release(&view);
    return slow < 0 ? NULL : Py_BuildValue("(nKL)", count, (unsigned long long)sum, (long long)slow);
}

static PyObject *guard_settle_batch(PyObject *self, PyObject *arguments) {
    unsigned long long permit, took;
    int outcome;
    fs_batch batch;
    if (!PyArg_ParseTuple(arguments, "KiIIIK:_settle_batch", &permit, &outcome, &batch.count, &batch.failed, &batch.slow,
                          &took))
        return NULL;
    batch.took = took;
    fs_guard_settle_batch((fs_guard *)self, permit, (fs_outcome)outcome, &batch);
    Py_RETURN_NONE;
}

/* The gate's "no" as it stands, for what is refused outside a call. */
static PyObject *guard_refuse(PyObject *self, PyObject *given) {
    fs_permit permit = PyLong_AsUnsignedLongLong(given);
    if (permit == (fs_permit)-1 && PyErr_Occurred()) return NULL;
    fs_ns now = fs_now();
    fs_guard_count_refusal((fs_guard *)self, FS_RAISE, permit, now);
    return fs_refusal_new((fs_guard *)self, permit, now);
}

static PyMethodDef guard_methods[] = {
    {"outcome", (PyCFunction)(void (*)(void))guard_outcome, METH_FASTCALL | METH_KEYWORDS,
     "outcome($self, /, *args, **kwargs)\n--\n\nCall, and answer with an IntegrationResult; never raises an Exception."},
    {"metrics", guard_metrics, METH_NOARGS,
     "metrics($self, /)\n--\n\nThe OperationMetrics of the guarded operation, read now."},
    {"many", guard_many, METH_O,
     "many($self, n, /)\n--\n\nA `with` or `async with` block over n items that passes the gate once: a Batch."},
    {"_record_many", guard_record_many, METH_VARARGS,
     "_record_many($self, permit, most, values, /)\n--\n\nRecord durations of a batch."},
    {"_settle_batch", guard_settle_batch, METH_VARARGS,
     "_settle_batch($self, permit, outcome, count, failed, slow, ns, /)\n--\n\nHow a batch ended."},
    {"_attempt", guard_attempt, METH_VARARGS, "_attempt($self, until, args, kwargs, /)\n--\n\nOne attempt, for recovery."},
    {"_settle", guard_settle, METH_VARARGS, "_settle($self, permit, outcome, ns, /)\n--\n\nHow an attempt ended."},
    {"_gate", guard_gate, METH_VARARGS, "_gate($self, n, waited, /)\n--\n\nPass the gate, n calls at once."},
    {"_pass", guard_pass, METH_VARARGS, "_pass($self, block, n, /)\n--\n\nPass the gate for a block, waiting if need be."},
    {"_refuse", guard_refuse, METH_O, "_refuse($self, permit, /)\n--\n\nA Refusal, counted and told."},
    {"_once", guard_once, METH_VARARGS, "_once($self, mode, args, kwargs, /)\n--\n\nA call past the de-duplication."},
    {"_remember", guard_remember, METH_VARARGS, "_remember($self, args, kwargs, value, /)\n--\n\nKeep a value."},
    {"_recall", guard_recall, METH_VARARGS, "_recall($self, args, kwargs, /)\n--\n\n(value, age) kept, or None."},
    {"__reduce__", guard_reduce, METH_NOARGS, "By reference, as functions."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "For annotations."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef guard_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(fs_guard, fn), READONLY, "The guarded callable."},
    {"_breaker", T_OBJECT, offsetof(fs_guard, owner), READONLY, "The breaker in front of it."},
    {"_operation", T_OBJECT, offsetof(fs_guard, operation), READONLY, "What its calls are recorded in."},
    {"_recovery", T_OBJECT, offsetof(fs_guard, recovery), READONLY, "What happens when a call does not succeed."},
    {"_disabled", T_BOOL, offsetof(fs_guard, disabled), READONLY, "A pass-through now."},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *get_of_recovery(PyObject *self, void *name) {
    return PyObject_GetAttrString(((fs_guard *)self)->recovery, name);
}

/* ---- looks: what functools.update_wrapper would copy. Most guards are never asked for theirs, and a dict of them is
 * almost as large as the guard: those of plain functions, which nothing but their function is asked for, come at the
 * first question. Until then `dict` has what users have put there, or is NULL. */

/* Put the looks into the dict, if they are not there. Two threads may both fetch them; the first one's are taken. */
static int dress(fs_guard *guard) {
    if (FS_LIKELY(!fs_load_acquire(&guard->undressed))) return 0;
    PyObject *looks = PyObject_CallMethod(guard->recovery, "looks", "O", (PyObject *)guard);
    PyObject *dict = looks ? PyObject_GenericGetDict((PyObject *)guard, NULL) : NULL;
    int status = dict ? 0 : -1;
#ifdef Py_GIL_DISABLED
    Py_BEGIN_CRITICAL_SECTION((PyObject *)guard);
#endif
    if (dict && guard->undressed) {
        status = PyDict_Merge(dict, looks, 0); /* names are strings: no other code runs in between */
        if (status == 0) fs_store_release(&guard->undressed, false);
    }
#ifdef Py_GIL_DISABLED
    Py_END_CRITICAL_SECTION();
#endif
    Py_XDECREF(looks);
    Py_XDECREF(dict);
    return status;
}

static PyObject *guard_get_dict(PyObject *self, void *closure) {
    return dress((fs_guard *)self) < 0 ? NULL : PyObject_GenericGetDict(self, closure);
}

static int guard_set_dict(PyObject *self, PyObject *dict, void *closure) {
    return dress((fs_guard *)self) < 0 ? -1 : PyObject_GenericSetDict(self, dict, closure);
}

/* An attribute that is not in a dict is missing by another word. */
static void say_missing(PyObject *self, const char *name) {
    if (!PyErr_ExceptionMatches(PyExc_KeyError)) return;
    PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '%s'", Py_TYPE(self)->tp_name, name);
}

static PyObject *get_look(PyObject *self, void *name) {
    PyObject *dict = guard_get_dict(self, NULL), *key = dict ? PyUnicode_FromString(name) : NULL;
    PyObject *value = key ? PyObject_GetItem(dict, key) : NULL;
    if (key && !value) say_missing(self, name);
    Py_XDECREF(key);
    Py_XDECREF(dict);
    return value;
}

static int set_look(PyObject *self, PyObject *value, void *name) {
    PyObject *dict = guard_get_dict(self, NULL), *key = dict ? PyUnicode_InternFromString(name) : NULL;
    int status = !key ? -1 : value ? PyObject_SetItem(dict, key, value) : PyObject_DelItem(dict, key);
    if (key && status < 0) say_missing(self, name);
    Py_XDECREF(key);
    Py_XDECREF(dict);
    return status;
}

#define LOOK(name) {name, get_look, set_look, NULL, name}

static PyGetSetDef guard_getset[] = {
    {"__dict__", guard_get_dict, guard_set_dict, NULL, NULL},
    LOOK("__module__"), LOOK("__name__"), LOOK("__qualname__"), LOOK("__doc__"), LOOK("__annotations__"),
#if PY_VERSION_HEX >= 0x030C0000
    LOOK("__type_params__"),
#endif
#if PY_VERSION_HEX >= 0x030E0000
    LOOK("__annotate__"),
#endif
    {"integration", get_of_recovery, NULL, "The Integration the guard belongs to.", "integration"},
    {"operation", get_of_recovery, NULL, "The name its calls are recorded under.", "operation"},
    {NULL, NULL, NULL, NULL, NULL},
};

#define GUARD_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL)

#define GUARD_TYPE(variable, name, doc, flags, get)                                                               \
    PyTypeObject variable = {                                                                                     \
        PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core." name, .tp_doc = doc,                           \
        .tp_basicsize = sizeof(fs_guard), .tp_flags = GUARD_FLAGS | (flags), .tp_dealloc = guard_dealloc,         \
        .tp_traverse = guard_traverse, .tp_clear = guard_clear, .tp_repr = guard_repr, .tp_call = PyVectorcall_Call, \
        .tp_vectorcall_offset = offsetof(fs_guard, vectorcall), .tp_dictoffset = offsetof(fs_guard, dict),        \
        .tp_weaklistoffset = offsetof(fs_guard, weakrefs), .tp_methods = guard_methods,                           \
        .tp_members = guard_members, .tp_getset = guard_getset, .tp_descr_get = get,                              \
    }

GUARD_TYPE(fs_guard_type, "Guard", "A guarded callable: call it as the bare one.",
           Py_TPFLAGS_METHOD_DESCRIPTOR, guard_get);
/* Of callables that do not bind (builtins, partials, callable objects): without a tp_descr_get, as those. */
GUARD_TYPE(fs_plain_guard_type, "PlainGuard", "A Guard of a callable that does not bind to instances.", 0, NULL);
GUARD_TYPE(fs_async_guard_type, "AsyncGuard", "A guarded coroutine function: call and await it as the bare one.",
           Py_TPFLAGS_METHOD_DESCRIPTOR, guard_get);
GUARD_TYPE(fs_plain_async_guard_type, "PlainAsyncGuard", "An AsyncGuard of a callable that does not bind.", 0, NULL);

static int add_type(PyObject *module, const char *name, PyTypeObject *type) {
    return PyType_Ready(type) < 0 ? -1 : PyModule_AddObjectRef(module, name, (PyObject *)type);
}

int fs_python_setup(PyObject *module) {
    if (fs_call_setup() < 0 || fs_bound_setup(module) < 0) return -1;
    if (add_type(module, "Guard", &fs_guard_type) < 0 || add_type(module, "AsyncGuard", &fs_async_guard_type) < 0 ||
        PyType_Ready(&fs_plain_guard_type) < 0 || PyType_Ready(&fs_plain_async_guard_type) < 0 ||
        add_type(module, "Awaitable", &fs_awaitable_type) < 0 || PyType_Ready(&fs_steps_type) < 0 || PyType_Ready(&fs_ready_type) < 0 ||
        PyType_Ready(&fs_entry_type) < 0 || add_type(module, "ArmedDeadline", &fs_armed_type) < 0 ||
        add_type(module, "Refusal", &fs_refusal_type) < 0 ||
        add_type(module, "IntegrationResult", &fs_result_type) < 0 || add_type(module, "Flow", &fs_flow_type) < 0 ||
        add_type(module, "StreamSteps", &fs_stream_type) < 0 || add_type(module, "WatchedLoop", &fs_watch_type) < 0 ||
        PyType_Ready(&fs_step_type) < 0 || PyType_Ready(&fs_place_type) < 0)
        return -1;
    return 0;
}
