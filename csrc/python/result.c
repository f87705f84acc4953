/* What a call answers with when it does not raise, and what a refusal knows. Both are small and made fast, because an
 * open circuit must be cheap too: fields that cost something are made when they are first asked for. */
#include "freelist.h"

#include <structmember.h>

/* ---- Refusal: the numbers of the gate's "no", taken when it was said */

typedef struct {
    fs_ns when;             /* CLOCK_MONOTONIC */
    fs_ns retry_after;      /* FS_FOREVER: nobody knows */
    double allowed;         /* capacity, or what load control allowed; see fs_load_number */
    uint32_t generation;
    uint32_t failures;
    uint8_t state;
    uint8_t because;
    uint8_t code;           /* of the limit of load control that refused; 0: none */
    bool limited;           /* refused for capacity, not by the state */
    bool late;              /* refused because the deadline around the call has passed */
} fs_numbers;

typedef struct {
    PyObject_HEAD
    fs_guard *guard;
    fs_numbers numbers;
} fs_refusal;

/* By what refused: the state, capacity, rate limit, bulkhead, throttle, a deadline that has passed. */
static PyTypeObject *errors[6];

int fs_refusal_errors_set(PyObject *const classes[6]) {
    for (int i = 0; i < 6; i++) Py_XSETREF(errors[i], (PyTypeObject *)Py_NewRef(classes[i]));
    return 0;
}

/* Into where they stay: to copy as one what was just written in pieces would have to wait for it. */
static void take_numbers(fs_numbers *into, fs_guard *guard, fs_permit permit, fs_ns now) {
    fs_breaker *breaker = fs_guard_breaker(guard);
    uint64_t gate = fs_breaker_gate(breaker);
    *into = (fs_numbers){
        .when = now,
        .generation = fs_gate_generation(gate),
        .failures = fs_breaker_failures(breaker),
        .state = (uint8_t)fs_gate_state(gate),
        .because = (uint8_t)fs_breaker_because(breaker),
        .limited = permit == FS_NO_ROOM,
        .late = permit == FS_TOO_LATE,
        .code = (uint8_t)fs_load_code(permit),
        .retry_after = FS_FOREVER,
    };
    uint64_t code = fs_load_code(permit);
    if (permit == FS_NO_ROOM) {
        into->allowed = fs_capacity_of(fs_breaker_share(breaker, now));
    } else if (code) {
        into->allowed = fs_load_number(guard->load, code);
        into->retry_after = fs_load_retry_after(guard->load, permit, now);
    } else if (permit != FS_TOO_LATE) {
        into->retry_after = fs_breaker_retry_after(breaker, now);
    }
}

static fs_refusal *refusal_of(fs_guard *guard) {
    fs_refusal *self = PyObject_GC_New(fs_refusal, &fs_refusal_type);
    if (self) self->guard = (fs_guard *)Py_NewRef((PyObject *)guard);
    return self;
}

PyObject *fs_refusal_new(fs_guard *guard, fs_permit permit, fs_ns now) {
    fs_refusal *self = refusal_of(guard);
    if (!self) return NULL;
    take_numbers(&self->numbers, guard, permit, now);
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

/* The error class around a refusal, without running its __init__. Steals `refusal`. */
static PyObject *error_of(PyObject *refusal) {
    const fs_numbers *numbers = &((fs_refusal *)refusal)->numbers;
    PyTypeObject *type = errors[numbers->late ? 5 : numbers->limited ? 1 : numbers->code / 2];
    PyObject *error = type->tp_alloc(type, 0);
    PyObject *args = error ? PyTuple_New(1) : NULL;
    if (!args) {
        Py_XDECREF(error);
        Py_DECREF(refusal);
        return NULL;
    }
    PyTuple_SET_ITEM(args, 0, refusal);
    ((PyBaseExceptionObject *)error)->args = args;
    return error;
}

PyObject *fs_refusal_raise(PyObject *refusal) {
    PyObject *error = error_of(refusal);
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

static int refusal_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(((fs_refusal *)object)->guard);
    return 0;
}

/* Without a clear: a guard breaks the cycles it is in. */
static void refusal_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    Py_DECREF(((fs_refusal *)object)->guard);
    PyObject_GC_Del(object);
}

