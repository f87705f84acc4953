/* table.h - a bounded dict that forgets what nobody uses.
 *
 * What:    what guards keep a key: the last value an operation gave (a LAST_KNOWN fallback wants it), or the guard of a
 *          venue, shard or host (`key=`). A dict of entries in the order they came; each use marks its entry, and where room
 *          is needed the oldest goes whose mark is not set, while marked ones lose the mark and go to the end of the
 *          queue ("second chance": as good as least-recently-used, for one store a use).
 * States:  of an entry: used or not.
 * Units:   stamps (fs_ticks).
 * Threads: any. A value is swapped under its entry's lock on builds without the GIL.
 * Errors:  Python's convention. Hashing and comparing keys runs users' code, which may raise.
 */
#ifndef FAILSOFT_PYTHON_TABLE_H
#define FAILSOFT_PYTHON_TABLE_H

#include "guard.h"

typedef struct {
    PyObject_HEAD
    PyObject *value;
    fs_ticks stamp;
    bool used;
} fs_entry;

extern PyTypeObject fs_entry_type;

/* The value under a key and when it was put there, marked as used. A new reference, or NULL: there is none, or an
 * error is set. */
PyObject *fs_table_get(PyObject *table, PyObject *key, fs_ticks *stamp);

/* Put a value under a key, in a table of at most `most`. */
int fs_table_put(PyObject *table, Py_ssize_t most, PyObject *key, PyObject *value, fs_ticks stamp);

/* What the arguments of a call are known by: what `maker` makes of them, or where that is NULL the arguments themselves.
 * The first `skip` of them do not count. */
PyObject *fs_key_of(PyObject *maker, uint8_t skip, PyObject *const *args, size_t nargsf, PyObject *kwnames);

#endif
