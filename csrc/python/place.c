/* A call's place in load control as an object, for blocks: it is left when the object dies, however that comes, and no
 * interrupt can get in between. */
#include "guard.h"

typedef struct {
    PyObject_HEAD
    fs_guard *guard;
    fs_load *load;
} fs_place;

PyObject *fs_place_new(fs_guard *guard, fs_load *load) {
    fs_place *place = PyObject_New(fs_place, &fs_place_type);
    if (!place) {
        fs_guard_leave(guard, load);
        return NULL;
    }
    place->guard = (fs_guard *)Py_NewRef((PyObject *)guard);
    place->load = load;
    return (PyObject *)place;
}

static void place_dealloc(PyObject *self) {
    fs_place *place = (fs_place *)self;
    fs_guard_leave(place->guard, place->load);
    Py_DECREF(place->guard);
    PyObject_Free(self);
}

PyTypeObject fs_place_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "failsoft._core.Place",
    .tp_doc = "A place in load control, left when nobody refers to it any more.",
    .tp_basicsize = sizeof(fs_place),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = place_dealloc,
};
