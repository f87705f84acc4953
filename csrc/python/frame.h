/* frame.h - what a thread carries through a guarded call: the deadline of the call it is in, and its stripe.
 *
 * What:    one word a thread. A guard pushes min(outer deadline, its own) before it calls and puts the outer one back
 *          after; an awaitable swaps its own in at every send, so that interleaved tasks never see each other's.
 *          remaining() reads it. Numbers rather than a chain of frames: where C stacks are switched underneath
 *          (greenlets), a chain would dangle, a number is merely the other task's.
 * States:  FS_FOREVER: no deadline.
 * Units:   stamps (fs_ticks). Threads: one each.   Errors: none.
 */
#ifndef FAILSOFT_PYTHON_FRAME_H
#define FAILSOFT_PYTHON_FRAME_H

#include "failsoft/histogram.h"

/* glibc reserves room for a few such words in libraries loaded late; elsewhere the general model is the safe one. */
#if defined(__GLIBC__)
#define FS_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define FS_THREAD_LOCAL _Thread_local
#endif

extern FS_THREAD_LOCAL fs_ticks fs_frame_deadline;

/* The deadline in force, as a stamp. */
static inline fs_ticks fs_frame_now(void) { return fs_frame_deadline; }

/* Let another one be in force: in a thread that works for a call of another thread. */
static inline void fs_frame_put(fs_ticks deadline) { fs_frame_deadline = deadline; }

/* Enter a call that may take until `own`. Answers what to put back. */
static inline fs_ticks fs_frame_push(fs_ticks own) {
    fs_ticks outer = fs_frame_deadline;
    fs_frame_deadline = own < outer ? own : outer;
    return outer;
}

#if FS_MANY_WRITERS
extern FS_THREAD_LOCAL uint32_t fs_frame_stripe; /* 1 + stripe; 0: not assigned yet */
uint32_t fs_frame_assign_stripe(void);

static inline uint32_t fs_stripe(void) {
    return FS_LIKELY(fs_frame_stripe) ? fs_frame_stripe - 1 : fs_frame_assign_stripe();
}
#else
static inline uint32_t fs_stripe(void) { return 0; }
#endif

#endif