static PyObject *refusal_describe(PyObject *object, PyObject *Py_UNUSED(ignored)) {
    return PyObject_CallMethod(((fs_refusal *)object)->guard->recovery, "describe", "O", object);
}

static PyObject *refusal_error(PyObject *object, PyObject *Py_UNUSED(ignored)) { return error_of(Py_NewRef(object)); }

static PyMethodDef refusal_methods[] = {
    {"error", refusal_error, METH_NOARGS, "error($self, /)\n--\n\nThe error that stands for it."},
    {"describe", refusal_describe, METH_NOARGS, "describe($self, /)\n--\n\nEvery field of the error it stands for."},
    {NULL, NULL, 0, NULL},
};

static PyObject *refusal_retry_after(PyObject *object, void *Py_UNUSED(closure)) {
    fs_ns wait = ((fs_refusal *)object)->numbers.retry_after;
    if (wait == FS_FOREVER) Py_RETURN_NONE;
    return PyFloat_FromDouble((double)wait / 1e9);
}

static PyObject *refusal_capacity(PyObject *object, void *Py_UNUSED(closure)) {
    const fs_numbers *numbers = &((fs_refusal *)object)->numbers;
    return PyFloat_FromDouble(numbers->limited || numbers->code == FS_THROTTLED ? numbers->allowed : 0.0);
}

static PyObject *refusal_age(PyObject *object, void *Py_UNUSED(closure)) {
    return PyFloat_FromDouble((double)(fs_now() - ((fs_refusal *)object)->numbers.when) / 1e9);
}

