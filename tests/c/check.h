/* check.h - checks that go on after a failure, and a summary at the end.
 *
 * A test is one program: CHECK what must hold, `return check_report()`. The first failures are printed with their place
 * and numbers; the rest are counted. Checks may be made from several threads.
 */
#ifndef FAILSOFT_CHECK_H
#define FAILSOFT_CHECK_H

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CHECK_SHOWN 20

static long check_failed;

static inline bool check_that(bool held, const char *file, int line, const char *what) {
    if (!held && __atomic_fetch_add(&check_failed, 1, __ATOMIC_RELAXED) < CHECK_SHOWN)
        fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    return held;
}

static inline bool check_equal(uint64_t is, uint64_t wanted, const char *file, int line, const char *what) {
    if (is != wanted && __atomic_fetch_add(&check_failed, 1, __ATOMIC_RELAXED) < CHECK_SHOWN)
        fprintf(stderr, "%s:%d: %s is %" PRIu64 ", not %" PRIu64 "\n", file, line, what, is, wanted);
    return is == wanted;
}

#define CHECK(condition) check_that((condition), __FILE__, __LINE__, #condition)
#define CHECK_EQ(is, wanted) check_equal((uint64_t)(is), (uint64_t)(wanted), __FILE__, __LINE__, #is)

static inline int check_report(void) {
    if (check_failed) fprintf(stderr, "%ld checks failed\n", check_failed);
    return check_failed != 0;
}

#endif
