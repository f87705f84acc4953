#include "flow.h"

#include <structmember.h>

/* ---- finding key and number in an item */

static int pick_setup(fs_pick *pick, const char *name, PyObject *what) {
    if (what == Py_None) return 0;
    if (PyLong_Check(what) && !PyBool_Check(what)) {
        pick->index = PyLong_AsSsize_t(what);
        if (pick->index == -1 && PyErr_Occurred()) return -1;
        pick->kind = FS_PICK_INDEX;
    } else if (PyUnicode_Check(what)) {
        pick->kind = FS_PICK_FIELD;
    } else if (PyCallable_Check(what)) {
        pick->kind = FS_PICK_CALL;
    } else {
        PyErr_Format(PyExc_TypeError, "%s must be a callable, a field's name or an index, got %R", name, what);
        return -1;
    }
    pick->what = Py_NewRef(what);
    return 0;
}

static PyObject *field_of(PyObject *item, PyObject *name) {
    if (PyDict_CheckExact(item)) return Py_XNewRef(PyDict_GetItemWithError(item, name));
    PyObject *value = PyObject_GetAttr(item, name);
    if (value || !PyErr_ExceptionMatches(PyExc_AttributeError)) return value;
    PyErr_Clear();
    return PyObject_GetItem(item, name);
}

static PyObject *place_of(PyObject *item, const fs_pick *pick) {
    Py_ssize_t at = pick->index;
    if (PyTuple_Check(item)) {
        if (at < 0) at += PyTuple_GET_SIZE(item);
        return at >= 0 && at < PyTuple_GET_SIZE(item) ? Py_NewRef(PyTuple_GET_ITEM(item, at)) : NULL;
    }
#ifndef Py_GIL_DISABLED /* there, another thread may shorten the list meanwhile */
    if (PyList_CheckExact(item)) {
        if (at < 0) at += PyList_GET_SIZE(item);
        return at >= 0 && at < PyList_GET_SIZE(item) ? Py_NewRef(PyList_GET_ITEM(item, at)) : NULL;
    }
#endif
    return PyObject_GetItem(item, pick->what);
}

/* A new reference. NULL: the item has none, as a heartbeat among quotes, or a user's function has raised and that is
 * reported. */
static PyObject *picked(const fs_pick *pick, PyObject *item) {
    PyObject *part = pick->kind == FS_PICK_CALL    ? PyObject_CallOneArg(pick->what, item)
                     : pick->kind == FS_PICK_FIELD ? field_of(item, pick->what)
                                                   : place_of(item, pick);
    if (FS_UNLIKELY(!part) && PyErr_Occurred()) {
        if (pick->kind != FS_PICK_CALL && PyErr_ExceptionMatches(PyExc_Exception))
            PyErr_Clear();
        else
            fs_report_and_clear(pick->what);
    }
    if (FS_UNLIKELY(part == Py_None)) Py_CLEAR(part);
    return part;
}

/* ---- numbers */

void fs_flow_tell(fs_flow *flow, const char *method, const char *format, ...) {
    va_list values;
    va_start(values, format);
    PyObject *arguments = Py_VaBuildValue(format, values);
    va_end(values);
    PyObject *bound = arguments ? PyObject_GetAttrString((PyObject *)flow, method) : NULL;
    PyObject *done = bound ? PyObject_CallObject(bound, arguments) : NULL;
    if (!done) fs_report_and_clear((PyObject *)flow);
    Py_XDECREF(done);
    Py_XDECREF(bound);
    Py_XDECREF(arguments);
}

static PyObject *key_or_none(PyObject *key) { return key ? key : Py_None; }

/* Compare a number with the last in order. True: it is the last in order now. `first` of its connection: one that is not
 * above the last comes again if the connection resumes, and otherwise the peer counts anew. */
static bool in_order(fs_flow *flow, PyObject *key, int64_t last, int64_t number, bool first) {
    if (FS_LIKELY(number > last)) {
        uint64_t skipped = (uint64_t)number - (uint64_t)last - 1;
        if (FS_LIKELY(skipped == 0)) return true;
        flow->gaps++;
        flow->missing += skipped;
        fs_flow_tell(flow, "_gap", "(OLL)", key_or_none(key), (long long)last, (long long)number);
        return true;
    }
    if (first && !flow->resumes) return true;
    if (number == last || first) {
        flow->duplicates++;
        return false;
    }
    flow->disorder++;
    fs_flow_tell(flow, "_disorder", "(OLL)", key_or_none(key), (long long)last, (long long)number);
    return false;
}

