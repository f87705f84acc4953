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
    entry->clock = fs_load_relaxed(&fs_clock.source);
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
        bool known = !stamp || entry->clock == fs_load_relaxed(&fs_clock.source);
        value = known ? Py_XNewRef(entry->value) : NULL;
        if (stamp) *stamp = entry->stamp;
        entry->used = true;
    });
    Py_DECREF(entry);
    return value;
}

/* So many marks are taken in one go at most, so that nobody waits for a walk around a large table. */
#define MARKS_MOST 4096

/* Go on to the next entry without a mark, or to the last that there is time for. False: the table is empty. */
static bool next_to_go(PyObject *table, Py_ssize_t *hand, PyObject **key) {
    PyObject *entry;
    bool any;
    Py_ssize_t at = fs_load_relaxed(hand);
    LOCKED(table, {
        for (int passed = 0;; passed++) {
            any = PyDict_Next(table, &at, key, &entry);
            if (!any) {
                at = 0;
                any = PyDict_Next(table, &at, key, &entry);
            }
            if (!any || !((fs_entry *)entry)->used || passed == MARKS_MOST) break;
            ((fs_entry *)entry)->used = false;
        }
        if (any) Py_INCREF(*key);
    });
    fs_store_relaxed(hand, at);
    return any;
}

/* A key that is not equal to itself any more cannot be taken out. With so many of them, all begins anew. */
#define LOST_MOST 64

static int make_room(PyObject *table, Py_ssize_t most, Py_ssize_t *hand) {
    PyObject *key;
    int lost = 0;
    while (PyDict_GET_SIZE(table) >= most && next_to_go(table, hand, &key)) {
        int done = PyDict_DelItem(table, key);
        Py_DECREF(key);
        if (done == 0) continue;
        if (!PyErr_ExceptionMatches(PyExc_KeyError)) return -1;
        PyErr_Clear(); /* another thread was quicker, or the key is lost */
        if (++lost == LOST_MOST) PyDict_Clear(table);
    }
    return 0;
}

int fs_table_put(PyObject *table, Py_ssize_t most, Py_ssize_t *hand, PyObject *key, PyObject *value, fs_ticks stamp) {
    fs_entry *entry = find(table, key);
    if (FS_LIKELY(entry != NULL)) {
        PyObject *old;
        LOCKED(entry, {
            old = entry->value;
            entry->value = Py_NewRef(value);
            entry->stamp = stamp;
            entry->clock = fs_load_relaxed(&fs_clock.source);
            entry->used = true;
        });
        Py_XDECREF(old); /* last, for its finaliser may come back here */
        Py_DECREF(entry);
        return 0;
    }
    if (PyErr_Occurred() || make_room(table, most, hand) < 0) return -1;
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

PyObject *fs_key_of(PyObject *maker, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    if (maker) return PyObject_Vectorcall(maker, args, (size_t)count, kwnames);
    bool named = kwnames && PyTuple_GET_SIZE(kwnames) > 0;
    /* f(x) is known by x, unless that is a tuple: f((1, 2)) is not f(1, 2). */
    if (!named && count == 1 && !PyTuple_Check(args[0])) return Py_NewRef(args[0]);
    PyObject *positional = tuple_of(args, count);
    if (!positional || !named) return positional;
    PyObject *pairs = named_of(args + count, kwnames);
    /* The type stands for "keywords follow": no caller has it to give as an argument. */
    PyObject *key = pairs ? PyTuple_Pack(3, (PyObject *)&fs_entry_type, positional, pairs) : NULL;
    Py_DECREF(positional);
    Py_XDECREF(pairs);
    return key;
}
