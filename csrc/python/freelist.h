/* freelist.h - objects of one type that have died, kept for the next.
 *
 * What:    FS_FREE_LIST(type, most) makes take_free, which gives one of them as new, its fields as its dealloc left them,
 *          or NULL; and give_free, for the end of a dealloc, which is false where the object is to be freed.
 * States:  none.
 * Units:   objects.
 * Threads: under the GIL. Builds without it keep none: there allocation is per thread already.
 * Errors:  none.
 */
#ifndef FAILSOFT_PYTHON_FREELIST_H
#define FAILSOFT_PYTHON_FREELIST_H

#include "guard.h"

#if FS_MANY_WRITERS
#define FS_FREE_LIST(type, most)                     \
    static type *take_free(void) { return NULL; }    \
    static bool give_free(type *Py_UNUSED(object)) { return false; }
#else
#define FS_FREE_LIST(type, most)                     \
    static type *free_list[most];                    \
    static int free_count;                           \
    static type *take_free(void) {                   \
        if (free_count == 0) return NULL;            \
        type *object = free_list[--free_count];      \
        _Py_NewReference((PyObject *)object);        \
        return object;                               \
    }                                                \
    static bool give_free(type *object) {            \
        if (free_count == (most)) return false;      \
        free_list[free_count++] = object;            \
        return true;                                 \
    }
#endif

#endif
