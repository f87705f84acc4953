/* What only some guards have before a call or after it: de-duplication, a breaker a key, a memory of the last values. */
#include "table.h"

static PyObject *deduplicated(fs_guard *guard, fs_mode mode, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    PyObject *arguments = fs_arguments_pack(args, nargsf, kwnames);
    if (!arguments) return NULL;
    PyObject *answer = PyObject_CallMethod(guard->dedupe, "call", "OiOO", (PyObject *)guard, (int)mode,
                                           PyTuple_GET_ITEM(arguments, 0), PyTuple_GET_ITEM(arguments, 1));
    Py_DECREF(arguments);
    return answer;
}

/* The guard of the call's key, made when it is first asked for; NULL: it cannot be told, and the integration's own
 * breaker has to do. */
static PyObject *shard_of(fs_guard *guard, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    fs_tables *tables = guard->tables;
    PyObject *key = fs_key_of(guard->key, args, nargsf, kwnames);
    PyObject *shard = key ? fs_table_get(tables->shards, key, NULL) : NULL;
    if (FS_UNLIKELY(!shard) && key && !PyErr_Occurred()) {
        shard = PyObject_CallMethod(guard->recovery, "shard", "OO", (PyObject *)guard, key);
        if (shard && !fs_is_any_guard(shard)) Py_CLEAR(shard);
        if (shard && fs_table_put(tables->shards, tables->shards_most, &tables->shards_hand, key, shard, 0) < 0)
            Py_CLEAR(shard);
    }
    Py_XDECREF(key);
    if (FS_UNLIKELY(!shard && PyErr_Occurred())) fs_report_and_clear(guard->key);
    return shard;
}

PyObject *fs_guard_once(fs_guard *guard, fs_mode mode, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    bool keyed = guard->key && !fs_load_relaxed(&guard->disabled);
    PyObject *shard = keyed ? shard_of(guard, args, nargsf, kwnames) : NULL;
    if (!shard) return fs_guard_run(guard, mode, FS_FOREVER, args, nargsf, kwnames);
    PyObject *answer = mode == FS_RAISE ? ((fs_guard *)shard)->vectorcall(shard, args, nargsf, kwnames)
                                        : fs_guard_run((fs_guard *)shard, mode, FS_FOREVER, args, nargsf, kwnames);
    Py_DECREF(shard);
    return answer;
}

PyObject *fs_guard_route(fs_guard *guard, fs_mode mode, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    if (guard->dedupe && !fs_load_relaxed(&guard->disabled))
        return deduplicated(guard, mode, args, nargsf, kwnames);
    return fs_guard_once(guard, mode, args, nargsf, kwnames);
}

void fs_guard_remember(fs_guard *guard, PyObject *const *args, size_t nargsf, PyObject *kwnames, PyObject *value,
                       fs_ticks stamp) {
    PyObject *memory = guard->memory;
    if (!memory) return;
    fs_tables *tables = guard->tables;
    PyObject *key = fs_key_of(tables->memory_key, args, nargsf, kwnames);
    bool kept = key && fs_table_put(memory, tables->memory_most, &tables->memory_hand, key, value, stamp) == 0;
    /* Arguments that cannot be hashed, or what a lambda has closed over (skip), have no last value; the fallback says so
     * when it is asked. A key function of the user's that raises is told of. */
    bool unhashable = !tables->memory_key || (guard->skip && key);
    Py_XDECREF(key);
    if (FS_LIKELY(kept)) return;
    if (unhashable && PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Clear();
    else
        fs_report_and_clear(tables->memory_key ? tables->memory_key : (PyObject *)guard);
}

PyObject *fs_guard_recall(fs_guard *guard, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    if (!guard->memory) Py_RETURN_NONE;
    PyObject *key = fs_key_of(guard->tables->memory_key, args, nargsf, kwnames);
    if (!key) return NULL;
    fs_ticks stamp = 0;
    PyObject *value = fs_table_get(guard->memory, key, &stamp);
    Py_DECREF(key);
    if (!value) {
        if (PyErr_Occurred()) return NULL;
        Py_RETURN_NONE;
    }
    fs_ticks now = fs_stamp();
    double age = now > stamp ? (double)fs_ticks_to_ns(now - stamp) / 1e9 : 0.0;
    return Py_BuildValue("(Nd)", value, age);
}
