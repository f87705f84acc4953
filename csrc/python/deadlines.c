#include "deadlines.h"

#include "frame.h"

#define TICK_MOST_NS UINT64_C(1000000)

/* ---- What asyncio is asked, by the shortest way there is. A method's C function may be called directly where its flags
 * say that it takes nothing but the object; they differ from one version of Python to the next. */

typedef struct {
    PyObject *callable; /* how anybody would call it */
    PyCFunction direct; /* NULL: only so */
    PyObject *self;     /* of a function of a module */
} fs_shortcut;

static struct {
    bool learned;
    PyTypeObject *future, *task;
    PyObject *current_tasks; /* loop -> task; NULL from Python 3.14 on */
    PyObject *zero;          /* there is one alone */
    fs_shortcut running_loop, get_loop, cancelling, done, cancelled;
    PyObject *current_task;
} asyncio;

static bool learn_function(fs_shortcut *shortcut, PyObject *module, const char *name) {
    PyObject *found = PyObject_GetAttrString(module, name);
    if (!found) return false;
    shortcut->callable = found;
    if (PyCFunction_CheckExact(found) && PyCFunction_GET_FLAGS(found) == METH_NOARGS) {
        shortcut->direct = PyCFunction_GET_FUNCTION(found);
        shortcut->self = PyCFunction_GET_SELF(found);
    }
    return true;
}

static bool learn_method(fs_shortcut *shortcut, PyTypeObject *type, const char *name) {
    PyObject *found = PyObject_GetAttrString((PyObject *)type, name);
    if (!found) return false;
    shortcut->callable = found;
    if (Py_TYPE(found) != &PyMethodDescr_Type) return true;
    PyMethodDef *method = ((PyMethodDescrObject *)found)->d_method;
    if (method->ml_flags == METH_NOARGS) shortcut->direct = method->ml_meth;
    return true;
}

static PyObject *call_function(const fs_shortcut *shortcut) {
    return FS_LIKELY(shortcut->direct != NULL) ? shortcut->direct(shortcut->self, NULL)
                                               : PyObject_CallNoArgs(shortcut->callable);
}

static PyObject *call_method(const fs_shortcut *shortcut, PyObject *self) {
    return FS_LIKELY(shortcut->direct != NULL) ? shortcut->direct(self, NULL)
                                               : PyObject_CallOneArg(shortcut->callable, self);
}

/* Not before somebody has imported asyncio: until then no loop can run. 1: known; 0: nobody has; -1: an error. */
static int learn_once(void) {
    PyObject *name = PyUnicode_FromString("asyncio");
    PyObject *module = name ? PyImport_GetModule(name) : NULL;
    Py_XDECREF(name);
    if (!module) return PyErr_Occurred() ? -1 : 0;
    PyObject *core = PyImport_ImportModule("_asyncio");
    bool good = core && (asyncio.zero = PyLong_FromLong(0)) &&
                (asyncio.current_task = PyObject_GetAttrString(module, "current_task")) &&
                (asyncio.future = (PyTypeObject *)PyObject_GetAttrString(core, "Future")) &&
                (asyncio.task = (PyTypeObject *)PyObject_GetAttrString(core, "Task")) &&
                learn_function(&asyncio.running_loop, core, "_get_running_loop") &&
                learn_method(&asyncio.get_loop, asyncio.future, "get_loop") &&
                learn_method(&asyncio.done, asyncio.future, "done") &&
                learn_method(&asyncio.cancelled, asyncio.future, "cancelled") &&
                learn_method(&asyncio.cancelling, asyncio.task, "cancelling");
#if PY_VERSION_HEX < 0x030E0000
    good = good && (asyncio.current_tasks = PyObject_GetAttrString(core, "_current_tasks")) &&
           PyDict_CheckExact(asyncio.current_tasks);
#endif
    Py_XDECREF(core);
    Py_DECREF(module);
    fs_store_release(&asyncio.learned, good);
    return good ? 1 : -1;
}

static inline bool learned(void) { return fs_load_acquire(&asyncio.learned); }

