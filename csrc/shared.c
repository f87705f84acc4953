#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* mremap, MAP_ANONYMOUS, O_CLOEXEC, flock */
#endif
#include "failsoft/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "failsoft/members.h"

#define LOCK_PATIENCE (2 * FS_NS_PER_SECOND)
#define SPACE_STEP 4096 /* lines: a quarter of a megabyte at a time */
#define HEADER_LINES ((uint32_t)((sizeof(fs_arena) + FS_LINE - 1) / FS_LINE))
#define SLOT_LINES ((uint32_t)(FS_SLOT_BYTES / FS_LINE))

static fs_mapping *here; /* this process's, that it writes */
static int lock_held = -1;
static bool orphaned;

/* ---- what a file is */

static uint32_t layout(void) {
    const size_t parts[] = {
        FS_PROCESSES, FS_SHARED_HEADER, FS_COMMON_BYTES, FS_SLOT_BYTES, FS_STRIPES, FS_SLICES, FS_CELL_BITS, FS_VALUE_BITS,
        FS_DECISIONS, FS_EVENTS, FS_STATES, FS_PROBES_MOST, sizeof(void *), sizeof(fs_shared), sizeof(fs_arena),
        sizeof(fs_block), sizeof(fs_member), sizeof(fs_label), sizeof(fs_seat), sizeof(fs_breaker), sizeof(fs_series),
        sizeof(fs_histogram), sizeof(fs_column), sizeof(fs_decision), sizeof(fs_budget), sizeof(fs_load),
    };
    uint32_t hash = UINT32_C(2166136261);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) hash = (hash ^ (uint32_t)parts[i]) * UINT32_C(16777619);
    return hash;
}

static void boot_of_host(uint64_t boot[2]) {
    char text[64] = "";
    boot[0] = boot[1] = 0;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file) return;
    if (fgets(text, sizeof text, file)) {
        int digits = 0;
        for (const char *c = text; *c && digits < 32; c++) {
            int digit = *c >= '0' && *c <= '9' ? *c - '0' : *c >= 'a' && *c <= 'f' ? *c - 'a' + 10 : -1;
            if (digit < 0) continue;
            boot[digits / 16] = boot[digits / 16] << 4 | (uint64_t)digit;
            digits++;
        }
    }
    fclose(file);
}

static fs_shared_status space(int file, size_t from, size_t bytes) {
    int failed = posix_fallocate(file, (off_t)from, (off_t)bytes);
    if (failed == 0) return FS_SHARED_OK;
    errno = failed;
    return failed == ENOSPC || failed == EDQUOT || failed == EFBIG ? FS_SHARED_NO_SPACE : FS_SHARED_SYSTEM;
}

/* ---- the lock */

/* Not fs_now(): a fake clock stands still. */
static uint64_t real_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * FS_NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