static void count_number(fs_flow *flow, int64_t number) {
    bool known = flow->numbered, first = flow->renumbered;
    flow->numbered = true;
    if (!known || in_order(flow, NULL, flow->high, number, first)) {
        flow->high = number;
        flow->renumbered = false; /* from here on, what is lower comes late */
    }
}

/* The number of a key on this connection, or on one before: then *first. NULL: unknown, or an error. */
static PyObject *number_before(fs_flow *flow, PyObject *key, bool *first) {
    PyObject *number = fs_table_get(flow->numbers, key, NULL);
    if (number || PyErr_Occurred() || !flow->before) return number;
    *first = true;
    return Py_XNewRef(PyDict_GetItemWithError(flow->before, key));
}

static int count_keyed(fs_flow *flow, PyObject *key, PyObject *value, int64_t number, fs_ticks now) {
    bool first = false;
    PyObject *old = number_before(flow, key, &first);
    if (!old && PyErr_Occurred()) return -1;
    bool forward = true;
    if (old) {
        int64_t last = PyLong_AsLongLong(old);
        Py_DECREF(old);
        forward = in_order(flow, key, last, number, first);
    }
    return forward ? fs_table_put(flow->numbers, flow->most, &flow->numbers_hand, key, value, now) : 0;
}

void fs_flow_look(fs_flow *flow, PyObject *item, fs_ticks now) {
    PyObject *key = NULL, *value = NULL;
    if (flow->key.kind) {
        key = picked(&flow->key, item);
        if (!key) return;
        if (fs_table_put(flow->values, flow->most, &flow->values_hand, key, item, now) < 0) goto failed;
    }
    if (!flow->sequence.kind) goto done;
    value = picked(&flow->sequence, item);
    if (!value || !PyLong_Check(value)) goto done; /* a heartbeat has none */
    int overflow;
    int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow) goto done;
    if (!key)
        count_number(flow, number);
    else if (count_keyed(flow, key, value, number, now) < 0)
        goto failed;
done:
    Py_XDECREF(key);
    Py_XDECREF(value);
    return;
failed:
    fs_report_and_clear((PyObject *)flow); /* a key that cannot be hashed, or no memory */
    goto done;
}

void fs_flow_arrived_slow(fs_flow *flow, fs_ticks now) {
    fs_ticks last = flow->last;
    fs_store_relaxed(&flow->last, now);
    flow->noted = false;
    if (flow->fresh) {
        flow->fresh = false;
        fs_flow_tell(flow, "_arrived", "()");
        return;
    }
    fs_histogram *histogram = fs_series_stripe(flow->series, fs_stripe());
    if (histogram) fs_histogram_record(histogram, fs_ticks_to_ns(now - last), now);
}

/* ---- the type */

int fs_flow_setup(PyObject *object, PyObject *intervals, fs_series *series, fs_ns stale, PyObject *key,
                  PyObject *sequence, Py_ssize_t most, bool resumes) {
    fs_flow *flow = (fs_flow *)object;
    if (!PyObject_TypeCheck(object, &fs_flow_type) || flow->series) {
        PyErr_Format(PyExc_TypeError, "flow must be a Flow that is not set up yet, got %R", object);
        return -1;
    }
    if (pick_setup(&flow->key, "key", key) < 0 || pick_setup(&flow->sequence, "sequence", sequence) < 0) return -1;
    if (!(flow->values = PyDict_New()) || !(flow->numbers = PyDict_New())) return -1;
    flow->most = most;
    flow->stale = stale;
    flow->resumes = resumes;
    flow->looks = flow->key.kind || flow->sequence.kind;
    flow->fresh = true;
    flow->last = fs_stamp();
    flow->intervals = Py_NewRef(intervals);
    flow->series = series;
    return 0;
}

int fs_flow_traverse(PyObject *self, visitproc visit, void *arg) {
    fs_flow *flow = (fs_flow *)self;
    Py_VISIT(flow->key.what);
    Py_VISIT(flow->sequence.what);
    Py_VISIT(flow->values);
    Py_VISIT(flow->numbers);
    Py_VISIT(flow->before);
    Py_VISIT(flow->intervals);
    return 0;
}