static int learn(void) {
#if FS_MANY_WRITERS
    static PyMutex learning;
    PyMutex_Lock(&learning);
    int known = learned() ? 1 : learn_once();
    PyMutex_Unlock(&learning);
    return known;
#else
    return learn_once();
#endif
}

/* The loop that runs in this thread, a new reference. NULL: none does, or an error is set. */
static PyObject *running_loop(void) {
    PyObject *loop = call_function(&asyncio.running_loop);
    if (loop == Py_None) Py_CLEAR(loop);
    return loop;
}

/* The task that runs in this loop, a new reference; NULL likewise. */
static PyObject *current_task(PyObject *loop) {
    PyObject *task = NULL;
#if PY_VERSION_HEX >= 0x030E0000
    task = PyObject_CallOneArg(asyncio.current_task, loop);
    if (task == Py_None) Py_CLEAR(task);
#elif PY_VERSION_HEX >= 0x030D0000
    if (PyDict_GetItemRef(asyncio.current_tasks, loop, &task) < 0) return NULL;
#else
    task = Py_XNewRef(PyDict_GetItemWithError(asyncio.current_tasks, loop));
#endif
    return task;
}

/* How many requests to cancel the task are there, but for one that it has made itself and not met yet: asyncio.timeout,
 * entered before it, would not have counted that. -1: an error. */
int32_t fs_task_cancelling(PyObject *task) {
    PyObject *number = Py_TYPE(task) == asyncio.task ? call_method(&asyncio.cancelling, task)
                                                     : PyObject_CallMethod(task, "cancelling", NULL);
    if (FS_UNLIKELY(!number)) return -1;
    long count = FS_LIKELY(number == asyncio.zero) ? 0 : PyLong_AsLong(number);
    Py_DECREF(number);
    if (FS_LIKELY(count <= 0)) return (int32_t)count;
    PyObject *pending = PyObject_GetAttrString(task, "_must_cancel");
    int own = pending ? PyObject_IsTrue(pending) : 0;
    Py_XDECREF(pending);
    PyErr_Clear();
    return (int32_t)count - (own > 0);
}

static bool says_yes(const fs_shortcut *method, PyObject *self) {
    PyObject *answer = call_method(method, self);
    Py_XDECREF(answer);
    return answer == Py_True;
}

PyObject *fs_task_now(void) {
    if (FS_UNLIKELY(!learned()) && learn() <= 0) return NULL;
    PyObject *loop = running_loop();
    PyObject *task = loop ? current_task(loop) : NULL;
    Py_XDECREF(loop);
    return task;
}

/* Is what the task waits for there already, so that it is about to be woken? Not if that was cancelled: then it is about
 * to be told so. Runs no code of users. */
static bool about_to_wake(PyObject *task) {
    if (Py_TYPE(task) != asyncio.task) return false;
    PyObject *waiter = PyObject_GetAttrString(task, "_fut_waiter");
    bool exact = waiter && (Py_TYPE(waiter) == asyncio.future || Py_TYPE(waiter) == asyncio.task);
    bool there = exact && says_yes(&asyncio.done, waiter) && !says_yes(&asyncio.cancelled, waiter);
    Py_XDECREF(waiter);
    PyErr_Clear();
    return there;
}

/* ---- The queues. They are never freed, so a thread may keep a pointer to the one it used last: one whose loop is gone
 * serves the next loop. There are as many as there were loops at a time. */

static fs_deadlines *queues;
static FS_THREAD_LOCAL fs_deadlines *here;
#if FS_MANY_WRITERS
static PyMutex queues_mutex;
#define LOCK_QUEUES() PyMutex_Lock(&queues_mutex)
#define UNLOCK_QUEUES() PyMutex_Unlock(&queues_mutex)
#else
#define LOCK_QUEUES() ((void)0)
#define UNLOCK_QUEUES() ((void)0)
#endif

static PyObject *queue_fire(PyObject *capsule, PyObject *ignored);