static int take_lock(int file, fs_ns patience) {
    struct timespec pause = {0, 1000000};
    uint64_t end = real_now() + patience;
    while (flock(file, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) return -1;
        if (real_now() > end) {
            errno = EWOULDBLOCK;
            return -1;
        }
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int open_again(const fs_mapping *mapping) {
    int file = open(mapping->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct stat is;
    if (file < 0) return -1;
    if (fstat(file, &is) == 0 && (uint64_t)is.st_dev == mapping->device && (uint64_t)is.st_ino == mapping->inode) return file;
    close(file);
    errno = ENOENT; /* the one we have mapped has no name any more */
    return -1;
}

int fs_shared_lock(const fs_mapping *mapping, fs_ns patience, fs_shared_status *why) {
    int file = open_again(mapping);
    *why = FS_SHARED_SYSTEM;
    if (file < 0) return -1;
    lock_held = file; /* before it is: a child that is forked while we wait must not keep it */
    if (take_lock(file, patience) != 0) {
        int kept = errno;
        *why = kept == EWOULDBLOCK ? FS_SHARED_BUSY : FS_SHARED_SYSTEM;
        lock_held = -1;
        close(file);
        errno = kept;
        return -1;
    }
    *why = FS_SHARED_OK;
    return file;
}

void fs_shared_unlock(int lock) {
    lock_held = -1;
    flock(lock, LOCK_UN); /* a child that was forked meanwhile has the descriptor too */
    close(lock);
}

/* ---- opening */

static fs_shared_status make(int file) {
    if (ftruncate(file, 0) != 0 || ftruncate(file, (off_t)FS_SHARED_BYTES) != 0)
        return errno == EFBIG || errno == ENOSPC ? FS_SHARED_NO_SPACE : FS_SHARED_SYSTEM;
    size_t first = FS_SHARED_HEADER + (size_t)SPACE_STEP * FS_LINE;
    fs_shared_status status = space(file, 0, first);
    if (status != FS_SHARED_OK) {
        if (ftruncate(file, 0) != 0) return FS_SHARED_SYSTEM;
        return status;
    }
    void *memory = mmap(NULL, first, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return FS_SHARED_SYSTEM;
    fs_shared *shared = memory;
    fs_arena *common = fs_shared_common(shared);
    fs_arena_format(common, FS_COMMON_BYTES);
    common->reserved = SPACE_STEP;
    shared->version = FS_SHARED_VERSION;
    shared->layout = layout();
    boot_of_host(shared->boot);
    shared->began = fs_now();
    fs_store_release(&shared->magic, FS_SHARED_MAGIC); /* last: without it, it has not been made */
    munmap(memory, first);
    return FS_SHARED_OK;
}

/* What is in the file, as far as can be told before it is mapped. */
static fs_shared_status judge(int file, off_t size) {
    fs_shared head = {0};
    uint64_t boot[2];
    if (pread(file, &head, offsetof(fs_shared, process), 0) != (ssize_t)offsetof(fs_shared, process)) return FS_SHARED_GARBAGE;
    if (head.magic != FS_SHARED_MAGIC) return FS_SHARED_GARBAGE;
    if (head.version != FS_SHARED_VERSION) return FS_SHARED_VERSION_DIFFERS;
    if (head.layout != layout()) return FS_SHARED_LAYOUT_DIFFERS;
    if (size != (off_t)FS_SHARED_BYTES) return FS_SHARED_GARBAGE;
    boot_of_host(boot);
    if (memcmp(boot, head.boot, sizeof boot) == 0) return FS_SHARED_OK;
    errno = ESTALE;
    return FS_SHARED_SYSTEM;
}

/* It has not been made: whoever began to is dead, for we hold the lock. */
static bool unmade(int file, off_t size) {
    uint64_t magic = 1;
    if (size == 0) return true;
    return pread(file, &magic, sizeof magic, 0) == (ssize_t)sizeof magic && magic == 0 && size == (off_t)FS_SHARED_BYTES;
}

static fs_shared_status check_owner(int file, struct stat *is) {
    if (fstat(file, is) != 0) return FS_SHARED_SYSTEM;
    if (!S_ISREG(is->st_mode)) return FS_SHARED_GARBAGE;
    return is->st_uid == geteuid() && (is->st_mode & 077) == 0 ? FS_SHARED_OK : FS_SHARED_OWNER;
}

static bool known(const uint64_t boot[2]) { return boot[0] || boot[1]; }

/* Is it of an earlier boot of the host, and nobody's? A process that is not shown the boot cannot tell. */
static bool outlived(int file) {
    fs_shared head = {0};
    struct stat is;
    uint64_t boot[2];
    if (check_owner(file, &is) != FS_SHARED_OK) return false;
    if (pread(file, &head, offsetof(fs_shared, process), 0) != (ssize_t)offsetof(fs_shared, process)) return false;
    boot_of_host(boot);
    return head.magic == FS_SHARED_MAGIC && known(boot) && known(head.boot) && memcmp(boot, head.boot, sizeof boot) != 0;
}

/* Take its name away from such a file. It is not written over: another host that has it, too, would have it torn from its
 * hands. Under the lock. Whether the name is free, or another's already. */
static bool removed(int file, const char *path) {
    struct stat is, named;
    if (!outlived(file) || fstat(file, &is) != 0) return false;
    if (lstat(path, &named) != 0 || is.st_dev != named.st_dev || is.st_ino != named.st_ino) return true;
    return unlink(path) == 0;
}

static fs_shared_status open_locked(int file, fs_shared_role role) {
    struct stat is;
    fs_shared_status status = check_owner(file, &is);
    if (status != FS_SHARED_OK) return status;
    if (role == FS_SHARES && unmade(file, is.st_size)) {
        status = make(file);
        if (status != FS_SHARED_OK) return status;
        if (fstat(file, &is) != 0) return FS_SHARED_SYSTEM;
    }
    return judge(file, is.st_size);
}

static bool reserve(fs_arena *arena, uint32_t lines);
static void before_fork(void);
static void in_parent(void);
static void in_child(void);

static bool watch_forks(void) {
    static bool watching;
    if (!watching) watching = pthread_atfork(before_fork, in_parent, in_child) == 0;
    return watching;
}

static fs_shared_status map(fs_mapping *mapping, int file, fs_shared_role role) {
    struct stat is;
    void *memory = mmap(NULL, FS_SHARED_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (memory == MAP_FAILED) return FS_SHARED_SYSTEM;
    bool failed = fstat(file, &is) != 0;
    if (role != FS_LOOKS && mprotect(memory, FS_DEPARTED_AT, PROT_READ | PROT_WRITE) != 0) failed = true;
    if (failed) {
        munmap(memory, FS_SHARED_BYTES);
        return FS_SHARED_SYSTEM;
    }
    mapping->shared = memory;
    mapping->device = (uint64_t)is.st_dev;
    mapping->inode = (uint64_t)is.st_ino;
    mapping->slot = FS_PROCESSES;
    mapping->role = role;
    fs_members_setup();
    if (role != FS_LOOKS) fs_arena_reserve = reserve;
    if (role == FS_SHARES) here = mapping;
    return FS_SHARED_OK;
}

static fs_shared_status open_once(fs_mapping *mapping, const char *path, fs_shared_role role, bool *again) {
    bool shares = role == FS_SHARES;
    int flags = shares ? O_RDWR | O_CREAT : role == FS_CONTROLS ? O_RDWR : O_RDONLY;
    int file = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600); /* a fifo must not hold us up */
    if (file < 0) return errno == ENOSPC || errno == EDQUOT ? FS_SHARED_NO_SPACE : FS_SHARED_SYSTEM;
    fs_shared_status status = FS_SHARED_BUSY;
    if (shares) lock_held = file; /* see fs_shared_lock */
    if (!shares || take_lock(file, LOCK_PATIENCE) == 0) {
        status = open_locked(file, role);
        int why = errno;
        *again = shares && status != FS_SHARED_OK && removed(file, path);
        errno = why;
    } else if (errno != EWOULDBLOCK) {
        status = FS_SHARED_SYSTEM;
    }
    if (status == FS_SHARED_OK) status = map(mapping, file, role);
    int kept = errno;
    if (shares) {
        flock(file, LOCK_UN);
        lock_held = -1;
    }
    close(file);
    errno = kept;
    return status;
}

fs_shared_status fs_shared_open(fs_mapping *mapping, const char *path, fs_shared_role role) {
    if (strlen(path) >= sizeof mapping->path) {
        errno = ENAMETOOLONG;
        return FS_SHARED_SYSTEM;
    }
    if (role == FS_SHARES && !watch_forks()) return FS_SHARED_SYSTEM;
    memset(mapping, 0, sizeof *mapping);
    mapping->slot = FS_PROCESSES;
    strcpy(mapping->path, path);
    bool again = false;
    fs_shared_status status = open_once(mapping, path, role, &again);
    return again ? open_once(mapping, path, role, &again) : status;
}

void fs_shared_close(fs_mapping *mapping) {
    if (!mapping->shared) return;
    munmap(mapping->shared, FS_SHARED_BYTES);
    mapping->shared = NULL;
    if (here == mapping) here = NULL;
}

/* ---- space */

/* Let `lines` of a part of the file have space. */
static fs_shared_status space_for(int file, const char *part, uint32_t lines) {
    size_t from = (size_t)(part - (const char *)here->shared);
    return space(file, from, (size_t)lines * FS_LINE);
}

static uint32_t in_steps(uint32_t lines, uint32_t most) {
    uint64_t up = ((uint64_t)lines + SPACE_STEP - 1) / SPACE_STEP * SPACE_STEP;
    return up < most ? (uint32_t)up : most;
}

/* A file system that was full is not asked again at once, or each call for which there is no column would ask it. Who reads
 * one of the two words before it is written asks once more. */
#define REFUSED_FOR FS_NS_PER_SECOND
static uint64_t refused_at;
static uint32_t refused_lines[2]; /* of the slot, of the common arena; 0: nothing has been refused */

static bool refused(bool common, uint32_t lines) {
    uint32_t most = fs_load_relaxed(&refused_lines[common]);
    return most && lines >= most && real_now() - fs_load_relaxed(&refused_at) < REFUSED_FOR;
}

static void remember_refusal(bool common, uint32_t lines) {
    fs_store_relaxed(&refused_at, real_now());
    fs_store_relaxed(&refused_lines[common], lines);
}

static bool reserve(fs_arena *arena, uint32_t lines) {
    if (!here) return false;
    bool common = arena == fs_shared_common(here->shared);
    bool own = arena == fs_arena_private() && here->slot < FS_PROCESSES;
    if (!common && !own) return false;
    if (refused(common, lines)) return false;
    uint32_t wanted = in_steps(lines + SPACE_STEP / 2, arena->capacity);
    const char *part = common ? (const char *)arena : (const char *)fs_shared_slot(here->shared, here->slot);
    int file = open_again(here);
    if (file < 0) return false;
    bool got = space_for(file, part, wanted) == FS_SHARED_OK;
    if (!got && lines < wanted) { /* the last of it may still do */
        wanted = lines;
        got = space_for(file, part, wanted) == FS_SHARED_OK;
    }
    close(file);
    if (!got) remember_refusal(common, lines);
    if (!got) return false;
    fs_store_relaxed(&refused_lines[common], 0);
    if (own) fs_store_release(&here->shared->process[here->slot].reserved, wanted);
    uint32_t had = fs_load_relaxed(&arena->reserved);
    while (had < wanted && !fs_cas(&arena->reserved, &had, wanted)) {}
    return true;
}

/* ---- who is alive */

/* {state, when it began} of a process, from its line in /proc. False: there is none. */
static bool look_up(uint32_t pid, char *state, uint64_t *started) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    size_t got = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[got] = 0;
    const char *rest = strrchr(line, ')'); /* the name before it may hold anything */
    unsigned long long ticks = 0;
    if (!rest || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", state,
                        &ticks) != 2)
        return false;
    *started = ticks;
    return true;
}

static uint64_t pid_space(void) {
    struct stat is;
    return stat("/proc/self/ns/pid", &is) == 0 ? (uint64_t)is.st_ino : 0;
}

bool fs_process_alive(const fs_process *process) {
    fs_tenure tenure = fs_tenure_of(fs_load_acquire(&process->tenure));
    if (tenure != FS_TENURE_LIVE && tenure != FS_TENURE_CLAIMED) return false;
    uint64_t started = 0;
    char state = 0;
    if (process->space != pid_space()) return true;
    if (!look_up(process->pid, &state, &started)) return access("/proc/self/stat", R_OK) != 0;
    return state != 'Z' && state != 'X' && (process->started == 0 || process->started == started);
}

/* Is it this process, as it was before it became another program? Its pid and its beginning are the same. */
static bool was_us(const fs_process *process) {
    char state = 0;
    uint64_t started = 0;
    return process->pid == (uint32_t)getpid() && process->space == pid_space() &&
           look_up(process->pid, &state, &started) && started == process->started;
}

static void name_process(fs_process *process) {
    char state = 0, name[sizeof process->name] = "";
    uint64_t started = 0;
    process->pid = (uint32_t)getpid();
    look_up(process->pid, &state, &started);
    process->started = started;
    process->space = pid_space();
    process->since = fs_now();
    FILE *file = fopen("/proc/self/comm", "re");
    if (file) {
        size_t got = fread(name, 1, sizeof name - 1, file);
        name[got] = 0;
        name[strcspn(name, "\n")] = 0;
        fclose(file);
    }
    memcpy(process->name, name, sizeof name);
}

/* ---- slots */

static uint64_t tenure_word(uint32_t incarnation, fs_tenure tenure) { return (uint64_t)incarnation << 32 | tenure; }

static void set_tenure(fs_process *process, fs_tenure tenure) {
    fs_store_release(&process->tenure, tenure_word(fs_tenure_incarnation(process->tenure), tenure));
}

/* The counts of a slot, into the side that does not count, which then does. */
static bool bury_slot(fs_mapping *mapping, int file, uint32_t slot) {
    fs_shared *shared = mapping->shared;
    uint64_t departed = fs_load_acquire(&shared->departed), tenure = shared->process[slot].tenure;
    uint32_t side = fs_departed_any(departed) ? !fs_departed_side(departed) : 0;
    const fs_arena *from = fs_departed_any(departed) ? fs_shared_departed(shared, !side) : NULL;
    fs_arena *to = fs_shared_departed(shared, side);
    uint32_t had = from ? from->used : HEADER_LINES, most = shared->process[slot].reserved;
    if (had < HEADER_LINES || had > (from ? shared->departed_reserved[!side] : SLOT_LINES)) return false;
    uint32_t lines = in_steps(had + (most < SLOT_LINES ? most : SLOT_LINES), SLOT_LINES);
    uint32_t reserved = shared->departed_reserved[side];
    if (lines > reserved) {
        if (space_for(file, (const char *)to, lines) != FS_SHARED_OK) return false;
        fs_store_release(&shared->departed_reserved[side], reserved = lines);
    }
    if (mprotect(to, FS_SLOT_BYTES, PROT_READ | PROT_WRITE) != 0) return false;
    memset(to, 0, (size_t)reserved * FS_LINE); /* whoever died here has left what he had written */
    if (from)
        memcpy(to, from, (size_t)had * FS_LINE);
    else
        fs_arena_format(to, FS_SLOT_BYTES);
    to->reserved = reserved;
    to->capacity = reserved;
    bool done = fs_members_bury(shared, slot, true, to) == FS_OK;
    mprotect(to, FS_SLOT_BYTES, PROT_READ);
    if (!done) return false;
    uint64_t word = (uint64_t)fs_tenure_incarnation(tenure) << 32 | (uint64_t)(slot + 1) << 2 | (uint64_t)side << 1 | 1;
    fs_store_release(&shared->departed, word);
    return true;
}

static void free_slot(fs_shared *shared, uint32_t slot) {
    fs_members_vacate(shared, slot);
    set_tenure(&shared->process[slot], FS_TENURE_FREE);
}

uint32_t fs_shared_bury(fs_mapping *mapping) {
    fs_shared *shared = mapping->shared;
    uint32_t left = 0;
    int file = open_again(mapping);
    if (file < 0) return FS_PROCESSES;
    for (uint32_t slot = 0; slot < FS_PROCESSES; slot++) {
        fs_process *process = &shared->process[slot];
        uint64_t tenure = fs_load_acquire(&process->tenure), departed = fs_load_acquire(&shared->departed);
        fs_tenure is = fs_tenure_of(tenure);
        if (is == FS_TENURE_FREE || slot == mapping->slot) continue;
        bool buried = fs_departed_holds(departed, slot, tenure);
        if (is == FS_TENURE_LIVE && !buried && fs_process_alive(process) && !was_us(process)) continue;
        /* CLAIMED is nobody's: who claims holds the lock. */
        if (is != FS_TENURE_CLAIMED && !buried && !bury_slot(mapping, file, slot))
            left++;
        else
            free_slot(shared, slot);
    }
    close(file);
    return left;
}

/* The private arena's bytes in the slot, and the slot in their place. */
static fs_shared_status settle(fs_mapping *mapping, int file, uint32_t slot) {
    fs_arena *arena = fs_arena_private();
    fs_process *process = &mapping->shared->process[slot];
    const char *part = (const char *)fs_shared_slot(mapping->shared, slot);
    off_t from = (off_t)(part - (const char *)mapping->shared);
    uint32_t used = arena->used;
    uint32_t capacity = arena->capacity < SLOT_LINES ? arena->capacity : SLOT_LINES;
    if (used > capacity) return FS_SHARED_TOO_LARGE;
    uint32_t wanted = in_steps(used + SPACE_STEP / 2, capacity);
    if (wanted > process->reserved) {
        fs_shared_status status = space_for(file, part, wanted);
        if (status != FS_SHARED_OK) return status;
        fs_store_release(&process->reserved, wanted);
    }
    uint32_t reserved = process->reserved < capacity ? process->reserved : capacity;
    size_t bytes = (size_t)capacity * FS_LINE;
    char *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, from);
    if (copy == MAP_FAILED) return FS_SHARED_SYSTEM;
    memset(copy + (size_t)used * FS_LINE, 0, (size_t)(reserved - used) * FS_LINE);
    memcpy(copy, arena, (size_t)used * FS_LINE);
    ((fs_arena *)(void *)copy)->capacity = capacity;
    ((fs_arena *)(void *)copy)->reserved = reserved;
    bool failed = mmap(arena, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, from) == MAP_FAILED;
    int kept = errno;
    munmap(copy, bytes);
    errno = kept;
    return failed ? FS_SHARED_SYSTEM : FS_SHARED_OK;
}

static size_t arena_bytes(const fs_arena *arena) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size_t)arena->capacity * FS_LINE / page * page;
}

