#include "failsoft/members.h"

#include <string.h>

/* Longer lists are no lists: whoever wrote them is not one of us. */
#define WALK_MOST (1 << 16)
#define READS_MOST 8

/* From so many on, a new name takes the place of those that nobody has. */
#define FS_MEMBERS_MANY 2048

/* The departed's arena begins with this block. */
typedef struct {
    fs_block block;
    fs_span seats;
} departed_root;

#define ROOT_LINE ((uint32_t)((sizeof(fs_arena) + FS_LINE - 1) / FS_LINE))

/* ---- places in the common arena */

static fs_stranger common_of(const fs_shared *shared) {
    const fs_arena *common = fs_shared_common(shared);
    size_t used = (size_t)fs_load_relaxed(&common->used) * FS_LINE;
    return (fs_stranger){(const char *)common, used < FS_COMMON_BYTES ? used : FS_COMMON_BYTES, false};
}

static const void *common_at(const fs_shared *shared, uint32_t line, size_t bytes) {
    fs_stranger common = common_of(shared);
    return line > INT32_MAX ? NULL : fs_stranger_follow(&common, common.base, (fs_span)line, bytes);
}

static const fs_member *member_at(const fs_shared *shared, uint32_t line) {
    const fs_member *member = common_at(shared, line, sizeof *member);
    if (!member) return NULL;
    uint32_t length = fs_load_relaxed(&member->length);
    return length <= FS_NAME_MOST && common_at(shared, line, sizeof *member + length) ? member : NULL;
}

static const fs_label *label_at(const fs_shared *shared, uint32_t line) {
    const fs_label *label = common_at(shared, line, sizeof *label);
    if (!label) return NULL;
    uint32_t length = fs_load_relaxed(&label->length);
    return length <= FS_NAME_MOST && common_at(shared, line, sizeof *label + length) ? label : NULL;
}

const fs_member *fs_member_first(const fs_shared *shared) {
    return member_at(shared, fs_load_acquire(&shared->members));
}

const fs_member *fs_member_next(const fs_shared *shared, const fs_member *member) {
    return member_at(shared, fs_load_acquire(&member->next));
}

const fs_label *fs_label_first(const fs_shared *shared, const fs_member *member) {
    return label_at(shared, fs_load_acquire(&member->labels));
}

const fs_label *fs_label_next(const fs_shared *shared, const fs_label *label) {
    return label_at(shared, fs_load_acquire(&label->next));
}

/* Looked at before how much of the arena is taken: what a segment that has just come takes is known by then. */
static bool recorder_within(const fs_shared *shared, const fs_breaker *breaker) {
    fs_span first, last;
    fs_recorder_reach(&breaker->recorder, &first, &last);
    fs_stranger common = common_of(shared);
    return (first == 0 || fs_stranger_follow(&common, breaker, first, FS_RECORDER_SEGMENT_BYTES)) &&
           (last == 0 || fs_stranger_follow(&common, breaker, last, FS_RECORDER_SEGMENT_BYTES));
}

const fs_breaker *fs_member_breaker(const fs_shared *shared, const fs_member *member) {
    uint32_t line = fs_load_acquire(&member->breaker);
    const fs_breaker *breaker = common_at(shared, line, sizeof *breaker);
    bool whole = breaker && breaker->block.line == line && fs_gate_state(fs_breaker_gate(breaker)) < FS_STATES &&
                 breaker->config.half_open_most <= FS_PROBES_MOST && breaker->config.last <= FS_LAST_MOST &&
                 breaker->config.ramp_from <= FS_ALL &&
                 fs_arena_follow(breaker, breaker->member) == (const void *)member && recorder_within(shared, breaker);
    return whole ? breaker : NULL;
}

/* ---- seats */

fs_stranger fs_stranger_in(const fs_shared *shared, uint32_t slot, uint64_t departed) {
    const fs_arena *arena = slot == FS_DEPARTED ? fs_shared_departed(shared, fs_departed_side(departed))
                                                : fs_shared_slot(shared, slot);
    uint32_t lines = slot == FS_DEPARTED ? fs_load_relaxed(&shared->departed_reserved[fs_departed_side(departed)])
                                         : fs_load_relaxed(&shared->process[slot].reserved);
    size_t bytes = (size_t)lines * FS_LINE; /* that have space: no line beyond may be touched */
    return (fs_stranger){(const char *)arena, bytes < FS_SLOT_BYTES ? bytes : FS_SLOT_BYTES, false};
}

