#include "table.h"

static int entry_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((fs_entry *)self)->value);
    return 0;
}

static int entry_clear(PyObject *self) {
    Py_CLEAR(((fs_entry *)self)->value);
    return 0;
}

static void entry_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    entry_clear(self);
    PyObject_GC_Del(self);
}

PyTypeObject fs_entry_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.Entry",
    .tp_doc = "A value in a bounded table.",
    .tp_basicsize = sizeof(fs_entry),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = entry_dealloc,
    .tp_traverse = entry_traverse,
    .tp_clear = entry_clear,
};

static fs_entry *entry_new(PyObject *value, fs_ticks stamp) {
    fs_entry *entry = PyObject_GC_New(fs_entry, &fs_entry_type);
    if (!entry) return NULL;
    entry->value = Py_NewRef(value);
    entry->stamp = stamp;
    entry->used = true;
    PyObject_GC_Track((PyObject *)entry);
    return entry;
}

/* A new reference, or NULL with or without an error. */
static fs_entry *find(PyObject *table, PyObject *key) {
    PyObject *entry = NULL;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyDict_GetItemRef(table, key, &entry) < 0) return NULL;
#else
    entry = Py_XNewRef(PyDict_GetItemWithError(table, key));
#endif
    return (fs_entry *)entry;
}

#ifdef Py_GIL_DISABLED
#define LOCKED(object, statements)        \
    Py_BEGIN_CRITICAL_SECTION(object);    \
    statements                            \
    Py_END_CRITICAL_SECTION()
#else
#define LOCKED(object, statements) statements
#endif

PyObject *fs_table_get(PyObject *table, PyObject *key, fs_ticks *stamp) {
    fs_entry *entry = find(table, key);
    if (!entry) return NULL;
    PyObject *value;
    LOCKED(entry, {
        value = Py_XNewRef(entry->value);
        if (stamp) *stamp = entry->stamp;
        entry->used = true;
    });
    Py_DECREF(entry);
    return value;
}

/* Take the entry that came first out of the table; put it back at the end if it was used. False: an error, or empty. */
static bool pass_over_oldest(PyObject *table, bool *gone) {
    Py_ssize_t at = 0;
    PyObject *key = NULL, *entry = NULL;
    bool any;
    LOCKED(table, {
        any = PyDict_Next(table, &at, &key, &entry);
        if (any) {
            Py_INCREF(key);
            Py_INCREF(entry);
        }
    });
    if (!any) return false;
    bool used = ((fs_entry *)entry)->used;
    bool done = PyDict_DelItem(table, key) == 0;
    if (done && used) {
        ((fs_entry *)entry)->used = false;
        done = PyDict_SetItem(table, key, entry) == 0;
    }
    *gone = !used;
    Py_DECREF(key);
    Py_DECREF(entry);
    return done;
}

static int make_room(PyObject *table, Py_ssize_t most) {
    bool gone = false;
    for (Py_ssize_t seen = 0; !gone && PyDict_GET_SIZE(table) >= most && seen <= most; seen++)
        if (!pass_over_oldest(table, &gone)) break;
    return PyErr_Occurred() ? -1 : 0;
}

int fs_table_put(PyObject *table, Py_ssize_t most, PyObject *key, PyObject *value, fs_ticks stamp) {
    fs_entry *entry = find(table, key);
    if (FS_LIKELY(entry != NULL)) {
        PyObject *old;
        LOCKED(entry, {
            old = entry->value;
            entry->value = Py_NewRef(value);
            entry->stamp = stamp;
            entry->used = true;
        });
        Py_XDECREF(old); /* last, for its finaliser may come back here */
        Py_DECREF(entry);
        return 0;
    }
    if (PyErr_Occurred() || make_room(table, most) < 0) return -1;
    entry = entry_new(value, stamp);
    int done = entry ? PyDict_SetItem(table, key, (PyObject *)entry) : -1;
    Py_XDECREF(entry);
    return done;
}

static PyObject *tuple_of(PyObject *const *items, Py_ssize_t count) {
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple && i < count; i++) PyTuple_SET_ITEM(tuple, i, Py_NewRef(items[i]));
    return tuple;
}

/* Keywords in whatever order they were given. */
static PyObject *named_of(PyObject *const *values, PyObject *names) {
    PyObject *pairs = PyFrozenSet_New(NULL);
    for (Py_ssize_t i = 0; pairs && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *pair = PyTuple_Pack(2, PyTuple_GET_ITEM(names, i), values[i]);
        if (!pair || PySet_Add(pairs, pair) < 0) Py_CLEAR(pairs);
        Py_XDECREF(pair);
    }
    return pairs;
}

PyObject *fs_key_of(PyObject *maker, uint8_t skip, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    if (count >= skip) {
        args += skip;
        count -= skip;
    }
    if (maker) return PyObject_Vectorcall(maker, args, (size_t)count, kwnames);
    bool named = kwnames && PyTuple_GET_SIZE(kwnames) > 0;
    /* f(x) is known by x, unless that is a tuple: f((1, 2)) is not f(1, 2). */
    if (!named && count == 1 && !PyTuple_Check(args[0])) return Py_NewRef(args[0]);
    PyObject *positional = tuple_of(args, count);
    if (!positional || !named) return positional;
    PyObject *pairs = named_of(args + count, kwnames);
    PyObject *key = pairs ? PyTuple_Pack(2, positional, pairs) : NULL;
    Py_DECREF(positional);
    Py_XDECREF(pairs);
    return key;
}
