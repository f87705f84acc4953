#include "failsoft/budget.h"

#include <math.h>

/* Five times 0.2 is a hair less than 1 and has to do. */
#define WHOLE (1.0 - 1e-6)

/* Doubles in atomic words. */
static double load(const double *word) {
    double value;
    fs_load_relaxed_to(word, &value);
    return value;
}

static void store(double *word, double value) { fs_store_relaxed_from(word, &value); }

static bool swap(double *word, double *expected, double value) {
    return fs_cas_relaxed_from(word, expected, &value);
}

/* word = word * kept + more */
static void move(double *word, double kept, double more) {
    double was = load(word);
    while (!swap(word, &was, was * kept + more)) {}
}

static double span(const fs_budget *budget, fs_ns time) {
    return (double)time / (double)fs_load_relaxed(&budget->config.window);
}

/* What is left of an income of `amount` that came evenly over the last `windows` windows. */
static double left_of(double amount, double windows) { return windows > 0.0 ? amount * -expm1(-windows) / windows : amount; }

/* Let the time pass until `now`: forget, and pay the floor in. */
static void pass(fs_budget *budget, fs_ns now) {
    fs_ns at = fs_load_relaxed(&budget->at);
    if (now <= at || !fs_cas(&budget->at, &at, now)) return;
    double windows = span(budget, now - at), floor = load(&budget->config.floor);
    double kept = exp(-windows), income = floor * (double)(now - at) / 1e9;
    move(&budget->balance, kept, left_of(income, windows));
    move(&budget->owed, kept, 0.0);
}

fs_budget *fs_budget_take(fs_arena *arena, const fs_budget_config *config, fs_ns now) {
    fs_budget *budget = (fs_budget *)(void *)fs_arena_alloc(arena, sizeof *budget);
    if (!budget) return NULL;
    budget->config = *config;
    budget->at = now;
    budget->balance = config->floor * ((double)config->window / 1e9);
    return budget;
}

void fs_budget_free(fs_budget *budget) { fs_arena_free(&budget->block); }

void fs_budget_configure(fs_budget *budget, const fs_budget_config *config, fs_ns now) {
    pass(budget, now);
    store(&budget->config.share, config->share);
    store(&budget->config.floor, config->floor);
    fs_store_relaxed(&budget->config.window, config->window);
}

void fs_budget_pay(fs_budget *budget, fs_payer *payer, uint64_t calls, fs_ns now) {
    pass(budget, now);
    fs_ns at = fs_load_relaxed(&payer->at);
    if (now < at || !fs_cas(&payer->at, &at, now)) return; /* another thread has just read the same traffic */
    uint64_t own = calls - fs_load_relaxed(&payer->retries);
    /* Fewer than before where a retry has been granted that is still to be made: its own call will make up for it. */
    int64_t more = (int64_t)(own - fs_swap_relaxed(&payer->seen, own));
    move(&budget->balance, 1.0, left_of(load(&budget->config.share) * (double)more, span(budget, now - at)));
}

static bool take(fs_budget *budget, fs_ns now) {
    pass(budget, now);
    double was = load(&budget->balance);
    do {
        if (!(was >= WHOLE)) {
            fs_add_relaxed(&budget->refused, 1);
            return false;
        }
    } while (!swap(&budget->balance, &was, was - 1.0));
    move(&budget->owed, 1.0, 1.0);
    return true;
}

bool fs_budget_retry(fs_budget *budget, fs_payer *payer, fs_ns now) {
    if (!take(budget, now)) return false;
    fs_add_relaxed(&payer->retries, 1);
    fs_add_relaxed(&budget->retries, 1);
    return true;
}

bool fs_budget_hedge(fs_budget *budget, fs_ns now) {
    if (!take(budget, now)) return false;
    fs_add_relaxed(&budget->hedges, 1);
    return true;
}

void fs_budget_read(fs_budget *budget, fs_ns now, fs_budget_status *status) {
    pass(budget, now);
    double balance = load(&budget->balance);
    *status = (fs_budget_status){
        .balance = balance > 0.0 ? balance : 0.0,
        .full = fmax(balance + load(&budget->owed), 0.0),
        .retries = fs_load_relaxed(&budget->retries),
        .hedges = fs_load_relaxed(&budget->hedges),
        .refused = fs_load_relaxed(&budget->refused),
    };
}
