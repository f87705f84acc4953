/* table.h - a bounded dict that forgets what nobody uses.
 *
 * What:    what guards keep a key: the last value an operation gave (a LAST_KNOWN fallback wants it), or the guard of a
 *          venue, shard or host (`key=`). A dict of entries; each use marks its entry. Where room is needed a hand goes
 *          round, takes the marks it meets and the first entry without one ("clock": about as good as
 *          least-recently-used, for one store a use). Entries stay where they are: a dict that is deleted from at the
 *          front and added to at the end is slow to find its first.
 * States:  of an entry: used or not.
 * Units:   stamps (fs_ticks).
 * Threads: any. A value is swapped under its entry's lock on builds without the GIL. Where several put at once there may
 *          for a moment be more than `most` entries, one a thread.
 * Errors:  Python's convention. Hashing and comparing keys runs users' code, which may raise.
 */
#ifndef FAILSOFT_PYTHON_TABLE_H
#define FAILSOFT_PYTHON_TABLE_H

#include "guard.h"

typedef struct {
    PyObject_HEAD
    PyObject *value;
    fs_ticks stamp;
    uint32_t clock; /* whose stamp it is (fs_clock_source): of another's nobody can tell the age */
    bool used;
} fs_entry;

extern PyTypeObject fs_entry_type;

/* The value under a key, marked as used; with `stamp`, when it was put there, and none where that cannot be told. A new
 * reference, or NULL: there is none, or an error is set. */
PyObject *fs_table_get(PyObject *table, PyObject *key, fs_ticks *stamp);

/* Put a value under a key, in a table of at most `most`. `hand` is where the last look for room ended, 0 at first. */
int fs_table_put(PyObject *table, Py_ssize_t most, Py_ssize_t *hand, PyObject *key, PyObject *value, fs_ticks stamp);

/* What the arguments of a call are known by: what `maker` makes of them, or where that is NULL the arguments. */
PyObject *fs_key_of(PyObject *maker, PyObject *const *args, size_t nargsf, PyObject *kwnames);

#endif