static bool seat_of(const fs_seat *seat, const fs_member *member) {
    return seat && (seat->block.generation & 1) && seat->member == member->block.line &&
           seat->generation == member->block.generation;
}

static const fs_seat *departed_seat(const fs_member *member, const fs_stranger *stranger) {
    const departed_root *root = fs_stranger_follow(stranger, stranger->base, (fs_span)ROOT_LINE, sizeof *root);
    if (!root) return NULL;
    uint32_t hint = fs_load_relaxed(&member->seats[FS_DEPARTED]);
    const fs_seat *seat = hint > INT32_MAX ? NULL
                                           : fs_stranger_follow(stranger, stranger->base, (fs_span)hint, sizeof *seat);
    if (seat_of(seat, member)) return seat;
    seat = fs_stranger_follow(stranger, root, root->seats, sizeof *seat);
    for (int i = 0; seat && i < WALK_MOST; i++) {
        if (seat_of(seat, member)) return seat;
        seat = fs_stranger_follow(stranger, seat, seat->next, sizeof *seat);
    }
    return NULL;
}

const fs_seat *fs_member_seat(const fs_shared *shared, const fs_member *member, uint32_t slot, uint64_t departed) {
    fs_stranger stranger = fs_stranger_in(shared, slot, departed);
    if (slot == FS_DEPARTED) return fs_departed_any(departed) ? departed_seat(member, &stranger) : NULL;
    uint32_t line = fs_load_acquire(&member->seats[slot]);
    if (line == 0 || line > INT32_MAX) return NULL;
    if (!fs_slot_counts(departed, slot, fs_load_acquire(&shared->process[slot].tenure))) return NULL;
    const fs_seat *seat = fs_stranger_follow(&stranger, stranger.base, (fs_span)line, sizeof *seat);
    return seat_of(seat, member) ? seat : NULL;
}

static const fs_series *series_first(const fs_seat *seat, const fs_stranger *stranger) {
    return fs_stranger_follow(stranger, seat, fs_load_acquire(&seat->series), sizeof(fs_series));
}

static const fs_series *series_next(const fs_series *series, const fs_stranger *stranger) {
    return fs_stranger_follow(stranger, series, fs_load_relaxed(&series->next), sizeof *series);
}

uint32_t fs_member_processes(const fs_shared *shared, const fs_member *member) {
    uint64_t departed = fs_load_acquire(&shared->departed);
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < FS_PROCESSES; slot++)
        count += fs_member_seat(shared, member, slot, departed) && fs_process_alive(&shared->process[slot]);
    return count;
}

/* ---- what everybody has seen */

static void seat_totals(const fs_shared *shared, const fs_member *member, uint32_t slot, uint64_t departed, fs_ns now,
                        fs_totals *recent, fs_totals *ever) {
    const fs_seat *seat = fs_member_seat(shared, member, slot, departed);
    if (!seat) return;
    fs_stranger stranger = fs_stranger_in(shared, slot, departed);
    int steps = 0;
    for (const fs_series *s = series_first(seat, &stranger); s && steps < WALK_MOST; s = series_next(s, &stranger), steps++)
        fs_series_totals_of(s, &stranger, now, recent, ever);
}

static void members_totals(const fs_breaker *breaker, fs_ns now, fs_totals *recent, fs_totals *ever) {
    const fs_shared *shared = fs_shared_of_common(&breaker->block);
    const fs_member *member = fs_member_of(breaker);
    for (int i = 0; i < READS_MOST; i++) {
        uint64_t departed = fs_load_acquire(&shared->departed);
        fs_totals lately = {0}, all = {0};
        for (uint32_t slot = 0; slot <= FS_DEPARTED; slot++)
            seat_totals(shared, member, slot, departed, now, &lately, &all);
        *recent = lately;
        *ever = all;
        fs_fence_acquire();
        if (fs_load_relaxed(&shared->departed) == departed) return;
    }
}

