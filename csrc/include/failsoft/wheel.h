/* wheel.h - a timer wheel: any number of deadlines, each armed and disarmed in constant time.
 *
 * What:    a deadline is due at a tick, a whole number from 0 to FS_TICK_MOST. The wheel stands at a tick, and what is
 *          due later hangs in the slot that the two numbers give: cut into digits of FS_WHEEL_BITS, the level is the
 *          highest digit in which they differ (the lowest, where they are equal), the slot is the deadline's digit there.
 *          So what hangs on one level is due before all of the next, and what hangs in one slot before all of the next
 *          slot: the first non-empty slot of the lowest non-empty level begins not after the earliest deadline, and two
 *          bit operations find it. When the wheel gets to the beginning of a slot, its deadlines are hung up anew, each
 *          on a lower level, at most once for each level; almost all are disarmed long before.
 *
 *          The node lies in whatever waits for the deadline: nothing is allocated, and there is nothing to look up.
 * States:  of a node: hung up (`back` is set) or not.
 * Units:   ticks; whoever owns the wheel says how long one is.
 * Threads: none of its own: one thread at a time.
 * Errors:  none.
 */
#ifndef FAILSOFT_WHEEL_H
#define FAILSOFT_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FS_WHEEL_BITS 6
#define FS_WHEEL_SLOTS 64
#define FS_WHEEL_LEVELS 11 /* 11 digits of 6 bits: every 64-bit tick has its place */
#define FS_TICK_MOST (UINT64_MAX - 1)
#define FS_NO_TICK UINT64_MAX

typedef struct fs_wheel_node {
    struct fs_wheel_node *next;
    struct fs_wheel_node **back; /* what points here; NULL: not hung up */
    uint64_t due;
} fs_wheel_node;

typedef struct {
    uint64_t at;                    /* all that was due before has been taken */
    uint64_t count;                 /* nodes hung up */
    uint64_t any[FS_WHEEL_LEVELS];  /* a bit for each slot that is not empty */
    fs_wheel_node *slot[FS_WHEEL_LEVELS][FS_WHEEL_SLOTS];
} fs_wheel;

/* Where a tick hangs while the wheel is at an earlier one, or at that. */
static inline unsigned fs_wheel_level(uint64_t at, uint64_t due) {
    return (63u - (unsigned)__builtin_clzll((at ^ due) | 1)) / FS_WHEEL_BITS;
}

static inline unsigned fs_wheel_digit(uint64_t tick, unsigned level) {
    return (unsigned)(tick >> (level * FS_WHEEL_BITS)) & (FS_WHEEL_SLOTS - 1);
}

/* The tick at which a slot begins: the wheel's own digits above its level, then the slot, then zeros. */
static inline uint64_t fs_wheel_begins(uint64_t at, unsigned level, unsigned slot) {
    unsigned shift = level * FS_WHEEL_BITS, above = shift + FS_WHEEL_BITS;
    uint64_t high = above < 64 ? at >> above << above : 0;
    return high | (uint64_t)slot << shift;
}

/* Hang a node up. What was due already is due now. Answers when the wheel has to be looked at for it: not after it is
 * due. */
static inline uint64_t fs_wheel_arm(fs_wheel *wheel, fs_wheel_node *node, uint64_t due) {
    if (due < wheel->at) due = wheel->at;
    unsigned level = fs_wheel_level(wheel->at, due), slot = fs_wheel_digit(due, level);
    fs_wheel_node **head = &wheel->slot[level][slot];
    node->due = due;
    node->next = *head;
    node->back = head;
    if (node->next) node->next->back = &node->next;
    *head = node;
    wheel->any[level] |= UINT64_C(1) << slot;
    wheel->count++;
    return fs_wheel_begins(wheel->at, level, slot);
}

/* Take a node down that is hung up. */
static inline void fs_wheel_disarm(fs_wheel *wheel, fs_wheel_node *node) {
    fs_wheel_node **back = node->back;
    *back = node->next;
    if (node->next) {
        node->next->back = back;
    } else {
        /* Was it the last of its slot? Then `back` is the slot itself; as a number, since it need not point there. */
        uintptr_t place = (uintptr_t)back - (uintptr_t)&wheel->slot[0][0];
        if (place < sizeof wheel->slot) {
            size_t index = place / sizeof wheel->slot[0][0];
            wheel->any[index / FS_WHEEL_SLOTS] &= ~(UINT64_C(1) << index % FS_WHEEL_SLOTS);
        }
    }
    node->back = NULL;
    wheel->count--;
}

/* When the wheel has to be looked at next: not after the earliest deadline. FS_NO_TICK: there is none. */
static inline uint64_t fs_wheel_next(const fs_wheel *wheel) {
    for (unsigned level = 0; level < FS_WHEEL_LEVELS; level++)
        if (wheel->any[level])
            return fs_wheel_begins(wheel->at, level, (unsigned)__builtin_ctzll(wheel->any[level]));
    return FS_NO_TICK;
}

/* Move on towards `now` and take down one node that is due by then, the earliest tick first. NULL: none is, and the wheel
 * stands at `now`. */
static inline fs_wheel_node *fs_wheel_take(fs_wheel *wheel, uint64_t now) {
    for (;;) {
        uint64_t next = fs_wheel_next(wheel);
        if (next > now) {
            if (now > wheel->at) wheel->at = now;
            return NULL;
        }
        unsigned level = fs_wheel_level(wheel->at, next), slot = fs_wheel_digit(next, level);
        fs_wheel_node *node = wheel->slot[level][slot];
        if (level == 0) { /* one tick: all of them are due then */
            fs_wheel_disarm(wheel, node);
            return node;
        }
        wheel->slot[level][slot] = NULL;
        wheel->any[level] &= ~(UINT64_C(1) << slot);
        wheel->at = next;
        while (node) {
            fs_wheel_node *following = node->next;
            wheel->count--;
            fs_wheel_arm(wheel, node, node->due);
            node = following;
        }
    }
}

#endif
