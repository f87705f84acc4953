/* The real retry budget, all interleavings: what it holds is what came in less what it granted, to the last retry, and two
 * who read the same traffic pay for it once. */
#include "explored.h"

#include "../../csrc/budget.c"

#include <math.h>

#include "small_arena.h"

#define START UINT64_C(500000000000)
#define SHARE 0.5

typedef enum { END = 0, RETRY, HEDGE, PAY, MORE } action;

static fs_budget *under;
static struct {
    fs_budget budget;
    fs_payer payer;
} *shared;
static const action (*script)[4];
static struct {
    uint32_t calls; /* that the payer has made */
    uint32_t retries, hedges, refused;
} past;

static void act(action what) {
    switch (what) {
    case RETRY:
        if (fs_budget_retry(under, &shared->payer, START)) past.retries++;
        else past.refused++;
        return;
    case HEDGE:
        if (fs_budget_hedge(under, START)) past.hedges++;
        else past.refused++;
        return;
    case PAY:
        fs_budget_pay(under, &shared->payer, past.calls, START);
        return;
    case MORE:
        past.calls++;
        return;
    case END:
        return;
    }
}

static void body(int thread) {
    action what;
    EX_EACH(what, script[thread], 4) act(what);
}

static double floor_there;

/* Below nothing only by what a reader who was held up has taken back, and the next one pays in again. */
static void always(void) { EX_CHECK(under->balance > -1e-9 - SHARE * past.calls); }

static void ended(void) {
    uint32_t granted = past.retries + past.hedges;
    double paid = SHARE * (double)(int64_t)shared->payer.seen;
    EX_CHECK(fabs(under->balance - (floor_there + paid - granted)) < 1e-9);
    EX_CHECK(fabs(under->owed - granted) < 1e-9);
    EX_CHECK(under->retries == past.retries && under->hedges == past.hedges && under->refused == past.refused);
    EX_CHECK(shared->payer.retries == past.retries);
    if (past.calls == 0) EX_CHECK(granted == floor(floor_there) || past.refused == 0); /* nobody was refused what was there */
}

static const char *named(const void *address) {
    static char name[32];
    if (address == &under->balance) return "balance";
    if (address == &under->owed) return "owed";
    if (address == &shared->payer.seen) return "seen";
    snprintf(name, sizeof name, "+%td", (const char *)address - (const char *)shared);
    return name;
}

typedef struct {
    const char *name;
    double floor;
    action script[EXPLORER_THREADS][4];
} plan;

static const plan plans[] = {
    {"three want two retries", 2.0, {{RETRY}, {RETRY}, {RETRY}}},
    {"a retry and a hedge for the last", 1.0, {{RETRY}, {HEDGE}}},
    {"two are refused", 0.5, {{RETRY}, {HEDGE}}},
    {"retries between two who pay", 1.0, {{MORE, PAY}, {MORE, PAY}, {RETRY}}},
    {"calls paid for while retries are taken", 1.0, {{MORE, MORE, PAY}, {RETRY, RETRY}}},
};

int main(void) {
    ex_sums sums = {0};
    fs_arena *arena = small_arena(16);
    if (!arena) return 2;
    shared = (void *)fs_arena_alloc(arena, sizeof *shared);
    if (!shared) return 2;
    under = &shared->budget;
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && !check_failed; i++)
        for (int weak = 0; weak < 2; weak++) {
            floor_there = plans[i].floor;
            *under = (fs_budget){.block = under->block, .at = START, .balance = floor_there, .config = {.share = SHARE, .window = FS_NS_PER_SECOND}};
            fs_payer_begin(&shared->payer, START);
            memset(&past, 0, sizeof past);
            script = plans[i].script;
            ex_plan search = {
                .name = plans[i].name, .threads = EX_THREADS_IN(script), .body = body, .always = always, .finally = ended,
                .place_name = named, .shared = shared, .shared_bytes = sizeof *shared,
                .beside = &past, .beside_bytes = sizeof past, .weak = weak,
            };
            ex_search_and_tell(&search, &sums);
        }
    ex_score("all interleavings of the retry budget", &sums);
    free(arena);
    return check_report();
}