static fs_status observe_slot(const fs_shared *shared, const fs_member *member, uint32_t slot, uint64_t departed,
                              uint32_t number, fs_series *into, fs_ns now) {
    const fs_seat *seat = fs_member_seat(shared, member, slot, departed);
    if (!seat) return FS_OK;
    fs_stranger stranger = fs_stranger_in(shared, slot, departed);
    stranger.dead = slot == FS_DEPARTED || !fs_process_alive(&shared->process[slot]);
    int steps = 0;
    for (const fs_series *s = series_first(seat, &stranger); s && steps < WALK_MOST; s = series_next(s, &stranger), steps++)
        if ((number == 0 || fs_load_relaxed(&s->name) == number) &&
            fs_series_observe(into, s, &stranger, slot != FS_DEPARTED, now) != FS_OK)
            return FS_NO_MEMORY;
    return FS_OK;
}

fs_status fs_member_observe(const fs_shared *shared, const fs_member *member, uint32_t slot, uint32_t number,
                            fs_series *into, fs_ns now) {
    for (int i = 0; i < READS_MOST; i++) {
        uint64_t departed = fs_load_acquire(&shared->departed);
        uint32_t from = slot == FS_EVERYBODY ? 0 : slot, to = slot == FS_EVERYBODY ? FS_DEPARTED : slot;
        for (uint32_t each = from; each <= to; each++)
            if (observe_slot(shared, member, each, departed, number, into, now) != FS_OK) return FS_NO_MEMORY;
        fs_fence_acquire();
        if (fs_load_relaxed(&shared->departed) == departed) break;
        if (i + 1 < READS_MOST) fs_series_clear(into, now);
    }
    return FS_OK;
}

/* ---- coming and going */

static fs_member *mine(const fs_member *member) { return (fs_member *)(uintptr_t)member; }

static bool named(const fs_member *member, const fs_joining *joining) {
    return member->length == joining->length && memcmp(member->name, joining->name, joining->length) == 0;
}

static bool agrees(const fs_shared *shared, const fs_member *member, const fs_joining *joining, const fs_breaker *own) {
    const fs_breaker *breaker = fs_member_breaker(shared, member);
    return breaker && member->type == joining->type && member->window == joining->window &&
           fs_breaker_config_same(&breaker->config, &own->config);
}

/* Nobody has a seat any more, alive or not: what it held has been forgotten or buried. */
static bool empty(const fs_member *member) {
    for (uint32_t slot = 0; slot < FS_PROCESSES; slot++)
        if (fs_load_relaxed(&member->seats[slot])) return false;
    return true;
}

static void free_member(fs_shared *shared, fs_member *member) {
    int steps = 0;
    for (const fs_label *label = fs_label_first(shared, member), *next; label && steps < WALK_MOST; label = next, steps++) {
        next = fs_label_next(shared, label);
        fs_arena_free((fs_block *)(uintptr_t)&label->block);
    }
    const fs_breaker *breaker = fs_member_breaker(shared, member);
    if (breaker) fs_breaker_free((fs_breaker *)(uintptr_t)breaker);
    fs_arena_free(&member->block);
}

/* Take the members out that nobody sits in. Their state outlives their processes until here; but names that come and go
 * (keys) would fill the directory. */
static void sweep(fs_shared *shared) {
    uint32_t *link = &shared->members;
    for (int i = 0; i < WALK_MOST; i++) {
        const fs_member *member = member_at(shared, fs_load_acquire(link));
        if (!member) return;
        if (empty(member)) {
            fs_store_release(link, fs_load_relaxed(&member->next));
            free_member(shared, mine(member));
        } else {
            link = &mine(member)->next;
        }
    }
}

static fs_member *make_member(const fs_joining *joining, const fs_breaker *own) {
    fs_shared *shared = joining->mapping->shared;
    fs_arena *common = fs_shared_common(shared);
    fs_member *member = (fs_member *)(void *)fs_arena_alloc(common, sizeof *member + joining->length);
    if (!member) return NULL;
    fs_breaker *breaker = fs_breaker_copy(own, common);
    if (!breaker) {
        fs_arena_free(&member->block);
        return NULL;
    }
    member->breaker = breaker->block.line;
    member->type = joining->type;
    member->window = joining->window;
    member->length = joining->length;
    memcpy(member->name, joining->name, joining->length);
    breaker->member = fs_arena_span(&breaker->block, &member->block);
    member->next = shared->members;
    fs_store_release(&shared->members, member->block.line);
    return member;
}

