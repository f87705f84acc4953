#include "bound.h"

#include <structmember.h>

uint32_t fs_bounds;

typedef struct {
    PyObject_HEAD
    unsigned long long until;
    bool lifts;
} fs_bound;

static PyTypeObject bound_type;
static PyObject *variable;

static PyObject *bound_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"until", "lifts", NULL};
    unsigned long long until;
    int lifts = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "K|$p:Bound", names, &until, &lifts)) return NULL;
    fs_bound *self = (fs_bound *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->until = until;
    self->lifts = lifts;
    fs_add_relaxed(&fs_bounds, 1);
    return (PyObject *)self;
}

static void bound_dealloc(PyObject *self) {
    fs_add_relaxed(&fs_bounds, UINT32_MAX); /* one less */
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef bound_members[] = {
    {"until", T_ULONGLONG, offsetof(fs_bound, until), READONLY, "The end, in ns of CLOCK_MONOTONIC."},
    {"lifts", T_BOOL, offsetof(fs_bound, lifts), READONLY, "Passed deadlines around it are of no account."},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject bound_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.Bound",
    .tp_doc = "Bound(until, *, lifts=False)\n--\n\nThe end of a block, for the context variable `bounds`.",
    .tp_basicsize = sizeof(fs_bound),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = bound_make,
    .tp_dealloc = bound_dealloc,
    .tp_members = bound_members,
};

int fs_bound_setup(PyObject *module) {
    if (PyType_Ready(&bound_type) < 0 || PyModule_AddObjectRef(module, "Bound", (PyObject *)&bound_type) < 0) return -1;
    variable = PyContextVar_New("failsoft_deadline", NULL);
    return variable ? PyModule_AddObjectRef(module, "bounds", variable) : -1;
}

fs_limits fs_limits_now(void) {
    fs_limits limits = {FS_FOREVER, fs_frame_now()};
    if (!fs_bounds_exist()) return limits;
    PyObject *found = NULL;
    if (PyContextVar_Get(variable, NULL, &found) < 0) PyErr_Clear();
    if (found && Py_TYPE(found) == &bound_type) {
        limits.block = ((fs_bound *)found)->until;
        if (((fs_bound *)found)->lifts && limits.call <= fs_stamp()) limits.call = FS_FOREVER;
    }
    Py_XDECREF(found);
    return limits;
}

bool fs_overdue(fs_ticks start, fs_ns *until) {
    fs_limits limits = fs_limits_now();
    if (limits.block < *until) *until = limits.block;
    return start >= limits.call || (limits.block != FS_FOREVER && fs_now() >= limits.block);
}

bool fs_bounded(fs_ticks start) {
    fs_ns until = FS_FOREVER;
    return fs_overdue(start, &until) || until != FS_FOREVER;
}
