/* bound.h - the deadline of a `with deadline(...)` block, as the guards inside it see it.
 *
 * What:    a Bound is the end of a block, kept in a context variable, so that tasks and threads that are given the
 *          context are bound by it too. An inner block's is never later than that of the block around it: whoever makes
 *          it sees to that. Where no Bound exists anywhere in the process, nobody looks: fs_bounds_exist() is one word.
 * States:  made, and gone when no context holds it any more. Within one that `lifts`, and those inside
 *          it, passed deadlines of blocks and calls around it are of no account (a fallback may be asked late).
 * Units:   `until` in ns of CLOCK_MONOTONIC; frames in stamps.
 * Threads: immutable, but for the count, which is atomic.
 * Errors:  none: where the context cannot be read, there is no deadline.
 */
#ifndef FAILSOFT_PYTHON_BOUND_H
#define FAILSOFT_PYTHON_BOUND_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "frame.h"

typedef struct {
    fs_ns block;   /* end of the block, in ns; FS_FOREVER: none */
    fs_ticks call; /* end of the guarded call around, as a stamp; FS_FOREVER: none, or lifted */
} fs_limits;

extern uint32_t fs_bounds;

static inline bool fs_bounds_exist(void) { return fs_load_relaxed(&fs_bounds) != 0; }

/* What is in force here. */
fs_limits fs_limits_now(void);

/* Has the deadline of the block or of the call around passed at `start`? *until becomes the block's end if earlier. */
bool fs_overdue(fs_ticks start, fs_ns *until);

/* The same, for the fast entries: is there anything that they leave out? */
bool fs_bounded(fs_ticks start);

/* Ready the type and the variable, and put them into the module. */
int fs_bound_setup(PyObject *module);

#endif