static PyObject *queue_gone(PyObject *capsule, PyObject *reference) {
    fs_deadlines *queue = PyCapsule_GetPointer(capsule, NULL);
    if (!queue) return NULL;
    if (queue->gone == reference) fs_store_release(&queue->loop, NULL);
    Py_RETURN_NONE;
}

static PyMethodDef fire_method = {"failsoft_deadlines", queue_fire, METH_NOARGS, "Cancel what is late."};
static PyMethodDef gone_method = {"failsoft_loop_gone", queue_gone, METH_O, "Forget a loop."};

/* Go by the clock as it is now. */
static void adopt_clock(fs_deadlines *queue) {
    queue->fake = fs_load_relaxed(&fs_clock.source) == FS_CLOCK_FAKE;
    queue->ns_per_tick = fs_load_relaxed(&fs_clock.ns_per_tick);
    queue->seen = fs_stamp();
    queue->shift = 0;
    while (!queue->fake && fs_ticks_to_ns(UINT64_C(2) << queue->shift) <= TICK_MOST_NS) queue->shift++;
    queue->wheel.at = queue->seen >> queue->shift;
}

/* A queue for the loop, not known to anybody yet. */
static fs_deadlines *queue_new(void) {
    fs_deadlines *queue = PyMem_Calloc(1, sizeof *queue);
    PyObject *capsule = queue ? PyCapsule_New(queue, NULL, NULL) : NULL;
    PyObject *fire = capsule ? PyCFunction_New(&fire_method, capsule) : NULL;
    Py_XDECREF(capsule);
    if (!fire) {
        PyMem_Free(queue);
        if (!PyErr_Occurred()) PyErr_NoMemory();
        return NULL;
    }
    queue->fire = fire;
    return queue;
}

static fs_deadlines *find(PyObject *loop) {
    for (fs_deadlines *queue = queues; queue; queue = queue->next)
        if (fs_load_relaxed(&queue->loop) == loop) return queue;
    return NULL;
}

static bool is_empty(fs_deadlines *queue) {
    fs_deadlines_lock(queue); /* a collector may be about to take the last one down */
    bool empty = queue->wheel.count == 0;
    fs_deadlines_unlock(queue);
    return empty;
}

/* One whose loop is gone, and of which nothing hangs about any more. */
static fs_deadlines *find_idle(void) {
    for (fs_deadlines *queue = queues; queue; queue = queue->next)
        if (fs_load_acquire(&queue->loop) == NULL && is_empty(queue)) return queue;
    return NULL;
}

/* The queue of the loop that runs here, made if need be. NULL: an error. */
static fs_deadlines *queue_of(PyObject *loop) {
    LOCK_QUEUES();
    fs_deadlines *queue = find(loop);
    UNLOCK_QUEUES();
    if (!queue) {
        fs_deadlines *fresh = queue_new();
        if (!fresh) return NULL;
        PyObject *capsule = PyCFunction_GET_SELF(fresh->fire);
        PyObject *gone = PyCFunction_New(&gone_method, capsule);
        LOCK_QUEUES();
        fs_deadlines *idle = find_idle();
        if (idle) fs_store_relaxed(&idle->loop, loop); /* nobody else's from here on */
        UNLOCK_QUEUES();
        if (idle) {
            Py_CLEAR(fresh->fire);
            PyMem_Free(fresh);
            Py_XSETREF(gone, PyCFunction_New(&gone_method, PyCFunction_GET_SELF(idle->fire)));
        }
        queue = idle ? idle : fresh;
        PyObject *reference = gone ? PyWeakref_NewRef(loop, gone) : NULL;
        Py_XDECREF(gone);
        if (!reference) { /* no memory, or a loop that takes no weak references */
            if (idle)
                fs_store_release(&idle->loop, NULL);
            else {
                Py_CLEAR(fresh->fire);
                PyMem_Free(fresh);
            }
            return NULL;
        }
        Py_CLEAR(queue->timer); /* of the loop before */
        Py_XSETREF(queue->gone, reference);
        queue->aimed = FS_NO_TICK;
        adopt_clock(queue);
        if (!idle) {
            LOCK_QUEUES();
            fs_store_relaxed(&queue->loop, loop);
            queue->next = queues;
            queues = queue;
            UNLOCK_QUEUES();
        }
    }
    here = queue;
    return queue;
}