static fs_seat *take_seat(fs_arena *arena, const fs_member *member) {
    fs_seat *seat = (fs_seat *)(void *)fs_arena_alloc(arena, sizeof *seat);
    if (!seat) return NULL;
    seat->member = member->block.line;
    seat->generation = member->block.generation;
    return seat;
}

/* What series count in a breaker of this process goes to its seat. */
static void move_series(fs_breaker *own, fs_seat *seat, uint32_t generation) {
    if (!own->series) return;
    fs_series *first = (fs_series *)fs_arena_follow(own, own->series);
    fs_store_release(&seat->series, fs_arena_span(&seat->block, &first->block));
    for (fs_series *s = first; s; s = s->next ? (fs_series *)fs_arena_follow(s, s->next) : NULL) s->closed_in = generation;
}

static void own_totals(const fs_breaker *own, fs_totals *totals) {
    for (fs_series *s = own->series ? (fs_series *)fs_arena_follow(own, own->series) : NULL; s;
         s = s->next ? (fs_series *)fs_arena_follow(s, s->next) : NULL)
        fs_series_ever(s, totals);
}

fs_breaker *fs_member_join(const fs_joining *joining, fs_breaker *own, fs_seat **seat, uint32_t *others) {
    fs_mapping *mapping = joining->mapping;
    fs_shared *shared = mapping->shared;
    fs_member *found = NULL;
    uint32_t members = 0;
    *others = 0;
    for (const fs_member *m = fs_member_first(shared); m && members < WALK_MOST; m = fs_member_next(shared, m), members++) {
        if (!named(m, joining)) continue;
        if (!agrees(shared, m, joining, own))
            *others += fs_member_processes(shared, m);
        else if (fs_load_relaxed(&m->seats[mapping->slot]) == 0)
            found = mine(m);
    }
    if (!found && members >= FS_MEMBERS_MANY) sweep(shared);
    bool made = !found;
    if (made) found = make_member(joining, own);
    fs_breaker *breaker = found ? (fs_breaker *)(uintptr_t)fs_member_breaker(shared, found) : NULL;
    fs_seat *taken = breaker ? take_seat(fs_arena_private(), found) : NULL;
    if (!taken) return NULL; /* a new member stays, empty, for whoever comes next */
    /* What this process has counted before it came is not what the breaker has seen since it closed. */
    fs_totals totals = {0};
    own_totals(own, &totals);
    move_series(own, taken, fs_gate_generation(fs_breaker_gate(breaker)));
    /* In this order: killed in between, it has its own past in the window until that is over. The other way round, the
     * rates would see nothing of what anybody does until so many calls again have been made. */
    fs_store_release(&found->seats[mapping->slot], taken->block.line);
    if (!made) fs_breaker_disown(breaker, &totals);
    *seat = taken;
    return breaker;
}

/* The member that a seat was taken of, NULL: it has been swept away, and its blocks may be another's by now. */
static fs_member *member_still(const fs_shared *shared, const fs_seat *seat) {
    const fs_member *member = member_at(shared, seat->member);
    return member && seat_of(seat, member) ? mine(member) : NULL;
}

bool fs_member_sit(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now) {
    for (fs_series *s = seat->series ? (fs_series *)fs_arena_follow(seat, seat->series) : NULL; s;
         s = s->next ? (fs_series *)fs_arena_follow(s, s->next) : NULL)
        fs_series_clear(s, now);
    fs_member *member = member_still(mapping->shared, seat);
    if (!member) return false;
    fs_store_release(&member->seats[mapping->slot], seat->block.line);
    if (fs_load_relaxed(&seat->chaos)) fs_member_chaos(mapping, breaker, seat, true); /* others did not know of it */
    return true;
}

