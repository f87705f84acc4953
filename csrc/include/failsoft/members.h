/* members.h - the directory of a shared arena: which integrations there are, and who counts for them.
 *
 * What:    in the common arena, a list of members, each an integration by name, with its breaker and the names of its
 *          operations. In the arena of each process that has the integration, a seat: the list of the series that this
 *          process counts in. A member knows the seats by their lines.
 *
 *              fs_member "binance" ---- fs_breaker            common
 *                 |  seat[0] seat[1] .. seat[FS_DEPARTED]
 *                 |     |       |
 *                 |  fs_seat  fs_seat ...                     slots, and the departed
 *                 |     +- series - series - ...
 *                 +- fs_label "quote" - fs_label "book"       common
 *
 *          A name stands in the directory once for each configuration of its breaker. Processes that agree share it, and
 *          those that do not each have their own, and are told.
 *
 *          The departed have their seats in a list of their own, in their arena, for both of its sides must agree with
 *          themselves; the number that a member keeps of theirs is only where to look first.
 * States:  a member lives while any seat of it is taken; then its place may be used again.
 * Units:   lines of an arena for places.
 * Threads: changed under the lock of the file, one store at a time, so that whoever is killed in between leaves a whole
 *          directory; read by anyone at any time.
 * Errors:  NULL: no room. Reading believes nothing that it finds in another process's part.
 */
#ifndef FAILSOFT_MEMBERS_H
#define FAILSOFT_MEMBERS_H

#include "failsoft/budget.h"
#include "failsoft/load.h"
#include "failsoft/shared.h"

#define FS_NAME_MOST 1024 /* bytes of a name */

typedef struct {
    fs_block block;
    uint32_t next;                         /* lines of the common arena, 0: none */
    uint32_t breaker;
    uint32_t labels;
    uint32_t type;                         /* of integration: a number of its owner's */
    fs_ns window;
    uint32_t length;                       /* of the name, in bytes */
    uint32_t seats[FS_PROCESSES + 1];      /* lines of the arena of each */
    char name[];
} fs_member;

/* An operation of a member. */
typedef struct {
    fs_block block;
    uint32_t next;
    uint32_t number;                       /* see fs_series.name */
    uint32_t length;
    char name[];
} fs_label;

/* What one process has of a member. */
typedef struct {
    fs_block block;
    fs_span series;                        /* the first, from here */
    uint32_t member;                       /* its line, */
    uint32_t generation;                   /* and its block's */
    fs_span next;                          /* of the departed: the next seat */
    fs_span budget, load;                  /* of this process, 0: none */
    uint32_t chaos;                        /* 1: it injects faults */
} fs_seat;

/* Take a seat of the member of this name and configuration, made from `own` if there is none. The series of `own` go there, and
 * the member's breaker is the answer; `own` is the caller's to leave. *others: how many processes have the name with other
 * settings. NULL: no room. */
typedef struct {
    fs_mapping *mapping;
    const char *name;
    uint32_t length;
    uint32_t type;
    fs_ns window;
} fs_joining;

fs_breaker *fs_member_join(const fs_joining *joining, fs_breaker *own, fs_seat **seat, uint32_t *others);

/* The child of a fork has its seats from its parent: let them be its own, and count from nothing. False: since the fork
 * the member has gone, for nobody else had a seat and others wanted the room. Then its breaker is not to be used any
 * more; `fs_member_resign` gives another. Until it sits, a child has nothing that keeps its members. */
bool fs_member_sit(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now);

/* Give a seat up with all that was counted there; frees it. The breaker is not to be used afterwards. */
void fs_member_leave(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now);

/* The same, and go on alone: a breaker of this process's own, as the member's is now (closed, where that has gone), under
 * `config`, with the series of the seat. What the rates are read from begins anew. NULL: no room, and nothing has changed. */
fs_breaker *fs_member_resign(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now,
                             const fs_breaker_config *config);

/* Mark the gate (see fs_breaker_chaos) while any process of those alive injects faults. */
void fs_member_chaos(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, bool on);

/* The number of an operation of this name, 0: no room. */
uint32_t fs_member_label(fs_breaker *breaker, const char *name, uint32_t length);

static inline fs_member *fs_member_of(const fs_breaker *breaker) {
    return (fs_member *)fs_arena_follow(breaker, breaker->member);
}

/* How many processes have a seat, live ones. */
uint32_t fs_member_processes(const fs_shared *shared, const fs_member *member);

/* ---- for whoever only looks. Everything is checked to lie where it may; NULL ends a list. */

const fs_member *fs_member_first(const fs_shared *shared);
const fs_member *fs_member_next(const fs_shared *shared, const fs_member *member);
const fs_label *fs_label_first(const fs_shared *shared, const fs_member *member);
const fs_label *fs_label_next(const fs_shared *shared, const fs_label *label);
const fs_breaker *fs_member_breaker(const fs_shared *shared, const fs_member *member);

/* The seat of a slot, FS_DEPARTED for the departed's, if it counts; `departed` as read once for all of it. */
const fs_seat *fs_member_seat(const fs_shared *shared, const fs_member *member, uint32_t slot, uint64_t departed);

/* What is to be known to read what lies in a slot. */
fs_stranger fs_stranger_in(const fs_shared *shared, uint32_t slot, uint64_t departed);

/* Add to `into` what a slot, FS_PROCESSES + 1 for all of them and the departed, has counted of an operation; number 0: of all of them. */
fs_status fs_member_observe(const fs_shared *shared, const fs_member *member, uint32_t slot, uint32_t number,
                            fs_series *into, fs_ns now);

#define FS_EVERYBODY (FS_PROCESSES + 1)

/* Let the departed take in what a slot's seats hold (see fs_shared_bury): `to` is the arena to write. */
fs_status fs_members_bury(const fs_shared *shared, uint32_t slot, bool dead, fs_arena *to);

/* No seat of the slot counts any more. */
void fs_members_vacate(fs_shared *shared, uint32_t slot);

/* Let breakers that are shared find what all processes have seen. Called when a file is mapped. */
void fs_members_setup(void);

#endif