/* The queue of the loop that runs here. On 3.11 asking for that loop is a system call, and what a task is suspended by
 * knows it too. NULL: no loop runs, or an error is set. */
static fs_deadlines *queue_here(PyObject *yielded) {
    PyObject *loop = NULL;
#if PY_VERSION_HEX < 0x030C0000
    if (yielded && (Py_TYPE(yielded) == asyncio.future || Py_TYPE(yielded) == asyncio.task)) {
        loop = call_method(&asyncio.get_loop, yielded);
        if (FS_LIKELY(loop && here && here->loop == loop)) {
            Py_DECREF(loop);
            return here;
        }
        Py_XDECREF(loop); /* perhaps of another loop than this, by mistake */
        PyErr_Clear();
    }
#else
    (void)yielded;
#endif
    loop = running_loop();
    if (!loop) return NULL;
    fs_deadlines *queue = here;
    if (FS_UNLIKELY(!queue || fs_load_relaxed(&queue->loop) != loop)) queue = queue_of(loop);
    Py_DECREF(loop);
    return queue;
}

/* ---- Turning the wheel. */

/* What a weak reference refers to, a new reference; NULL: it is gone. */
static PyObject *referent(PyObject *reference) {
    PyObject *found = NULL;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyWeakref_GetRef(reference, &found) < 0) PyErr_Clear();
#else
    found = PyWeakref_GetObject(reference);
    found = found == Py_None ? NULL : Py_NewRef(found);
#endif
    return found;
}

/* Steals the reference to a timer, NULL for none. */
static void call_off(PyObject *reference) {
    if (!reference) return;
    PyObject *timer = referent(reference);
    PyObject *done = timer ? PyObject_CallMethod(timer, "cancel", NULL) : NULL;
    if (timer && !done) PyErr_WriteUnraisable(timer);
    Py_XDECREF(done);
    Py_XDECREF(timer);
    Py_DECREF(reference);
}

/* Let the loop's timer go off at a tick, and no more at the one it was set for, which stays where there can be no other:
 * other deadlines wait for it. */
static int aim(fs_deadlines *queue, uint64_t tick) {
    fs_ticks now = fs_stamp(), due = tick << queue->shift;
    fs_ns when = fs_ns_add(fs_now(), due > now ? fs_ticks_to_ns(due - now) : 0);
    PyObject *timers = PyImport_ImportModule("failsoft.timers");
    PyObject *current = timers ? PyObject_GetAttrString(timers, "current") : NULL;
    Py_XDECREF(timers);
    uint64_t aimed = queue->aimed;
    PyObject *before = queue->timer;
    queue->aimed = tick;
    queue->timer = NULL;
    PyObject *timer = current ? PyObject_CallMethod(current, "alarm", "OKO", queue->loop, (unsigned long long)when,
                                                    queue->fire)
                              : NULL;
    Py_XDECREF(current);
    PyObject *reference = timer ? PyWeakref_NewRef(timer, NULL) : NULL;
    Py_XDECREF(timer);
    if (!reference) {
        queue->aimed = aimed;
        Py_XSETREF(queue->timer, before);
        return -1;
    }
    call_off(before);
    if (queue->aimed == tick && !queue->timer)
        queue->timer = reference;
    else
        Py_DECREF(reference); /* a fake clock has let it go off already */
    return 0;
}

/* The clock has been replaced by another (a fake one, for tests): what was left then is left now. */
static void move_to_clock(fs_deadlines *queue) {
    uint64_t was = queue->ns_per_tick;
    uint32_t shift = queue->shift;
    fs_ticks seen = queue->seen;
    fs_wheel_node *all = NULL, *node;
    while ((node = fs_wheel_take(&queue->wheel, FS_TICK_MOST))) {
        node->next = all;
        all = node;
    }
    adopt_clock(queue);
    while ((node = all)) {
        all = node->next;
        fs_ticks due = node->due << shift;
        fs_ns left = due > seen ? fs_clock_scale(due - seen, was) : 0;
        fs_wheel_arm(&queue->wheel, node, (queue->seen + fs_ns_to_ticks(left)) >> queue->shift);
    }
    queue->aimed = FS_NO_TICK; /* by the other clock it may never go off */
}

