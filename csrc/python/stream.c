/* stream.c - an async iterator over connections that come and go.
 *
 * What:    `async for` asks fs_stream for an fs_step, which drives what the connection's own __anext__() gives and hands on
 *          what it yields. While items come, nothing else happens: one clock read an item, and where an item has to be
 *          waited for, a note of who waits and since when. All the rest is in streams/: a connection that ends, fails or
 *          falls silent is handed to _lost(), which answers with a coroutine that makes another one, and the step drives
 *          that meanwhile.
 * States:  of a step: NEW -> (CONNECTING <-> ITEM) -> DONE.
 * Units:   stamps (fs_ticks).
 * Threads: one step at a time is under way; another one is refused with RuntimeError.
 * Errors:  what the coroutine raises ends the step; StopAsyncIteration is the end of the stream.
 */
#include "deadlines.h"
#include "flow.h"
#include "freelist.h"
#include "stop.h"

#include <structmember.h>

typedef struct fs_step fs_step;

typedef struct {
    fs_flow flow;
    PyObject *iterator;   /* of the connection there is; NULL: none */
    unaryfunc next;       /* its am_anext */
    fs_step *current;     /* who is under way, borrowed */
    PyObject *task;       /* who waits, for an alarm to cancel; NULL: nobody whom it could */
    long cancelling;      /* how many had asked it to cancel when it began to wait */
    fs_ticks asked;       /* when the present wait began */
    int fired;            /* how often the alarm has cancelled this wait */
    char waiting;
    char armed;           /* an alarm is set, and looks at the above when it goes */
} fs_stream;

enum { NEW = 0, CONNECTING, ITEM, DONE };

struct fs_step {
    PyObject_HEAD
    fs_stream *stream;
    PyObject *inner;      /* what is driven */
    sendfunc send;
    uint8_t stage;
    bool tracked;
    bool waits;           /* for this item */
    bool running;
};

FS_FREE_LIST(fs_step, 16)

/* ---- a step */

static PyObject *stream_anext(PyObject *self) {
    fs_step *step = take_free();
    if (FS_UNLIKELY(!step) && !(step = PyObject_GC_New(fs_step, &fs_step_type))) return NULL;
    step->stream = (fs_stream *)Py_NewRef(self);
    step->inner = NULL;
    step->stage = NEW;
    step->tracked = step->waits = step->running = false;
    return (PyObject *)step;
}

/* Steals `inner`. */
static void drive_this(fs_step *step, PyObject *inner, uint8_t stage) {
    PyAsyncMethods *async = Py_TYPE(inner)->tp_as_async;
    step->send = async && async->am_send ? async->am_send : PyIter_Send;
    step->stage = stage;
    step->waits = false;
    Py_XSETREF(step->inner, inner);
}

static bool enter(fs_step *step) {
    fs_stream *stream = step->stream;
#if FS_MANY_WRITERS
    fs_step *nobody = NULL;
    bool alone = fs_cas(&stream->current, &nobody, step);
#else
    bool alone = stream->current == NULL;
    if (FS_LIKELY(alone)) stream->current = step;
#endif
    if (FS_UNLIKELY(!alone)) PyErr_SetString(PyExc_RuntimeError, "anext(): the stream is being iterated already");
    return alone;
}

static void leave(fs_step *step) {
    if (step->stage != NEW && step->stage != DONE) {
        step->stream->waiting = false;
        Py_CLEAR(step->stream->task);
        fs_store_release(&step->stream->current, NULL);
    }
    step->stage = DONE;
}

/* This task waits from now on. Who asked it to cancel before is counted now: later it could not be told apart from
 * who asks while it waits. */
static void wait_begins(fs_stream *stream) {
    stream->asked = fs_stamp();
    stream->waiting = true;
    PyObject *task = fs_task_now();
    stream->cancelling = task ? fs_task_cancelling(task) : -1;
    if (FS_UNLIKELY(stream->cancelling < 0)) {
        PyErr_Clear(); /* another kind of loop: nobody can be woken */
        Py_XDECREF(task);
        return;
    }
    Py_XSETREF(stream->task, task);
    if (FS_LIKELY(stream->armed) || stream->flow.stale == FS_FOREVER) return;
    stream->armed = true;
    fs_flow_tell(&stream->flow, "_arm", "()");
}

static void suspended(fs_step *step) {
    if (step->stage == ITEM && !step->waits) {
        step->waits = true;
        wait_begins(step->stream);
    }
    if (!step->tracked) PyObject_GC_Track((PyObject *)step);
    step->tracked = true;
}

/* An exception is set. The coroutine that makes up for it; NULL: it stands, or another does. */
static PyObject *lost(fs_stream *stream) {
    PyObject *error = fs_exception_raised();
    PyObject *coroutine = PyObject_CallMethod((PyObject *)stream, "_lost", "O", error);
    if (coroutine == Py_None) {
        Py_DECREF(coroutine);
        fs_exception_put(error);
        return NULL;
    }
    Py_DECREF(error);
    return coroutine;
}

