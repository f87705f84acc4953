/* budget.h - how many retries and hedges an integration may still add to its traffic.
 *
 * What:    a balance of retries. A share of the calls and a floor of retries a second pay into it, each retry or hedge
 *          takes 1 out of it when it is decided on, and what nobody takes is forgotten by and by: of what was paid in
 *          `window` ago 1/e is left. So a steady income fills it to what a window brings, and never beyond:
 *
 *              income = share * calls a second + floor        full = income * window
 *
 *          A successful call pays nothing for it. Traffic is not counted here but read, when a retry asks, from the
 *          cumulative counts that the call has left in its series anyway. A payer is one breaker whose traffic is read;
 *          several may pay into one budget (the keys of an integration), each as often as it asks. Calls between two
 *          of its readings count as if they had come evenly, which forgets of them what they deserve.
 *
 *          Retries are calls too and must not pay for further ones: a payer's granted retries are taken off its calls.
 *
 *          `owed` is what was taken and not yet forgotten. It shrinks as the balance does, so balance + owed is exactly
 *          the balance there would be had nothing been taken: how full it could be.
 * States:  none but the numbers.
 * Units:   retries, as doubles; time in fs_ns of CLOCK_MONOTONIC, the window too.
 * Threads: lock-free. Whoever moves `at` on lets the time since then pass; who loses that race asks a balance a few ns
 *          behind. No two take the same retry.
 * Errors:  none; the config has been checked by its owner. fs_budget_take answers NULL where there is no room.
 */
#ifndef FAILSOFT_BUDGET_H
#define FAILSOFT_BUDGET_H

#include "failsoft/arena.h"
#include "failsoft/clock.h"

typedef struct {
    double share;   /* retries that a call pays for, >= 0 */
    double floor;   /* retries a second whatever the traffic, >= 0 */
    fs_ns window;   /* > 0 */
} fs_budget_config;

/* What one breaker's traffic had come to when it was last read. */
typedef struct {
    uint64_t seen;    /* calls less retries */
    uint64_t retries; /* granted to it */
    fs_ns at;
} fs_payer;

typedef struct {
    fs_block block;
    double balance;
    double owed;
    fs_ns at;
    uint64_t retries;  /* granted */
    uint64_t hedges;
    uint64_t refused;  /* of either */
    fs_budget_config config;
} fs_budget;

typedef struct {
    double balance;
    double full;
    uint64_t retries;
    uint64_t hedges;
    uint64_t refused;
} fs_budget_status;

_Static_assert(sizeof(fs_budget) == 88, "a budget is part of the layout");

/* A budget of its own block, as full as the floor alone fills it. */
fs_budget *fs_budget_take(fs_arena *arena, const fs_budget_config *config, fs_ns now);
void fs_budget_free(fs_budget *budget);

/* Let other settings hold from now on. The balance stays, and finds its new level within a window or two. */
void fs_budget_configure(fs_budget *budget, const fs_budget_config *config, fs_ns now);

/* A payer whose traffic begins now. */
static inline void fs_payer_begin(fs_payer *payer, fs_ns now) { *payer = (fs_payer){.at = now}; }

/* Pay in for the traffic of a payer, which has made `calls` calls since its start, retries among them. */
void fs_budget_pay(fs_budget *budget, fs_payer *payer, uint64_t calls, fs_ns now);

/* Take a retry, for a payer, or a hedge. False: there is not one left. */
bool fs_budget_retry(fs_budget *budget, fs_payer *payer, fs_ns now);
bool fs_budget_hedge(fs_budget *budget, fs_ns now);

void fs_budget_read(fs_budget *budget, fs_ns now, fs_budget_status *status);

#endif