/* Memory with the bytes of the private arena, to lie in its place. NULL: the system gives none. */
static fs_arena *copy_arena(const fs_arena *arena) {
    size_t bytes = arena_bytes(arena), used = (size_t)arena->used * FS_LINE;
    void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (copy == MAP_FAILED) return NULL;
    memcpy(copy, arena, used < bytes ? used : bytes);
    ((fs_arena *)copy)->reserved = 0;
    return copy;
}

static bool put_in_place(fs_arena *copy) {
    size_t bytes = arena_bytes(copy);
    return mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, fs_arena_private()) != MAP_FAILED;
}

/* A child of a fork writes no word of its parent's slot: before anything else runs in it, it has a copy in its place. That is
 * made before the fork, for the parent goes on at once, in memory that both see. */
static _Thread_local fs_arena *ahead;

static void before_fork(void) {
    if (here && here->slot < FS_PROCESSES) ahead = copy_arena(fs_arena_private());
}

static void in_parent(void) {
    if (ahead) munmap(ahead, arena_bytes(ahead));
    ahead = NULL;
}

static void in_child(void) {
    fs_arena *copy = ahead;
    ahead = NULL;
    if (lock_held >= 0) close(lock_held);
    lock_held = -1;
    if (!here || here->slot >= FS_PROCESSES) return;
    if (!copy) copy = copy_arena(fs_arena_private());
    /* No address space, in a process just forked: nothing it could still do is safe. */
    if (!copy || !put_in_place(copy)) abort();
    here->slot = FS_PROCESSES;
    orphaned = true;
}

