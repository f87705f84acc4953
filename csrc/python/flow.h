/* flow.h - what is counted of items that come one after another, from a stream or from a plain loop.
 *
 * What:    fs_flow is the base of both: how many items have come, the time between two of them, what their sequence
 *          numbers say, and the last item of each key. An item is never changed or held back for any of it.
 *
 *              flow.c       the counting, and fs_watch: an iterator around a plain iterable
 *              stream.c     fs_stream: an async iterator over connections that come and go
 *              streams/     all that is rare: connecting, closing, waiting, telling
 * States:  fresh: the next item is the first of its connection; the time before it is nobody's.
 * Units:   stamps (fs_ticks); fs_ns for `stale`, FS_FOREVER: items may be as late as they like.
 * Threads: items are counted by whoever iterates, one at a time; everything may be read from any thread.
 * Errors:  counting raises nothing. What a user's function of an item raises is reported, and the item then has no key
 *          or number.
 */
#ifndef FAILSOFT_PYTHON_FLOW_H
#define FAILSOFT_PYTHON_FLOW_H

#include "table.h"

typedef enum { FS_PICK_NOTHING = 0, FS_PICK_CALL, FS_PICK_FIELD, FS_PICK_INDEX } fs_pick_kind;

/* How to find a part of an item. */
typedef struct {
    PyObject *what; /* a callable, a name, or an int */
    Py_ssize_t index;
    uint8_t kind;
} fs_pick;

typedef struct {
    PyObject_HEAD
    fs_series *series;      /* of the time between items, owned by `intervals`; NULL: not set up */
    fs_ticks last;          /* when the last item came; of a fresh one, when it began to be waited for */
    fs_ns stale;
    uint64_t items;
    bool fresh;
    bool looks;             /* at items: there is a key or a sequence */
    bool noted;             /* the silence there is now has been counted */
    bool resumes;           /* a connection goes on where the one before ended */
    bool renumbered;        /* the next number is the first of its connection */
    bool numbered;          /* `high` is a number that has come */
    fs_pick key, sequence;
    int64_t high;           /* the last number in order, without a key */
    uint64_t gaps, missing, duplicates, disorder, stales;
    Py_ssize_t most;
    Py_ssize_t values_hand, numbers_hand;
    PyObject *values;       /* a table of the last item of each key */
    PyObject *numbers;      /* a table of its last number, on this connection */
    PyObject *before;       /* a dict of those on the connections before */
    PyObject *intervals;    /* the LatencyHistogram */
} fs_flow;

extern PyTypeObject fs_flow_type, fs_watch_type, fs_stream_type, fs_step_type;

/* Make a flow ready. `key` and `sequence` may be None. */
int fs_flow_setup(PyObject *flow, PyObject *intervals, fs_series *series, fs_ns stale, PyObject *key,
                  PyObject *sequence, Py_ssize_t most, bool resumes);

/* The first item of a connection, or one whose interval has to be looked at. */
void fs_flow_arrived_slow(fs_flow *flow, fs_ticks now);

/* Look at key and number of an item. */
void fs_flow_look(fs_flow *flow, PyObject *item, fs_ticks now);

/* An item has come. */
static inline void fs_flow_arrived(fs_flow *flow, PyObject *item, fs_ticks now) {
    fs_ns took = fs_ticks_to_ns(now - flow->last);
    fs_store_relaxed(&flow->items, flow->items + 1);
    fs_histogram *histogram = fs_series_have(flow->series, fs_stripe());
    bool due = histogram == NULL || fs_slices_due(&histogram->slices, now);
    if (FS_UNLIKELY(flow->fresh | due | (took >= FS_VALUE_MOST))) {
        fs_flow_arrived_slow(flow, now);
    } else {
        fs_store_relaxed(&flow->last, now);
        fs_histogram_defer(histogram, took);
    }
    if (flow->looks) fs_flow_look(flow, item, now);
}

int fs_flow_traverse(PyObject *self, visitproc visit, void *arg);
int fs_flow_clear(PyObject *self);

/* Call a method that tells of something; what it raises is reported. */
void fs_flow_tell(fs_flow *flow, const char *method, const char *format, ...);

#endif
