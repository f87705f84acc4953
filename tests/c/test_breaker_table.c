/* The real breaker, stepped through the state table row by row: in each state, on each event, under each condition. */
#include "breaker_rig.h"
#include "breaker_table.h"

#define THRESHOLD 3 /* of failures in a row, and of successes of probes */

static fs_ns now_in(fs_state in) { return in == FS_HALF_OPEN ? START + WAIT : START; }

/* A permit of the generation that is in force, as a call that is out would hold it. */
static fs_permit permit_in(fs_breaker *breaker, fs_ns now) {
    fs_permit permit = state(breaker) == FS_HALF_OPEN ? acquire(breaker, now) : fs_permit_of(gate(breaker));
    CHECK(fs_permit_granted(permit));
    return permit;
}

static fs_breaker *prepared(const table_row *row) {
    fs_breaker_config config = plain();
    config.failure_threshold = config.success_threshold = THRESHOLD;
    config.half_open_most = 1;
    fs_breaker *breaker = in_state(config, row->from);
    fs_ns now = now_in(row->from);
    for (int i = 1; row->when == ENOUGH && i < THRESHOLD; i++) {
        if (row->event == ON_FAILURE) failure(breaker, permit_in(breaker, now), now);
        else success(breaker, permit_in(breaker, now), now);
    }
    if (row->answer == ZERO) failure(breaker, permit_in(breaker, now), now);
    if (row->when == TAKEN) acquire(breaker, now);
    return breaker;
}

static void the_breaker_takes_the_row(const table_row *row) {
    fs_breaker *breaker = prepared(row);
    fs_ns now = row->when == WAIT_OVER ? START + WAIT : row->when == WAITING ? START + WAIT - 1 : now_in(row->from);
    uint64_t before = gate(breaker);
    fs_permit permit = row->event == ON_ACQUIRE ? 0 : permit_in(breaker, now);
    if (row->event == ON_ACQUIRE) permit = acquire(breaker, now);
    else if (row->event == ON_SUCCESS) success(breaker, permit, now);
    else failure(breaker, permit, now);
    CHECK_EQ(state(breaker), row->to);
    bool changes = row->because != FS_BECAUSE_NOTHING;
    CHECK_EQ(generation(breaker), fs_gate_generation(before) + changes);
    CHECK_EQ(change.generation, changes ? generation(breaker) : 0);
    if (changes) CHECK(change.from == row->from && change.to == row->to && change.because == row->because);
    if (changes) CHECK_EQ(status(breaker, now).because, row->because);
    if (row->event == ON_ACQUIRE) {
        CHECK_EQ(fs_permit_granted(permit), row->answer != REFUSE);
        CHECK_EQ(fs_permit_granted(permit) && fs_permit_slot(permit), row->answer == PROBE);
    } else if (!changes) {
        uint32_t count = fs_gate_count(before);
        CHECK_EQ(tally(breaker), row->answer == ZERO ? 0 : row->answer == UP ? count + 1 : count);
    }
    fs_breaker_free(breaker);
}

/* The same events from a call of another generation change nothing, whatever the state. */
static void an_outcome_of_another_generation_changes_nothing(fs_state in) {
    for (int how = SUCCEEDED; how <= FAILED; how++)
        for (int off = -1; off <= 1; off += 2) {
            fs_breaker_config config = plain();
            config.failure_threshold = config.success_threshold = 1;
            fs_breaker *breaker = in_state(config, in);
            uint64_t before = gate(breaker);
            fs_permit late = fs_permit_of(before + ((uint64_t)off << 32));
            if (how == SUCCEEDED) success(breaker, late, now_in(in));
            else failure(breaker, late, now_in(in));
            CHECK_EQ(gate(breaker), before);
            CHECK_EQ(change.generation, 0);
            fs_breaker_free(breaker);
        }
}

static void the_operator_goes_anywhere(fs_state in, fs_state to) {
    fs_breaker *breaker = in_state(plain(), in);
    uint32_t before = generation(breaker);
    force(breaker, to, now_in(in));
    bool changes = in != to || to == FS_CLOSED_STATE;
    CHECK_EQ(state(breaker), to);
    CHECK_EQ(generation(breaker), before + changes);
    if (changes) check_change(in, to, FS_BECAUSE_OPERATOR, before + 1, 0);
    fs_breaker_free(breaker);
}

/* No state is left without an answer to an event. */
static void the_table_is_whole(void) {
    for (int in = 0; in < FS_STATES; in++)
        for (int event = ON_ACQUIRE; event <= ON_FAILURE; event++) {
            unsigned met = 0; /* a bit for each condition */
            for (unsigned i = 0; i < TABLE_ROWS; i++)
                if (breaker_table[i].from == (fs_state)in && breaker_table[i].event == (table_event)event)
                    met |= 1u << breaker_table[i].when;
            CHECK(met == 1u << ALWAYS || met == (1u << WAITING | 1u << WAIT_OVER) || met == (1u << FREE | 1u << TAKEN) ||
                  met == (1u << BELOW | 1u << ENOUGH));
        }
}

int main(void) {
    rig_setup();
    the_table_is_whole();
    for (unsigned i = 0; i < TABLE_ROWS; i++) the_breaker_takes_the_row(&breaker_table[i]);
    for (int in = 0; in < FS_STATES; in++) {
        an_outcome_of_another_generation_changes_nothing((fs_state)in);
        for (int to = 0; to < FS_STATES; to++) the_operator_goes_anywhere((fs_state)in, (fs_state)to);
    }
    printf("score: the core takes every row of the state table | rows | %zu | and %d operator's steps\n", TABLE_ROWS,
           FS_STATES * FS_STATES);
    return rig_report();
}