static inline bool clock_changed(const fs_deadlines *queue) {
    return (fs_load_relaxed(&fs_clock.source) == FS_CLOCK_FAKE) != queue->fake;
}

static int hang_up(fs_deadline *deadline, fs_deadlines *queue, fs_ticks now, fs_ticks due) {
    fs_deadlines_lock(queue);
    if (FS_UNLIKELY(clock_changed(queue))) move_to_clock(queue);
    /* An empty wheel may stand anywhere, and the nearer to now, the fewer times a deadline is hung up. */
    if (queue->wheel.count == 0 && now >> queue->shift > queue->wheel.at) queue->wheel.at = now >> queue->shift;
    queue->seen = now;
    uint64_t mask = (UINT64_C(1) << queue->shift) - 1;
    uint64_t tick = due > FS_TICK_MOST - mask ? FS_TICK_MOST >> queue->shift : (due + mask) >> queue->shift;
    if (FS_UNLIKELY(due <= now)) tick = now >> queue->shift; /* over already: in the next turn of the loop */
    uint64_t look = fs_wheel_arm(&queue->wheel, &deadline->node, tick);
    deadline->queue = queue;
    if (FS_UNLIKELY(queue->aimed == FS_NO_TICK)) look = fs_wheel_next(&queue->wheel); /* some may have no timer */
    bool earlier = look < queue->aimed;
    fs_deadlines_unlock(queue);
    return FS_UNLIKELY(earlier) ? aim(queue, look) : 0;
}

static bool trio_runs(void) {
    PyObject *name = PyUnicode_FromString("trio"), *module = name ? PyImport_GetModule(name) : NULL;
    PyObject *lowlevel = module ? PyObject_GetAttrString(module, "lowlevel") : NULL;
    PyObject *task = lowlevel ? PyObject_CallMethod(lowlevel, "current_task", NULL) : NULL;
    bool runs = task != NULL;
    Py_XDECREF(name);
    Py_XDECREF(module);
    Py_XDECREF(lowlevel);
    Py_XDECREF(task);
    PyErr_Clear();
    return runs;
}

static fs_armed_as no_loop(void) {
    if (PyErr_Occurred()) return FS_NOT_ARMED;
    if (!trio_runs()) return FS_NO_TASK;
    PyErr_SetString(PyExc_RuntimeError,
                    "a guarded coroutine has a deadline, and deadlines need asyncio: a trio task cannot be cancelled from "
                    "outside; use trio.move_on_after around a call that is guarded by integration.attempt()");
    return FS_UNSUPPORTED;
}

fs_armed_as fs_deadline_arm(fs_deadline *deadline, fs_ticks now, fs_ticks due, PyObject *yielded) {
    if (FS_UNLIKELY(!learned())) {
        int known = learn();
        if (known < 0) return FS_NOT_ARMED;
        if (known == 0) return no_loop();
    }
    fs_deadlines *queue = queue_here(yielded);
    if (FS_UNLIKELY(!queue)) return no_loop();
    PyObject *task = current_task(queue->loop);
    if (FS_UNLIKELY(!task)) return PyErr_Occurred() ? FS_NOT_ARMED : FS_NO_TASK;
    int32_t cancelling = fs_task_cancelling(task);
    if (FS_UNLIKELY(cancelling < 0)) {
        Py_DECREF(task);
        return FS_NOT_ARMED;
    }
    deadline->task = task;
    deadline->cancelling = cancelling;
    deadline->fired = deadline->spared = false;
    /* Without a timer it hangs there all the same: it is late then, when the wheel is turned for another. */
    return FS_LIKELY(hang_up(deadline, queue, now, due) == 0) ? FS_ARMED : FS_NOT_ARMED;
}