/* Ask the connection for an item. False: it raised. */
static bool ask(fs_step *step) {
    fs_stream *stream = step->stream;
    step->stage = ITEM;
    if (FS_UNLIKELY(!stream->iterator)) {
        PyErr_SetString(PyExc_StopAsyncIteration, "");
        return false;
    }
    PyObject *awaitable = stream->next(stream->iterator);
    PyObject *inner = awaitable ? fs_inner_iterator(awaitable) : NULL;
    if (FS_UNLIKELY(!inner)) return false;
    drive_this(step, inner, ITEM);
    return true;
}

static PySendResult send_on(fs_step *step, PyObject *arg, PyObject **value) {
    step->running = true;
    PySendResult status = step->send(step->inner, arg, value);
    step->running = false;
    return status;
}

/* Go on from what a send or a throw came to. */
static PySendResult go_on(fs_step *step, PySendResult status, PyObject *value, PyObject **result) {
    fs_stream *stream = step->stream;
    for (;;) {
        *result = value;
        if (status == PYGEN_NEXT) {
            suspended(step);
            return PYGEN_NEXT;
        }
        if (FS_LIKELY(step->stage == ITEM)) {
            stream->waiting = false;
            if (FS_LIKELY(status == PYGEN_RETURN)) {
                if (FS_UNLIKELY(stream->fired)) fs_flow_tell(&stream->flow, "_spared", "()");
                fs_flow_arrived(&stream->flow, value, fs_stamp());
                leave(step);
                return PYGEN_RETURN;
            }
            PyObject *coroutine = lost(stream);
            if (!coroutine) break;
            drive_this(step, coroutine, CONNECTING);
        } else {
            if (status == PYGEN_ERROR) break;
            Py_DECREF(value);
            value = NULL;
            if (!ask(step)) {
                status = PYGEN_ERROR;
                continue;
            }
        }
        value = NULL;
        status = send_on(step, Py_None, &value);
    }
    leave(step);
    *result = NULL;
    return PYGEN_ERROR;
}

static bool usable(const fs_step *step) {
    if (FS_UNLIKELY(step->running)) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return false;
    }
    if (FS_UNLIKELY(step->stage == DONE)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited __anext__()");
        return false;
    }
    return true;
}

/* Let it begin. False: it did not, and an exception is set. */
static bool begin(fs_step *step) {
    if (!enter(step)) return false;
    if (FS_LIKELY(step->stream->iterator != NULL)) {
        if (FS_LIKELY(ask(step))) return true;
        PyObject *coroutine = lost(step->stream);
        if (coroutine) drive_this(step, coroutine, CONNECTING);
        if (coroutine) return true;
    } else {
        step->stage = CONNECTING;
        PyObject *coroutine = PyObject_CallMethod((PyObject *)step->stream, "_connect", NULL);
        if (coroutine) drive_this(step, coroutine, CONNECTING);
        if (coroutine) return true;
    }
    leave(step);
    return false;
}

static PySendResult step_send(PyObject *self, PyObject *arg, PyObject **result) {
    fs_step *step = (fs_step *)self;
    *result = NULL;
    if (FS_UNLIKELY(!usable(step))) return PYGEN_ERROR;
    if (step->stage == NEW) {
        if (FS_UNLIKELY(arg != Py_None)) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        if (FS_UNLIKELY(!begin(step))) return PYGEN_ERROR;
    }
    PyObject *value = NULL;
    PySendResult status = send_on(step, arg, &value);
    return go_on(step, status, value, result);
}

static PyObject *step_iternext(PyObject *self) {
    PyObject *result;
    PySendResult status = step_send(self, Py_None, &result);
    if (status != PYGEN_RETURN) return fs_send_as_method(status, result);
    fs_stop(result, Py_REFCNT(self) == 1);
    return NULL;
}

static PyObject *step_send_method(PyObject *self, PyObject *arg) {
    PyObject *result;
    PySendResult status = step_send(self, arg, &result);
    return fs_send_as_method(status, result);
}

static PyObject *step_throw(PyObject *self, PyObject *args) {
    fs_step *step = (fs_step *)self;
    if (!usable(step)) return NULL;
    if (step->stage == NEW) { /* raised where it would have begun */
        step->stage = DONE;
        return fs_inner_throw(Py_None, args);
    }
    step->running = true;
    PyObject *value = fs_inner_throw(step->inner, args);
    step->running = false;
    PySendResult status = value ? PYGEN_NEXT : PYGEN_ERROR;
    if (!value && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyObject *stop = fs_exception_take(), *given = ((PyStopIterationObject *)stop)->value;
        value = Py_NewRef(given ? given : Py_None);
        status = PYGEN_RETURN;
        Py_DECREF(stop);
    }
    PyObject *result;
    status = go_on(step, status, value, &result);
    return fs_send_as_method(status, result);
}

static PyObject *step_close(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_step *step = (fs_step *)self;
    if (step->stage == DONE) Py_RETURN_NONE;
    if (!usable(step)) return NULL;
    if (step->stage == NEW) {
        step->stage = DONE;
        Py_RETURN_NONE;
    }
    step->running = true;
    PyObject *closed = fs_inner_close(step->inner);
    step->running = false;
    PyObject *error = closed ? NULL : fs_exception_take();
    leave(step);
    if (error) fs_exception_put(error);
    return closed;
}