/* The tables alone: a finaliser in the same cycle may still ask for an item. */
int fs_flow_clear(PyObject *self) {
    fs_flow *flow = (fs_flow *)self;
    if (flow->values) PyDict_Clear(flow->values);
    if (flow->numbers) PyDict_Clear(flow->numbers);
    if (flow->before) PyDict_Clear(flow->before);
    return 0;
}

static void flow_dealloc(PyObject *self) {
    fs_flow *flow = (fs_flow *)self;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(flow->key.what);
    Py_CLEAR(flow->sequence.what);
    Py_CLEAR(flow->values);
    Py_CLEAR(flow->numbers);
    Py_CLEAR(flow->before);
    Py_CLEAR(flow->intervals);
    Py_TYPE(self)->tp_free(self);
}

/* Seconds since the last item; NaN before the first. */
static PyObject *flow_age(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_flow *flow = (fs_flow *)self;
    if (fs_load_relaxed(&flow->items) == 0) return PyFloat_FromDouble(Py_NAN);
    fs_ticks now = fs_stamp(), last = fs_load_relaxed(&flow->last);
    return PyFloat_FromDouble(now > last ? (double)fs_ticks_to_ns(now - last) / 1e9 : 0.0);
}

static PyObject *flow_last(PyObject *self, PyObject *key) {
    fs_flow *flow = (fs_flow *)self;
    fs_ticks stamp = 0;
    PyObject *value = fs_table_get(flow->values, key, &stamp);
    if (!value) {
        if (PyErr_Occurred()) return NULL;
        Py_RETURN_NONE;
    }
    fs_ticks now = fs_stamp();
    return Py_BuildValue("(Nd)", value, now > stamp ? (double)fs_ticks_to_ns(now - stamp) / 1e9 : 0.0);
}

static PyObject *flow_high(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_flow *flow = (fs_flow *)self;
    if (!flow->numbered) Py_RETURN_NONE;
    return PyLong_FromLongLong(flow->high);
}

/* {key: last number}, those of connections before included. */
static PyObject *flow_numbers(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_flow *flow = (fs_flow *)self;
    PyObject *all = flow->before ? PyDict_Copy(flow->before) : PyDict_New();
    PyObject *now = all ? PyDict_Copy(flow->numbers) : NULL;
    PyObject *key, *entry;
    for (Py_ssize_t at = 0; now && PyDict_Next(now, &at, &key, &entry);) {
        PyObject *number = fs_table_get(flow->numbers, key, NULL);
        if (!number && !PyErr_Occurred()) continue;
        if (!number || PyDict_SetItem(all, key, number) < 0) Py_CLEAR(now);
        Py_XDECREF(number);
    }
    if (!now) Py_CLEAR(all);
    Py_XDECREF(now);
    return all;
}

/* What comes now comes over another connection. `before`: the numbers so far. */
static PyObject *flow_begin(PyObject *self, PyObject *before) {
    fs_flow *flow = (fs_flow *)self;
    flow->fresh = true;
    flow->noted = false;
    flow->renumbered = flow->numbered;
    PyDict_Clear(flow->numbers);
    Py_XSETREF(flow->before, before == Py_None ? NULL : Py_NewRef(before));
    Py_RETURN_NONE;
}

/* (items, gaps, missing, duplicates, disorder, stale) */
static PyObject *flow_counts(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_flow *flow = (fs_flow *)self;
    return Py_BuildValue("(KKKKKK)", (unsigned long long)fs_load_relaxed(&flow->items), (unsigned long long)flow->gaps,
                         (unsigned long long)flow->missing, (unsigned long long)flow->duplicates,
                         (unsigned long long)flow->disorder, (unsigned long long)flow->stales);
}

/* Count the silence there is, unless it has been. */
static PyObject *flow_note_stale(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_flow *flow = (fs_flow *)self;
    if (flow->noted) Py_RETURN_FALSE;
    flow->noted = true;
    flow->stales++;
    Py_RETURN_TRUE;
}

