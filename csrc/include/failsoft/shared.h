/* shared.h - one arena for the processes of a host.
 *
 * What:    a file that every process of an application maps. Each process writes its own part of it, and all of them the
 *          breakers:
 *
 *              header     what the file is, who is in it, and which of the two `departed` counts
 *              common     an arena: the directory of integrations and their breakers (members.h)
 *              departed   two arenas: what processes that are gone have counted. One counts, the other is being written
 *              slot 0     an arena: histograms, budgets, limits, all that only one process writes
 *              slot ...
 *
 *          A process that shares does not move its blocks: its private arena becomes its slot. The bytes are copied into
 *          the file, and the file is mapped in their place, at the same address. So every pointer that a guard keeps
 *          stays good, and a call costs what it did. The child of a fork gets a copy of its own in their place in the
 *          same way, before anything of it runs, and then a slot.
 *
 *          Who comes and who is gone is settled under a lock of the kernel on the file, which the kernel takes back from
 *          whoever dies. Calls never see it. Everything else is read as it is found.
 *
 *          A process that has died leaves its slot. Whoever comes next adds its counts to what the departed have
 *          counted: to a copy, which then counts in place of the other by one store, that says as well whose slot it
 *          has in it. Killed before that store, nothing has happened; after it, the slot is only not free yet.
 * States:  of a slot, in `tenure`: FREE -> CLAIMED -> LIVE -> LEFT (or dead) -> FREE.
 * Units:   bytes for offsets, fs_ns of CLOCK_MONOTONIC, which all processes of a host share.
 * Threads: fs_shared_* are called by one thread at a time of a process (its owner holds a lock); processes are kept apart
 *          by the lock of the file. Readers need none.
 * Errors:  fs_shared_status; on anything but FS_SHARED_OK nothing has changed, and errno says more where it is
 *          FS_SHARED_SYSTEM.
 */
#ifndef FAILSOFT_SHARED_H
#define FAILSOFT_SHARED_H

#include "failsoft/breaker.h"

#define FS_SHARED_MAGIC UINT64_C(0x6572616873736166) /* "fasshare" in memory order */
#define FS_SHARED_VERSION 1
#define FS_PROCESSES 128
#define FS_DEPARTED FS_PROCESSES /* in place of a slot's number */

/* Address space and the size of a sparse file, not memory. */
#define FS_SHARED_HEADER ((size_t)1 << 16)
#define FS_COMMON_BYTES ((size_t)1 << 26)
#define FS_SLOT_BYTES ((size_t)1 << 26)
#define FS_DEPARTED_AT (FS_SHARED_HEADER + FS_COMMON_BYTES)
#define FS_SLOTS_AT (FS_DEPARTED_AT + 2 * FS_SLOT_BYTES)
#define FS_SHARED_BYTES (FS_SLOTS_AT + FS_PROCESSES * FS_SLOT_BYTES)

typedef enum {
    FS_SHARED_OK = 0,
    FS_SHARED_SYSTEM,    /* the system refused something: errno */
    FS_SHARED_NO_SPACE,  /* the file system is full, or would be */
    FS_SHARED_GARBAGE,   /* it is no arena, or has been cut short */
    FS_SHARED_VERSION_DIFFERS,
    FS_SHARED_LAYOUT_DIFFERS, /* built otherwise: with or without the GIL, for another processor */
    FS_SHARED_OWNER,     /* another user's, or others may write it */
    FS_SHARED_BUSY,      /* somebody holds the lock, and holds it on */
    FS_SHARED_FULL,      /* every slot is taken */
    FS_SHARED_TOO_LARGE, /* this process has more in its arena than a slot holds */
} fs_shared_status;

typedef enum { FS_TENURE_FREE = 0, FS_TENURE_CLAIMED, FS_TENURE_LIVE, FS_TENURE_LEFT } fs_tenure;

/* A slot's tenant. */
typedef struct {
    uint64_t tenure;    /* {incarnation:32, unused:24, fs_tenure:8} */
    uint64_t started;   /* when the process began, in the kernel's ticks since it did: a pid alone comes back */
    uint64_t space;     /* the pid namespace that `pid` is of */
    fs_ns since;        /* when it came */
    uint32_t pid;
    uint32_t reserved;  /* lines of the slot that have space: those of former tenants stay */
    char name[24];      /* the process's own, cut short */
} fs_process;

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t layout;           /* of everything that follows, as built */
    uint64_t boot[2];          /* the host's boot: what an earlier one left is nothing */
    fs_ns began;
    uint64_t departed;         /* {incarnation:32, unused:14, slot + 1:16, side:1, any:1}: see fs_departed_* */
    uint32_t departed_reserved[2];
    uint32_t members;          /* line of the first entry of the directory, 0: none */
    uint32_t unused;
    uint64_t unused_too[8];
    fs_process process[FS_PROCESSES];
} fs_shared;