static PyObject *step_await(PyObject *self) {
    fs_step *step = (fs_step *)self;
    if (step->stage == NEW || step->stage == DONE) return Py_NewRef(self);
    PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
    return NULL;
}

static int step_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((fs_step *)self)->stream);
    Py_VISIT(((fs_step *)self)->inner);
    return 0;
}

static int step_clear(PyObject *self) {
    fs_step *step = (fs_step *)self;
    if (step->stage != NEW) leave(step);
    Py_CLEAR(step->inner);
    return 0;
}

static void step_dealloc(PyObject *self) {
    fs_step *step = (fs_step *)self;
    if (step->tracked) PyObject_GC_UnTrack(self);
    step->tracked = false;
    leave(step);
    Py_CLEAR(step->inner);
    fs_stop_forget();
    Py_CLEAR(step->stream);
    if (!give_free(step)) PyObject_GC_Del(self);
}

static PyMethodDef step_methods[] = {
    {"send", step_send_method, METH_O, "send($self, value, /)\n--\n\nAs of a coroutine."},
    {"throw", step_throw, METH_VARARGS, "throw($self, /, *args)\n--\n\nAs of a coroutine."},
    {"close", step_close, METH_NOARGS, "close($self, /)\n--\n\nAs of a coroutine."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods step_async = {.am_await = step_await, .am_send = step_send};

static PyObject *step_self(PyObject *self) { return Py_NewRef(self); }

PyTypeObject fs_step_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.StreamStep",
    .tp_doc = "What a stream's __anext__() gives.",
    .tp_basicsize = sizeof(fs_step),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = step_dealloc,
    .tp_traverse = step_traverse,
    .tp_clear = step_clear,
    .tp_as_async = &step_async,
    .tp_iter = step_self,
    .tp_iternext = step_iternext,
    .tp_methods = step_methods,
};

/* ---- the stream */

static PyObject *stream_attach(PyObject *self, PyObject *iterator) {
    fs_stream *stream = (fs_stream *)self;
    if (iterator == Py_None) {
        Py_CLEAR(stream->iterator);
        Py_RETURN_NONE;
    }
    PyAsyncMethods *async = Py_TYPE(iterator)->tp_as_async;
    if (!async || !async->am_anext) {
        PyErr_Format(PyExc_TypeError, "connect must give an async iterable, got an iterator %R without __anext__", iterator);
        return NULL;
    }
    stream->next = async->am_anext;
    Py_XSETREF(stream->iterator, Py_NewRef(iterator));
    Py_RETURN_NONE;
}

/* Seconds until the present wait is too long, not positive if it is; None: nobody waits. */
static PyObject *stream_left(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_stream *stream = (fs_stream *)self;
    if (!stream->waiting || stream->flow.stale == FS_FOREVER) Py_RETURN_NONE;
    fs_ns waited = fs_ticks_to_ns(fs_stamp() - stream->asked);
    return PyFloat_FromDouble(((double)stream->flow.stale - (double)waited) / 1e9);
}

static int stream_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((fs_stream *)self)->iterator);
    Py_VISIT(((fs_stream *)self)->task);
    return fs_flow_traverse(self, visit, arg);
}

static int stream_clear(PyObject *self) {
    Py_CLEAR(((fs_stream *)self)->iterator);
    Py_CLEAR(((fs_stream *)self)->task);
    return fs_flow_clear(self);
}

static void stream_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(((fs_stream *)self)->iterator);
    Py_CLEAR(((fs_stream *)self)->task);
    fs_flow_type.tp_dealloc(self);
}

static PyMethodDef stream_methods[] = {
    {"_attach", stream_attach, METH_O, "_attach($self, iterator, /)\n--\n\nAsk this for items; None: there is nobody."},
    {"_left", stream_left, METH_NOARGS, "_left($self, /)\n--\n\nSeconds until the present wait is too long."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stream_members[] = {
    {"_task", T_OBJECT, offsetof(fs_stream, task), READONLY, "Who waits."},
    {"_cancelling", T_LONG, offsetof(fs_stream, cancelling), READONLY, "How many had asked it to cancel before."},
    {"_fired", T_INT, offsetof(fs_stream, fired), 0, "How often the alarm has cancelled this wait."},
    {"_waiting", T_BOOL, offsetof(fs_stream, waiting), READONLY, "Somebody waits for an item."},
    {"_armed", T_BOOL, offsetof(fs_stream, armed), 0, "An alarm is set."},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *stream_self(PyObject *self) { return Py_NewRef(self); }

static PyAsyncMethods stream_async = {.am_aiter = stream_self, .am_anext = stream_anext};

PyTypeObject fs_stream_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.StreamSteps",
    .tp_doc = "An async iterator over connections that come and go.",
    .tp_base = &fs_flow_type,
    .tp_basicsize = sizeof(fs_stream),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_dealloc = stream_dealloc,
    .tp_traverse = stream_traverse,
    .tp_clear = stream_clear,
    .tp_as_async = &stream_async,
    .tp_methods = stream_methods,
    .tp_members = stream_members,
};