/* Take down one deadline that is late and answer its task, a new reference. NULL: no other is. */
static PyObject *take_late(fs_deadlines *queue, uint64_t now) {
    PyObject *late = NULL;
    fs_deadlines_lock(queue);
    for (fs_wheel_node *node; !late && (node = fs_wheel_take(&queue->wheel, now));) {
        fs_deadline *deadline = (fs_deadline *)(void *)((char *)node - offsetof(fs_deadline, node));
        if (!deadline->spared && about_to_wake(deadline->task)) {
            deadline->spared = true;
            fs_wheel_arm(&queue->wheel, node, now + 1);
            continue;
        }
        deadline->fired = true;
        late = Py_NewRef(deadline->task);
    }
    fs_deadlines_unlock(queue);
    return late;
}

/* The loop's timer has gone off. */
static PyObject *queue_fire(PyObject *capsule, PyObject *Py_UNUSED(ignored)) {
    fs_deadlines *queue = PyCapsule_GetPointer(capsule, NULL);
    if (!queue) return NULL;
    queue->aimed = FS_NO_TICK;
    Py_CLEAR(queue->timer);
    fs_clock_check();
    fs_deadlines_lock(queue);
    if (clock_changed(queue)) move_to_clock(queue);
    fs_deadlines_unlock(queue);
    queue->seen = fs_stamp();
    uint64_t now = queue->seen >> queue->shift;
    for (PyObject *task; (task = take_late(queue, now));) {
        PyObject *asked = PyObject_CallMethod(task, "cancel", NULL);
        if (!asked) PyErr_WriteUnraisable(task);
        Py_XDECREF(asked);
        Py_DECREF(task);
    }
    fs_deadlines_lock(queue);
    uint64_t next = fs_wheel_next(&queue->wheel);
    fs_deadlines_unlock(queue);
    if (next < queue->aimed && fs_load_relaxed(&queue->loop) && aim(queue, next) < 0) return NULL;
    Py_RETURN_NONE;
}

/* ---- The same as an object, for Python code. */

typedef struct {
    PyObject_HEAD
    fs_deadline deadline;
} fs_armed;

PyObject *fs_armed_new(fs_ns ns) {
    fs_armed *armed = PyObject_GC_New(fs_armed, &fs_armed_type);
    if (!armed) return NULL;
    armed->deadline = (fs_deadline){0};
    PyObject_GC_Track((PyObject *)armed);
    fs_ticks now = fs_stamp();
    fs_armed_as done = fs_deadline_arm(&armed->deadline, now, fs_ns_add(now, fs_ns_to_ticks(ns)), NULL);
    if (done == FS_ARMED) return (PyObject *)armed;
    Py_DECREF(armed);
    return done == FS_NO_TASK ? Py_NewRef(Py_None) : NULL;
}

static PyObject *armed_disarm(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    fs_deadline *deadline = &((fs_armed *)self)->deadline;
    if (!fs_deadline_disarm(deadline)) Py_RETURN_NONE;
    PyObject *answer = Py_BuildValue("(Oi)", deadline->task, (int)deadline->cancelling);
    fs_deadline_forget(deadline);
    return answer;
}

static int armed_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((fs_armed *)self)->deadline.task);
    return 0;
}

static int armed_clear(PyObject *self) {
    fs_deadline_disarm(&((fs_armed *)self)->deadline);
    fs_deadline_forget(&((fs_armed *)self)->deadline);
    return 0;
}

static void armed_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    armed_clear(self);
    PyObject_GC_Del(self);
}

static PyMethodDef armed_methods[] = {
    {"disarm", armed_disarm, METH_NOARGS,
     "disarm($self, /)\n--\n\n(task, requests to cancel it that were there before) if it has fired, else None."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject fs_armed_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.ArmedDeadline",
    .tp_doc = "A running task's deadline, armed at its making.",
    .tp_basicsize = sizeof(fs_armed),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = armed_dealloc,
    .tp_traverse = armed_traverse,
    .tp_clear = armed_clear,
    .tp_methods = armed_methods,
};
