/* published.h - what one thread makes and another finds: whoever sees the way to it has to see all of it.
 *
 * What:    the finder waits in a thread of its own until the maker is done, which it is told by a relaxed word. That orders
 *          nothing, so a sanitizer of threads reports each word that the code under test does not order. The finder leaves
 *          what it has read in `seen`; 0 is that it found nothing.
 * States:  none.   Units: none.   Threads: the maker is the caller, the finder is made.   Errors: a failed check.
 */
#ifndef FAILSOFT_PUBLISHED_H
#define FAILSOFT_PUBLISHED_H

#include "failsoft/atomics.h"

#include <pthread.h>

#include "check.h"

static uint32_t there;
static uint64_t seen;

static void *waiting(void *find) {
    while (!fs_load_relaxed(&there)) {}
    ((void (*)(void))(uintptr_t)find)();
    return NULL;
}

static void made_here_and_found_there(void (*make)(void), void (*find)(void)) {
    seen = 0;
    fs_store_relaxed(&there, 0);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, waiting, (void *)(uintptr_t)find) == 0);
    make();
    fs_store_relaxed(&there, 1);
    pthread_join(other, NULL);
    CHECK(seen != 0);
}

#endif