_Static_assert(offsetof(fs_shared, process) % FS_LINE == 0 && sizeof(fs_process) == FS_LINE, "a tenant has a line");
_Static_assert(sizeof(fs_shared) <= FS_SHARED_HEADER, "the header has its room");

/* What a file is mapped for. */
typedef enum {
    FS_LOOKS = 0, /* to read, as often as one likes */
    FS_SHARES,    /* to have a slot, once in a process; makes the file where there is none */
    FS_CONTROLS,  /* to read, and to say to its breakers what an operator says */
} fs_shared_role;

/* A file, mapped. */
typedef struct {
    fs_shared *shared;
    uint64_t device, inode;  /* which file it was */
    uint32_t slot;           /* this process's, FS_PROCESSES: none */
    fs_shared_role role;
    char path[200];
} fs_mapping;

fs_shared_status fs_shared_open(fs_mapping *mapping, const char *path, fs_shared_role role);
void fs_shared_close(fs_mapping *mapping);

/* The lock of the file: a descriptor to give back, negative where it cannot be had (*why) within so long. Whoever is killed
 * has given it back. */
int fs_shared_lock(const fs_mapping *mapping, fs_ns patience, fs_shared_status *why);
void fs_shared_unlock(int lock);

/* Take a slot, and let the private arena be it. Frees the slots of the dead first. Under the lock. */
fs_shared_status fs_shared_claim(fs_mapping *mapping);

/* This process ends, in good order: what it still counts is seen by nobody. */
void fs_shared_part(fs_mapping *mapping);

/* Add what the dead have counted to the departed, and free their slots. How many are left that could not be. Under the lock. */
uint32_t fs_shared_bury(fs_mapping *mapping);

/* In a forked child: whether it has a copy in place of its parent's slot, and now needs one of its own. */
bool fs_shared_orphaned(const fs_mapping *mapping);

/* Is the tenant alive? In doubt (another pid namespace) it is. */
bool fs_process_alive(const fs_process *process);

static inline fs_tenure fs_tenure_of(uint64_t tenure) { return (fs_tenure)(tenure & 0xff); }
static inline uint32_t fs_tenure_incarnation(uint64_t tenure) { return (uint32_t)(tenure >> 32); }

static inline fs_arena *fs_shared_common(const fs_shared *shared) {
    return (fs_arena *)(void *)((char *)(uintptr_t)shared + FS_SHARED_HEADER);
}

static inline fs_shared *fs_shared_of_common(const fs_block *block) {
    return (fs_shared *)(void *)((char *)fs_arena_of(block) - FS_SHARED_HEADER);
}

static inline fs_arena *fs_shared_slot(const fs_shared *shared, uint32_t slot) {
    return (fs_arena *)(void *)((char *)(uintptr_t)shared + FS_SLOTS_AT + slot * FS_SLOT_BYTES);
}

static inline fs_arena *fs_shared_departed(const fs_shared *shared, uint32_t side) {
    return (fs_arena *)(void *)((char *)(uintptr_t)shared + FS_DEPARTED_AT + side * FS_SLOT_BYTES);
}

/* Which side counts; whether any has been written; and is this slot's tenant in it? */
static inline uint32_t fs_departed_side(uint64_t departed) { return (uint32_t)(departed >> 1) & 1; }
static inline bool fs_departed_any(uint64_t departed) { return departed & 1; }
static inline bool fs_departed_holds(uint64_t departed, uint32_t slot, uint64_t tenure) {
    return ((departed >> 2) & 0xffff) == slot + 1 && (departed >> 32) == fs_tenure_incarnation(tenure);
}

/* Do this slot's counts count beside the departed's? */
static inline bool fs_slot_counts(uint64_t departed, uint32_t slot, uint64_t tenure) {
    return fs_tenure_of(tenure) >= FS_TENURE_LIVE && !fs_departed_holds(departed, slot, tenure);
}

#endif
