#include "alone.h"

#include <errno.h>

typedef struct {
    void (*work)(fs_mapping *mapping, fs_shared_status *status);
    fs_mapping *mapping;
    fs_shared_status status;
    int trouble; /* errno */
    bool done;
} fs_errand;

#if FS_MANY_WRITERS
static int run(PyObject *Py_UNUSED(first), void *given) {
    fs_errand *errand = given;
    if (errand->done) return 0; /* each of the interpreter's heaps has a first object */
    errand->work(errand->mapping, &errand->status);
    errand->trouble = errno;
    errand->done = true;
    return 0;
}
#endif

static fs_shared_status alone(void (*work)(fs_mapping *, fs_shared_status *), fs_mapping *mapping) {
    fs_errand errand = {.work = work, .mapping = mapping, .status = FS_SHARED_SYSTEM, .trouble = EAGAIN};
#if FS_MANY_WRITERS
    PyUnstable_GC_VisitObjects(run, &errand);
#else
    work(mapping, &errand.status);
    errand.trouble = errno;
#endif
    errno = errand.trouble;
    return errand.status;
}

static void claim(fs_mapping *mapping, fs_shared_status *status) { *status = fs_shared_claim(mapping); }

static void part(fs_mapping *mapping, fs_shared_status *status) {
    fs_shared_part(mapping);
    *status = FS_SHARED_OK;
}

fs_shared_status fs_claim_alone(fs_mapping *mapping) { return alone(claim, mapping); }

void fs_part_alone(fs_mapping *mapping) { alone(part, mapping); }
