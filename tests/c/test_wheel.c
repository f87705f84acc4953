/* The wheel: never early, never late, in order, against a plain list of what is armed. */
#include "failsoft/wheel.h"

#include <stdlib.h>

#include "failsoft/rng.h"

#include "check.h"

#define MANY 4096

static fs_wheel wheel;
static fs_wheel_node node[MANY];
static uint64_t armed[MANY]; /* when it is due; 0: not armed */

static void start(uint64_t at) {
    wheel = (fs_wheel){.at = at};
    for (int i = 0; i < MANY; i++) {
        node[i] = (fs_wheel_node){0};
        armed[i] = 0;
    }
}

static uint64_t earliest(void) {
    uint64_t least = FS_NO_TICK;
    for (int i = 0; i < MANY; i++)
        if (armed[i] && armed[i] < least) least = armed[i];
    return least;
}

static void arm(int i, uint64_t due) {
    uint64_t look = fs_wheel_arm(&wheel, &node[i], due);
    armed[i] = due < wheel.at ? wheel.at : due;
    CHECK(look <= armed[i]);
    CHECK(fs_wheel_next(&wheel) <= look);
}

static void disarm(int i) {
    fs_wheel_disarm(&wheel, &node[i]);
    armed[i] = 0;
    CHECK(node[i].back == NULL);
}

/* All that is due by `now` comes, in order, and nothing else. */
static uint64_t take_until(uint64_t now) {
    uint64_t taken = 0, before = 0;
    for (fs_wheel_node *due; (due = fs_wheel_take(&wheel, now)); taken++) {
        int i = (int)(due - node);
        CHECK(armed[i] != 0 && armed[i] <= now);
        CHECK_EQ(due->due, armed[i]);
        CHECK(armed[i] >= before);
        before = armed[i];
        armed[i] = 0;
    }
    CHECK(earliest() > now);
    CHECK_EQ(wheel.at, now);
    return taken;
}

static void each_level_wraps(void) {
    for (unsigned level = 0; level < FS_WHEEL_LEVELS; level++) {
        uint64_t span = UINT64_C(1) << (level * FS_WHEEL_BITS);
        for (uint64_t from = 2; from < 200; from += 7) {
            uint64_t at = span > UINT64_MAX / 256 ? from : span * from - from % 2;
            start(at);
            /* Just before, at and just after the borders of slots, and a turn of the level later. */
            uint64_t dues[] = {at, at + 1, at + span - 1, at + span, at + span + 1, at + 63, at + 64, at + 65};
            int count = 0;
            for (unsigned d = 0; d < sizeof dues / sizeof *dues; d++)
                if (dues[d] >= at) arm(count++, dues[d]);
            uint64_t taken = 0;
            while (wheel.count) {
                uint64_t look = fs_wheel_next(&wheel);
                CHECK(look <= earliest());
                taken += take_until(look);
            }
            CHECK_EQ(taken, count);
        }
    }
}

static void the_last_tick_has_a_place(void) {
    start(5);
    arm(0, FS_TICK_MOST);
    arm(1, 6);
    CHECK_EQ(take_until(6), 1);
    CHECK_EQ(take_until(FS_TICK_MOST - 1), 0);
    CHECK_EQ(take_until(FS_TICK_MOST), 1);
}

static void an_empty_slot_is_not_looked_at(void) {
    start(1000);
    arm(0, 2000);
    arm(1, 2000);
    arm(2, 2000);
    disarm(1);
    CHECK(fs_wheel_next(&wheel) != FS_NO_TICK);
    disarm(0);
    CHECK(fs_wheel_next(&wheel) != FS_NO_TICK);
    disarm(2);
    CHECK_EQ(fs_wheel_next(&wheel), FS_NO_TICK);
    CHECK_EQ(wheel.count, 0);
}

/* How often a deadline is hung up anew does not depend on how far off it is, but for the levels it falls through. */
static void looks_are_few(void) {
    start(12345);
    for (int i = 0; i < MANY; i++) arm(i, 12345 + 40000 + (uint64_t)i % 3);
    int looks = 0;
    while (wheel.count) {
        take_until(fs_wheel_next(&wheel));
        looks++;
    }
    CHECK(looks <= 2 + 3);
}

static uint64_t somewhere(fs_rng *rng, uint64_t at) {
    uint64_t bits = fs_rng_next(rng) % 44;
    return at + (fs_rng_next(rng) & ((UINT64_C(1) << bits) - 1));
}

static void any_history(void) {
    fs_rng rng;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        fs_rng_seed(&rng, seed);
        start(fs_rng_next(&rng) >> (seed % 30));
        uint64_t alive = 0, taken = 0, ended = 0, begun = 0;
        for (int step = 0; step < 3000; step++) {
            int i = (int)(fs_rng_next(&rng) % (seed % 2 ? 64 : MANY));
            if (fs_rng_next(&rng) % 8 == 0) {
                taken += take_until(fs_rng_next(&rng) % 4 ? somewhere(&rng, wheel.at) : fs_wheel_next(&wheel) == FS_NO_TICK
                                                                                            ? wheel.at
                                                                                            : fs_wheel_next(&wheel));
            } else if (armed[i]) {
                disarm(i);
                ended++;
            } else {
                arm(i, fs_rng_next(&rng) % 16 ? somewhere(&rng, wheel.at) : wheel.at / 2 + 1);
                begun++;
            }
            alive = begun - ended - taken;
            CHECK_EQ(wheel.count, alive);
        }
    }
}

int main(void) {
    each_level_wraps();
    the_last_tick_has_a_place();
    an_empty_slot_is_not_looked_at();
    looks_are_few();
    any_history();
    return check_report();
}