static bool chaotic(const fs_shared *shared, const fs_member *member) {
    uint64_t departed = fs_load_acquire(&shared->departed);
    for (uint32_t slot = 0; slot < FS_PROCESSES; slot++) {
        const fs_seat *seat = fs_member_seat(shared, member, slot, departed);
        if (seat && fs_load_relaxed(&seat->chaos) && fs_process_alive(&shared->process[slot])) return true;
    }
    return false;
}

/* Take the mark away, unless somebody wants it, or does meanwhile. */
static void calm(const fs_shared *shared, const fs_member *member) {
    fs_breaker *breaker = (fs_breaker *)(uintptr_t)fs_member_breaker(shared, member);
    if (!breaker || !(fs_breaker_gate(breaker) & FS_GATE_CHAOS) || chaotic(shared, member)) return;
    fs_breaker_chaos(breaker, false);
    fs_fence_seq_cst();
    if (chaotic(shared, member)) fs_breaker_chaos(breaker, true);
}

void fs_member_chaos(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, bool on) {
    fs_store_relaxed(&seat->chaos, on);
    fs_fence_seq_cst();
    if (on)
        fs_breaker_chaos(breaker, true);
    else
        calm(mapping->shared, fs_member_of(breaker));
}

void fs_member_leave(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now) {
    fs_shared *shared = mapping->shared;
    fs_member *member = member_still(shared, seat);
    fs_totals recent = {0}, ever = {0};
    if (member && fs_load_relaxed(&seat->chaos)) fs_member_chaos(mapping, breaker, seat, false);
    if (member && mapping->slot < FS_PROCESSES) { /* the child of a fork may have got none: then nobody has seen its counts */
        seat_totals(shared, member, mapping->slot, fs_load_acquire(&shared->departed), now, &recent, &ever);
        /* What everybody had seen before shrinks by what is taken along: first, as of `fs_member_join`, and because without
         * a seat the breaker may be swept away at any time. */
        fs_totals less = {.calls = 0 - ever.calls, .failures = 0 - ever.failures, .slow = 0 - ever.slow};
        fs_breaker_disown(breaker, &less);
        fs_store_release(&member->seats[mapping->slot], 0);
    }
    fs_arena_free(&seat->block);
}

fs_breaker *fs_member_resign(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now,
                             const fs_breaker_config *config) {
    bool still = member_still(mapping->shared, seat) != NULL;
    fs_breaker *own = still ? fs_breaker_copy(breaker, fs_arena_private())
                            : fs_breaker_take(fs_arena_private(), config, now);
    if (!own) return NULL;
    fs_last_resize(&own->last, own->config.last, config->last);
    own->config = *config;
    uint64_t gate = own->gate & ~(FS_GATE_WATCHED | (fs_load_relaxed(&seat->chaos) ? 0 : FS_GATE_CHAOS));
    fs_store_release(&own->gate, gate | (config->last ? FS_GATE_WATCHED : 0));
    if (seat->series)
        own->series = fs_arena_span(&own->block, (fs_block *)fs_arena_follow(seat, seat->series));
    own->before = (fs_totals){0};
    own_totals(own, &own->before);
    fs_member_leave(mapping, breaker, seat, now);
    return own;
}

uint32_t fs_member_label(fs_breaker *breaker, const char *name, uint32_t length) {
    fs_shared *shared = fs_shared_of_common(&breaker->block);
    fs_member *member = fs_member_of(breaker);
    uint32_t most = 0, steps = 0;
    for (const fs_label *label = fs_label_first(shared, member); label; label = fs_label_next(shared, label)) {
        if (steps++ == WALK_MOST) return 0;
        if (label->length == length && memcmp(label->name, name, length) == 0) return label->number;
        most = label->number > most ? label->number : most;
    }
    fs_label *label = (fs_label *)(void *)fs_arena_alloc(fs_shared_common(shared), sizeof *label + length);
    if (!label) return 0;
    label->number = most + 1;
    label->length = length;
    memcpy(label->name, name, length);
    label->next = member->labels;
    fs_store_release(&member->labels, label->block.line);
    return label->number;
}

/* ---- burying the dead */