static PyMethodDef flow_methods[] = {
    {"_age", flow_age, METH_NOARGS, "_age($self, /)\n--\n\nSeconds since the last item, NaN before the first."},
    {"_last", flow_last, METH_O, "_last($self, key, /)\n--\n\n(item, age in seconds), or None."},
    {"_high", flow_high, METH_NOARGS, "_high($self, /)\n--\n\nThe last number in order, without a key."},
    {"_numbers", flow_numbers, METH_NOARGS, "_numbers($self, /)\n--\n\nThe last number in order of each key."},
    {"_begin", flow_begin, METH_O, "_begin($self, before, /)\n--\n\nWhat comes now comes over another connection."},
    {"_counts", flow_counts, METH_NOARGS,
     "_counts($self, /)\n--\n\n(items, gaps, missing, duplicates, disorder, stale)"},
    {"_note_stale", flow_note_stale, METH_NOARGS,
     "_note_stale($self, /)\n--\n\nCount the silence there is. False: it has been."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "For annotations."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef flow_members[] = {
    {"_values", T_OBJECT, offsetof(fs_flow, values), READONLY, "The table of last items."},
    {"intervals", T_OBJECT, offsetof(fs_flow, intervals), READONLY, "The LatencyHistogram of the time between items."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject fs_flow_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.Flow",
    .tp_doc = "What is counted of items that come one after another.",
    .tp_basicsize = sizeof(fs_flow),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = flow_dealloc,
    .tp_traverse = fs_flow_traverse,
    .tp_clear = fs_flow_clear,
    .tp_methods = flow_methods,
    .tp_members = flow_members,
};

/* ---- a plain loop */

typedef struct {
    fs_flow flow;
    PyObject *iterator;
    iternextfunc next;
} fs_watch;

static PyObject *watch_attach(PyObject *self, PyObject *iterable) {
    fs_watch *watch = (fs_watch *)self;
    PyObject *iterator = PyObject_GetIter(iterable);
    if (!iterator) return NULL;
    watch->next = Py_TYPE(iterator)->tp_iternext;
    Py_XSETREF(watch->iterator, iterator);
    Py_RETURN_NONE;
}

/* The silence before this item was too long. */
static __attribute__((noinline)) void late(fs_flow *flow, fs_ns waited) {
    if (flow->noted) return; /* status() was quicker */
    flow->noted = true;
    flow->stales++;
    fs_flow_tell(flow, "_stale", "(d)", (double)waited / 1e9);
}

static PyObject *watch_next(PyObject *self) {
    fs_watch *watch = (fs_watch *)self;
    if (FS_UNLIKELY(!watch->iterator)) return NULL;
    fs_ticks asked = fs_stamp();
    PyObject *item = watch->next(watch->iterator);
    if (FS_UNLIKELY(!item)) {
        PyObject *error = fs_exception_take();
        if (error && PyObject_TypeCheck(error, (PyTypeObject *)PyExc_Exception) &&
            !PyObject_TypeCheck(error, (PyTypeObject *)PyExc_StopIteration))
            fs_flow_tell(&watch->flow, "_failed", "(O)", error);
        if (error) fs_exception_put(error);
        return NULL;
    }
    fs_ticks now = fs_stamp();
    fs_ns waited = fs_ticks_to_ns(now - asked);
    if (FS_UNLIKELY(waited >= watch->flow.stale)) late(&watch->flow, waited);
    fs_flow_arrived(&watch->flow, item, now);
    if (FS_UNLIKELY(watch->flow.noted)) watch->flow.noted = false;
    return item;
}

static PyObject *watch_self(PyObject *self) { return Py_NewRef(self); }

static int watch_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((fs_watch *)self)->iterator);
    return fs_flow_traverse(self, visit, arg);
}

static int watch_clear(PyObject *self) {
    Py_CLEAR(((fs_watch *)self)->iterator);
    return fs_flow_clear(self);
}

static void watch_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    Py_CLEAR(((fs_watch *)self)->iterator);
    flow_dealloc(self);
}

static PyMethodDef watch_methods[] = {
    {"_attach", watch_attach, METH_O, "_attach($self, iterable, /)\n--\n\nIterate over this."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject fs_watch_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.WatchedLoop",
    .tp_doc = "An iterator that counts what passes through it.",
    .tp_base = &fs_flow_type,
    .tp_basicsize = sizeof(fs_watch),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_dealloc = watch_dealloc,
    .tp_traverse = watch_traverse,
    .tp_clear = watch_clear,
    .tp_iter = watch_self,
    .tp_iternext = watch_next,
    .tp_methods = watch_methods,
};