static PyMemberDef refusal_members[] = {
    {"state", T_UBYTE, offsetof(fs_refusal, numbers.state), READONLY, "fs_state of the breaker."},
    {"because", T_UBYTE, offsetof(fs_refusal, numbers.because), READONLY, "fs_because of its last change."},
    {"generation", T_UINT, offsetof(fs_refusal, numbers.generation), READONLY, "Its generation."},
    {"failures", T_UINT, offsetof(fs_refusal, numbers.failures), READONLY, "Consecutive failures that tripped it."},
    {"limited", T_BOOL, offsetof(fs_refusal, numbers.limited), READONLY, "Refused for capacity, not by the state."},
    {"late", T_BOOL, offsetof(fs_refusal, numbers.late), READONLY, "Refused for a deadline around the call has passed."},
    {"load", T_UBYTE, offsetof(fs_refusal, numbers.code), READONLY, "The limit of load control that refused; 0: none."},
    {"allowed", T_DOUBLE, offsetof(fs_refusal, numbers.allowed), READONLY, "What that limit, or the capacity, allowed."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef refusal_getset[] = {
    {"capacity", refusal_capacity, NULL, "The share of calls that go, where it was refused for that; else 0.0.", NULL},
    {"retry_after", refusal_retry_after, NULL, "Seconds until a call may go, from then; None: unknown.", NULL},
    {"age", refusal_age, NULL, "Seconds since the refusal.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject fs_refusal_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.Refusal",
    .tp_doc = "Why and when a gate refused a call, and when to come back.",
    .tp_basicsize = sizeof(fs_refusal),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = refusal_dealloc,
    .tp_traverse = refusal_traverse,
    .tp_methods = refusal_methods,
    .tp_members = refusal_members,
    .tp_getset = refusal_getset,
};

/* ---- IntegrationResult */

typedef struct {
    PyObject_HEAD
    PyObject *data;
    PyObject *error;          /* NULL: none, or not asked for yet: see refused */
    PyObject *guard;          /* NULL: made outside a guard */
    PyObject *fallback_type;  /* NULL: none used */
    PyObject *data_age;       /* NULL: unknown */
    fs_ns took;
    fs_numbers numbers;       /* of the refusal, if refused */
    uint32_t attempts;
    bool success;
    bool refused;             /* the error is made of the numbers when somebody looks */
} fs_result;

FS_FREE_LIST(fs_result, 32)

static fs_result *result_new(void) {
    fs_result *self = take_free();
    if (!self) {
        self = PyObject_GC_New(fs_result, &fs_result_type);
        if (!self) return NULL;
    }
    /* Field by field: the numbers are set where they count, and clearing them all would be a call of its own. */
    self->data = self->error = self->guard = self->fallback_type = self->data_age = NULL;
    self->took = 0;
    self->attempts = 0;
    self->success = self->refused = false;
    return self;
}

PyObject *fs_result_success(fs_guard *guard, PyObject *value, fs_ns took) {
    fs_result *self = result_new();
    if (!self) {
        Py_DECREF(value);
        return NULL;
    }
    self->success = true;
    self->data = value;
    self->guard = Py_NewRef((PyObject *)guard);
    self->took = took;
    self->attempts = 1;
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

PyObject *fs_result_refused(fs_guard *guard, fs_permit permit, fs_ns now) {
    fs_result *self = result_new();
    if (!self) return NULL;
    self->data = Py_NewRef(Py_None);
    self->refused = true;
    take_numbers(&self->numbers, guard, permit, now);
    self->guard = Py_NewRef((PyObject *)guard);
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

static PyObject *result_make(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *kwargs) {
    static char *names[] = {"success", "data", "error", "guard", "duration", "attempts", "fallback_type", "data_age", NULL};
    int success;
    PyObject *data = Py_None, *error = Py_None, *guard = Py_None, *fallback = Py_None, *age = Py_None;
    double duration = 0.0;
    unsigned int attempts = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "p|$OOOdIOO:IntegrationResult", names, &success, &data, &error, &guard,
                                     &duration, &attempts, &fallback, &age))
        return NULL;
    if (!(duration >= 0.0 && duration < 9e9)) {
        PyErr_SetString(PyExc_ValueError, "duration must be seconds, 0 to 9e9");
        return NULL;
    }
    fs_result *self = result_new();
    if (!self) return NULL;
    self->success = success;
    self->data = Py_NewRef(data);
    self->error = error == Py_None ? NULL : Py_NewRef(error);
    self->guard = guard == Py_None ? NULL : Py_NewRef(guard);
    self->fallback_type = fallback == Py_None ? NULL : Py_NewRef(fallback);
    self->data_age = age == Py_None ? NULL : Py_NewRef(age);
    self->took = (fs_ns)(duration * 1e9);
    self->attempts = attempts;
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

static int result_traverse(PyObject *object, visitproc visit, void *arg) {
    fs_result *self = (fs_result *)object;
    Py_VISIT(self->data);
    Py_VISIT(self->error);
    Py_VISIT(self->guard);
    Py_VISIT(self->fallback_type);
    Py_VISIT(self->data_age);
    return 0;
}

static int result_clear(PyObject *object) {
    fs_result *self = (fs_result *)object;
    Py_CLEAR(self->data);
    Py_CLEAR(self->error);
    Py_CLEAR(self->guard);
    Py_CLEAR(self->fallback_type);
    Py_CLEAR(self->data_age);
    return 0;
}

static void result_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    result_clear(object);
    if (!give_free((fs_result *)object)) PyObject_GC_Del(object);
}

static PyObject *or_none(PyObject *object) { return Py_NewRef(object ? object : Py_None); }

static PyObject *result_data(PyObject *self, void *Py_UNUSED(closure)) { return or_none(((fs_result *)self)->data); }

/* The error, made of the refusal's numbers at the first look. Making it may let another thread look too, and all who
 * look see one error: the first to be put there. */
static PyObject *made_error(fs_result *self) {
    if (self->error || !self->refused || !self->guard) return or_none(self->error);
    fs_refusal *refusal = refusal_of((fs_guard *)self->guard);
    if (!refusal) return NULL;
    refusal->numbers = self->numbers;
    PyObject_GC_Track((PyObject *)refusal);
    PyObject *error = error_of((PyObject *)refusal);
    if (!error) return NULL;
    if (self->error) {
        Py_DECREF(error);
        return Py_NewRef(self->error);
    }
    self->error = Py_NewRef(error);
    return error;
}

static PyObject *result_error(PyObject *object, void *Py_UNUSED(closure)) {
#ifdef Py_GIL_DISABLED
    PyObject *error;
    Py_BEGIN_CRITICAL_SECTION(object);
    error = made_error((fs_result *)object);
    Py_END_CRITICAL_SECTION();
    return error;
#else
    return made_error((fs_result *)object);
#endif
}

static PyObject *result_metrics(PyObject *object, void *Py_UNUSED(closure)) {
    fs_result *self = (fs_result *)object;
    return self->guard ? PyObject_CallMethod(self->guard, "metrics", NULL) : Py_NewRef(Py_None);
}

static PyObject *result_duration(PyObject *self, void *Py_UNUSED(closure)) {
    return PyFloat_FromDouble((double)((fs_result *)self)->took / 1e9);
}

static PyObject *result_fallback_type(PyObject *self, void *Py_UNUSED(closure)) {
    return or_none(((fs_result *)self)->fallback_type);
}

static PyObject *result_fallback_used(PyObject *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(((fs_result *)self)->fallback_type != NULL);
}

static PyObject *result_data_age(PyObject *self, void *Py_UNUSED(closure)) {
    return or_none(((fs_result *)self)->data_age);
}

static PyObject *result_repr(PyObject *object) {
    fs_result *self = (fs_result *)object;
    if (self->success) return PyUnicode_FromFormat("IntegrationResult(success=True, data=%R)", self->data);
    PyObject *error = result_error(object, NULL);
    PyObject *text = error ? PyUnicode_FromFormat("IntegrationResult(success=False, error=%R)", error) : NULL;
    Py_XDECREF(error);
    return text;
}

typedef struct {
    PyObject_HEAD
    PyObject *result;
} fs_ready;

static PyObject *ready_next(PyObject *self) {
    PyObject *made = PyObject_CallOneArg(PyExc_StopIteration, ((fs_ready *)self)->result);
    if (made) fs_exception_put(made);
    return NULL;
}

static PyObject *ready_self(PyObject *self) { return Py_NewRef(self); }

static void ready_dealloc(PyObject *self) {
    Py_DECREF(((fs_ready *)self)->result);
    PyObject_Free(self);
}

PyTypeObject fs_ready_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.ResultSteps",
    .tp_doc = "Steps to a result that is there already.",
    .tp_basicsize = sizeof(fs_ready),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = ready_dealloc,
    .tp_iter = ready_self,
    .tp_iternext = ready_next,
};

/* `await result` gives the result: whoever cannot know whether an operation is async may always await what it gave. */
static PyObject *result_await(PyObject *object) {
    fs_ready *ready = PyObject_New(fs_ready, &fs_ready_type);
    if (ready) ready->result = Py_NewRef(object);
    return (PyObject *)ready;
}

static PyAsyncMethods result_async = {.am_await = result_await};

static PyMethodDef result_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "For annotations."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef result_members[] = {
    {"success", T_BOOL, offsetof(fs_result, success), READONLY, "The operation, or a fallback for it, gave `data`."},
    {"attempts", T_UINT, offsetof(fs_result, attempts), READONLY, "Attempts that reached the dependency."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef result_getset[] = {
    {"data", result_data, NULL, "What the operation returned, or a fallback; None otherwise.", NULL},
    {"error", result_error, NULL, "The IntegrationError of the primary operation, or None.", NULL},
    {"metrics", result_metrics, NULL, "The OperationMetrics of the operation, read now.", NULL},
    {"duration", result_duration, NULL, "Seconds from the first attempt's start.", NULL},
    {"fallback_used", result_fallback_used, NULL, "Whether `data` came from a fallback.", NULL},
    {"fallback_type", result_fallback_type, NULL, "FallbackType of the fallback used, or None.", NULL},
    {"data_age", result_data_age, NULL, "Seconds since fallback data was fresh, or None where unknown.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject fs_result_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.IntegrationResult",
    .tp_doc = "IntegrationResult(success, *, data=None, error=None, guard=None, duration=0.0, attempts=0,\n"
              "fallback_type=None, data_age=None)\n--\n\nWhat a guarded call came to: data or an error, and how it got there.",
    .tp_basicsize = sizeof(fs_result),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = result_make,
    .tp_dealloc = result_dealloc,
    .tp_traverse = result_traverse,
    .tp_clear = result_clear,
    .tp_repr = result_repr,
    .tp_as_async = &result_async,
    .tp_methods = result_methods,
    .tp_members = result_members,
    .tp_getset = result_getset,
};