static fs_seat *buried_seat(const fs_member *member, fs_arena *to) {
    fs_stranger here = {(const char *)to, FS_SLOT_BYTES, false};
    departed_root *root = (departed_root *)(void *)fs_arena_at(to, ROOT_LINE);
    fs_seat *seat = (fs_seat *)(uintptr_t)departed_seat(member, &here);
    if (seat) return seat;
    seat = take_seat(to, member);
    if (!seat) return NULL;
    seat->next = root->seats ? fs_arena_span(&seat->block, fs_arena_follow(root, root->seats)) : 0;
    root->seats = fs_arena_span(&root->block, &seat->block);
    return seat;
}

static fs_series *buried_series(fs_seat *seat, const fs_series *of, fs_arena *to) {
    for (fs_series *s = seat->series ? (fs_series *)fs_arena_follow(seat, seat->series) : NULL; s;
         s = s->next ? (fs_series *)fs_arena_follow(s, s->next) : NULL)
        if (s->name == of->name) return s;
    fs_series *series = fs_series_take(to, of->window ? of->window : 1, of->began);
    if (!series) return NULL;
    series->name = of->name;
    fs_series_list(&seat->block, &seat->series, series);
    return series;
}

/* Forget what the departed have counted of members that are gone, or names that come and go would fill their arena. */
static void prune(const fs_shared *shared, fs_arena *to) {
    fs_stranger here = {(const char *)to, FS_SLOT_BYTES, false};
    departed_root *root = (departed_root *)(void *)fs_arena_at(to, ROOT_LINE);
    fs_seat *seat = (fs_seat *)(uintptr_t)fs_stranger_follow(&here, root, root->seats, sizeof *seat), *next;
    root->seats = 0;
    for (int i = 0; seat && i < WALK_MOST; i++, seat = next) {
        next = (fs_seat *)(uintptr_t)fs_stranger_follow(&here, seat, seat->next, sizeof *seat);
        const fs_member *member = member_at(shared, seat->member);
        if (member && (member->block.generation & 1) && seat_of(seat, member)) {
            seat->next = root->seats ? fs_arena_span(&seat->block, fs_arena_follow(root, root->seats)) : 0;
            root->seats = fs_arena_span(&root->block, &seat->block);
            continue;
        }
        fs_series *series = seat->series ? (fs_series *)fs_arena_follow(seat, seat->series) : NULL, *after;
        for (; series; series = after) {
            after = series->next ? (fs_series *)fs_arena_follow(series, series->next) : NULL;
            fs_series_free(series);
        }
        fs_arena_free(&seat->block);
    }
}

fs_status fs_members_bury(const fs_shared *shared, uint32_t slot, bool dead, fs_arena *to) {
    uint64_t departed = fs_load_acquire(&shared->departed);
    if (to->used == ROOT_LINE && !fs_arena_alloc(to, sizeof(departed_root))) return FS_NO_MEMORY;
    prune(shared, to);
    fs_stranger stranger = fs_stranger_in(shared, slot, departed);
    stranger.dead = dead;
    uint32_t members = 0;
    for (const fs_member *member = fs_member_first(shared); member && members < WALK_MOST;
         member = fs_member_next(shared, member), members++) {
        const fs_seat *seat = fs_member_seat(shared, member, slot, departed);
        if (!seat) continue;
        fs_seat *into = buried_seat(member, to);
        if (!into) return FS_NO_MEMORY;
        fs_store_relaxed(&mine(member)->seats[FS_DEPARTED], into->block.line);
        int steps = 0;
        for (const fs_series *s = series_first(seat, &stranger); s && steps < WALK_MOST;
             s = series_next(s, &stranger), steps++) {
            fs_series *target = buried_series(into, s, to);
            if (!target || fs_series_observe(target, s, &stranger, false, 0) != FS_OK) return FS_NO_MEMORY;
        }
    }
    return FS_OK;
}

void fs_members_vacate(fs_shared *shared, uint32_t slot) {
    uint32_t members = 0;
    for (const fs_member *member = fs_member_first(shared); member && members < WALK_MOST;
         member = fs_member_next(shared, member), members++) {
        fs_store_release(&mine(member)->seats[slot], 0);
        calm(shared, member); /* whoever was killed had it marked */
    }
}

void fs_members_setup(void) { fs_breaker_members_totals = members_totals; }
