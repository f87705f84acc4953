/* deadlines.h - the deadline queue: tasks that are cancelled if they have not come back in time.
 *
 * What:    a deadline lies in what waits for it (an awaitable), and while that is suspended it hangs on the timer wheel
 *          (wheel.h) of its event loop. Arming and disarming are a few stores: one timer of the loop serves all of them,
 *          aimed at the earliest, left where it is when that goes, and aimed anew when it fires or an earlier one comes.
 *
 *          Cancellation is that of asyncio.timeout. When a deadline is armed, it notes how often the task had been asked to
 *          cancel itself; when it fires, it asks once more; when the waiting is over, it takes its own request back, and
 *          if others are left then, or it was no CancelledError that came out, then it was not the deadline that ended it.
 *          One thing is better: where what the task waits for is there by then (it is to be woken in this turn of the
 *          loop), the deadline waits one tick before it looks again, so an answer that came in time is not thrown away.
 * States:  not armed -> armed -> fired -> not armed; fired only once.
 * Units:   stamps (fs_ticks). The wheel's tick is a power of two of them, at most 1 ms; one stamp under a fake clock. A
 *          deadline never fires early by the clock of the stamps, and at most a tick late, or two where it has waited as
 *          above, plus whatever the loop itself is late.
 * Threads: a queue belongs to the thread that runs its loop; others may disarm (a collector that finds garbage). Under the
 *          GIL nothing else is needed; without it a mutex is held while the wheel is turned. Tasks are cancelled outside.
 * Errors:  none where no asyncio task runs, as under a coroutine that is driven by hand: then nothing is armed. Under
 *          trio, whose tasks cannot be cancelled from outside, RuntimeError; all others are of the interpreter.
 */
#ifndef FAILSOFT_PYTHON_DEADLINES_H
#define FAILSOFT_PYTHON_DEADLINES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "failsoft/clock.h"
#include "failsoft/wheel.h"

typedef struct fs_deadlines {
    fs_wheel wheel;
    PyObject *loop;          /* borrowed; NULL once it is gone, and the queue serves the next one */
    PyObject *gone;          /* the weak reference that says so */
    PyObject *fire;          /* what the loop's timer calls */
    PyObject *timer;         /* a weak reference to that timer, which would keep its loop alive; NULL: none is set */
    uint64_t aimed;          /* the tick it is set for; FS_NO_TICK: none */
    uint64_t ns_per_tick;    /* of the clock the wheel goes by, to move over to another */
    fs_ticks seen;           /* the latest stamp known here */
    uint32_t shift;          /* a tick is 1 << shift stamps */
    bool fake;
    struct fs_deadlines *next;
#if FS_MANY_WRITERS
    PyMutex mutex;
#endif
} fs_deadlines;

typedef struct {
    fs_wheel_node node;
    fs_deadlines *queue;     /* NULL: not armed */
    PyObject *task;          /* that it cancels; held until disarmed, and after that while `fired` */
    int32_t cancelling;      /* requests to cancel it that were there before */
    bool fired;
    bool spared;             /* it has waited a tick for an answer that was there */
} fs_deadline;

typedef enum {
    FS_ARMED,
    FS_NO_TASK,     /* no asyncio task runs: there is nothing to cancel, and no exception is set */
    FS_NOT_ARMED,   /* something went wrong; it may be late, or never be */
    FS_UNSUPPORTED, /* the task is one that cannot be cancelled */
} fs_armed_as;

#if FS_MANY_WRITERS
static inline void fs_deadlines_lock(fs_deadlines *queue) { PyMutex_Lock(&queue->mutex); }
static inline void fs_deadlines_unlock(fs_deadlines *queue) { PyMutex_Unlock(&queue->mutex); }
#else
static inline void fs_deadlines_lock(fs_deadlines *Py_UNUSED(queue)) {}
static inline void fs_deadlines_unlock(fs_deadlines *Py_UNUSED(queue)) {}
#endif

/* The asyncio task that runs here, a new reference; NULL, with or without an exception set: none does. */
PyObject *fs_task_now(void);

/* How many requests to cancel it are there already, as asyncio.timeout counts them. -1: an exception is set. */
int32_t fs_task_cancelling(PyObject *task);

/* Cancel the running task at `due`, unless disarmed before. `now` is a stamp of just before, `yielded` what the task is
 * suspended by; NULL where it still runs. With an exception set where it cannot be armed. */
fs_armed_as fs_deadline_arm(fs_deadline *deadline, fs_ticks now, fs_ticks due, PyObject *yielded);

/* It is over. True: it has fired, and `task` and `cancelling` are there to judge by, until fs_deadline_forget. */
static inline bool fs_deadline_disarm(fs_deadline *deadline) {
    fs_deadlines *queue = deadline->queue;
    if (queue == NULL) return false;
    fs_deadlines_lock(queue);
    if (FS_LIKELY(deadline->node.back != NULL)) fs_wheel_disarm(&queue->wheel, &deadline->node);
    fs_deadlines_unlock(queue);
    deadline->queue = NULL;
    if (FS_UNLIKELY(deadline->fired)) return true;
    Py_CLEAR(deadline->task);
    return false;
}

static inline void fs_deadline_forget(fs_deadline *deadline) {
    deadline->fired = false;
    Py_CLEAR(deadline->task);
}

extern PyTypeObject fs_armed_type;

/* An object that is such a deadline, armed now, for Python code; or None where no asyncio task runs. */
PyObject *fs_armed_new(fs_ns ns);

#endif
