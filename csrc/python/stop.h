/* stop.h - how an awaitable hands its value to `await`.
 *
 * What:    from 3.12 on, the interpreter drives an awaitable that is not a coroutine by tp_iternext, and reads the value
 *          off a StopIteration. Making that exception costs more than the rest of a guarded await, so one is kept and
 *          used again while nobody else holds it and it looks unused: no traceback, context, cause or dict, all of
 *          which a user who caught it may have left. A None needs no exception at all.
 * States:  at most one kept exception. fs_stop_forget() drops its value, so that a result does not live on in it.
 * Units:   none.
 * Threads: under the GIL one is enough: the interpreter takes the value before anybody else can run. Builds without
 *          the GIL make a fresh one each time.
 * Errors:  fs_stop always leaves an exception set, MemoryError at worst, or none for None.
 */
#ifndef FAILSOFT_PYTHON_STOP_H
#define FAILSOFT_PYTHON_STOP_H

#include "guard.h"

#if !FS_MANY_WRITERS && PY_VERSION_HEX >= 0x030C0000
#define FS_KEEPS_STOP 1
extern PyObject *fs_stop_kept;

static inline bool fs_stop_unused(PyObject *stop) {
    PyBaseExceptionObject *base = (PyBaseExceptionObject *)stop;
    return Py_REFCNT(stop) == 1 && !base->traceback && !base->context && !base->cause && !base->dict && !base->notes;
}

static inline void fs_stop_forget(void) {
    if (!fs_stop_kept || Py_REFCNT(fs_stop_kept) != 1) return;
    PyObject *value = ((PyStopIterationObject *)fs_stop_kept)->value;
    ((PyStopIterationObject *)fs_stop_kept)->value = NULL; /* before it goes: its finaliser may come back here */
    Py_XDECREF(value);
}
#else
static inline void fs_stop_forget(void) {}
#endif

/* Raise StopIteration(value), complete. Steals it. */
static inline void fs_stop_fresh(PyObject *value) {
    /* Called rather than set: PyErr_SetObject would unpack a tuple into arguments. None is no argument at all. */
    PyObject *made = value == Py_None ? PyObject_CallNoArgs(PyExc_StopIteration)
                                      : PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    if (made) fs_exception_put(made);
}

/* Make tp_iternext return `value`, by the kept exception if nobody but `await` is going to look at it. Steals it. */
static inline void fs_stop(PyObject *value, bool await_alone) {
    if (value == Py_None && await_alone) {
        Py_DECREF(value);
        return;
    }
#ifdef FS_KEEPS_STOP
    if (FS_LIKELY(await_alone)) {
        if (FS_UNLIKELY(!fs_stop_kept)) fs_stop_kept = PyObject_CallNoArgs(PyExc_StopIteration);
        PyObject *stop = fs_stop_kept;
        if (FS_LIKELY(stop && fs_stop_unused(stop))) {
            /* The old value goes last: its finaliser may come back here. */
            PyObject *old = ((PyStopIterationObject *)stop)->value;
            ((PyStopIterationObject *)stop)->value = value;
            PyErr_SetRaisedException(Py_NewRef(stop));
            Py_XDECREF(old);
            return;
        }
        Py_CLEAR(fs_stop_kept); /* somebody has caught it: it is theirs */
    }
#endif
    fs_stop_fresh(value);
}

#endif