fs_shared_status fs_shared_claim(fs_mapping *mapping) {
    if (!watch_forks() || !fs_arena_private()) return FS_SHARED_SYSTEM;
    fs_shared *shared = mapping->shared;
    fs_shared_bury(mapping);
    uint32_t slot = 0;
    while (slot < FS_PROCESSES && fs_tenure_of(shared->process[slot].tenure) != FS_TENURE_FREE) slot++;
    if (slot == FS_PROCESSES) return FS_SHARED_FULL;
    int file = open_again(mapping);
    if (file < 0) return FS_SHARED_SYSTEM;
    fs_process *process = &shared->process[slot];
    fs_store_release(&process->tenure, tenure_word(fs_tenure_incarnation(process->tenure) + 1, FS_TENURE_CLAIMED));
    fs_members_vacate(shared, slot);
    name_process(process);
    mapping->slot = slot; /* before the arena lies there: a child that is forked meanwhile takes a copy */
    fs_shared_status status = settle(mapping, file, slot);
    int kept = errno;
    close(file);
    set_tenure(process, status == FS_SHARED_OK ? FS_TENURE_LIVE : FS_TENURE_FREE);
    if (status == FS_SHARED_OK)
        orphaned = false;
    else
        mapping->slot = FS_PROCESSES;
    errno = kept;
    return status;
}

void fs_shared_part(fs_mapping *mapping) {
    uint32_t slot = mapping->slot;
    if (slot >= FS_PROCESSES) return;
    /* Calls may still be made, and blocks freed, until the process has ended; the slot may be another's by then. */
    fs_arena *copy = copy_arena(fs_arena_private());
    if (!copy) return; /* then it is left when we are dead */
    if (!put_in_place(copy)) {
        munmap(copy, arena_bytes(copy));
        return;
    }
    mapping->slot = FS_PROCESSES;
    set_tenure(&mapping->shared->process[slot], FS_TENURE_LEFT);
}

bool fs_shared_orphaned(const fs_mapping *mapping) { return mapping == here && orphaned; }
