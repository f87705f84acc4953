/* breaker_table.h - the state table of breaker.h as data, a row a line.
 *
 * What:    FS_TABLE(ROW) calls ROW(from, event, when, answer, to, because) for each row. The C tests step the real breaker
 *          through it, the explorer asks it about each swap of the gate, and tests/reference/test_table.py reads the same
 *          lines to step the Python model.
 * States:  as in fs_state, without the prefix.
 *          event      ACQUIRE SUCCESS FAILURE
 *          when       ALWAYS; WAITING, WAIT_OVER: the wait of an open breaker; FREE, TAKEN: is there a lease; BELOW, ENOUGH:
 *                     would this outcome be the one that a threshold asks for
 *          answer     GO, PROBE, REFUSE to a call; ZERO (count = 0), UP (count + 1), DROP (nothing) to an outcome
 *          Not in it: an operator goes from each state to each other, and from CLOSED to CLOSED; a fleet goes from CLOSED
 *          and HALF_OPEN to OPEN, and from OPEN and HALF_OPEN to CLOSED; an outcome of another generation changes nothing in
 *          any state.
 * Units:   none.   Threads: none.   Errors:  none.
 */
#ifndef FAILSOFT_BREAKER_TABLE_H
#define FAILSOFT_BREAKER_TABLE_H

#define FS_TABLE(ROW)                                                                  \
    ROW(CLOSED,       ACQUIRE, ALWAYS,    GO,     CLOSED,       NOTHING)               \
    ROW(CLOSED,       SUCCESS, ALWAYS,    ZERO,   CLOSED,       NOTHING)               \
    ROW(CLOSED,       FAILURE, BELOW,     UP,     CLOSED,       NOTHING)               \
    ROW(CLOSED,       FAILURE, ENOUGH,    UP,     OPEN,         CONSECUTIVE_FAILURES)  \
    ROW(OPEN,         ACQUIRE, WAITING,   REFUSE, OPEN,         NOTHING)               \
    ROW(OPEN,         ACQUIRE, WAIT_OVER, PROBE,  HALF_OPEN,    WAIT_OVER)             \
    ROW(OPEN,         SUCCESS, ALWAYS,    DROP,   OPEN,         NOTHING)               \
    ROW(OPEN,         FAILURE, ALWAYS,    DROP,   OPEN,         NOTHING)               \
    ROW(HALF_OPEN,    ACQUIRE, FREE,      PROBE,  HALF_OPEN,    NOTHING)               \
    ROW(HALF_OPEN,    ACQUIRE, TAKEN,     REFUSE, HALF_OPEN,    NOTHING)               \
    ROW(HALF_OPEN,    SUCCESS, BELOW,     UP,     HALF_OPEN,    NOTHING)               \
    ROW(HALF_OPEN,    SUCCESS, ENOUGH,    UP,     CLOSED,       RECOVERED)             \
    ROW(HALF_OPEN,    FAILURE, ALWAYS,    DROP,   OPEN,         PROBE_FAILED)          \
    ROW(FORCED_OPEN,  ACQUIRE, ALWAYS,    REFUSE, FORCED_OPEN,  NOTHING)               \
    ROW(FORCED_OPEN,  SUCCESS, ALWAYS,    DROP,   FORCED_OPEN,  NOTHING)               \
    ROW(FORCED_OPEN,  FAILURE, ALWAYS,    DROP,   FORCED_OPEN,  NOTHING)               \
    ROW(DISABLED,     ACQUIRE, ALWAYS,    GO,     DISABLED,     NOTHING)               \
    ROW(DISABLED,     SUCCESS, ALWAYS,    DROP,   DISABLED,     NOTHING)               \
    ROW(DISABLED,     FAILURE, ALWAYS,    DROP,   DISABLED,     NOTHING)               \
    ROW(METRICS_ONLY, ACQUIRE, ALWAYS,    GO,     METRICS_ONLY, NOTHING)               \
    ROW(METRICS_ONLY, SUCCESS, ALWAYS,    ZERO,   METRICS_ONLY, NOTHING)               \
    ROW(METRICS_ONLY, FAILURE, ALWAYS,    UP,     METRICS_ONLY, NOTHING)

typedef enum { ON_ACQUIRE, ON_SUCCESS, ON_FAILURE, ON_IGNORE, ON_OPERATOR, ON_LIMIT, ON_FLEET } table_event;
typedef enum { ALWAYS, WAITING, WAIT_OVER, FREE, TAKEN, BELOW, ENOUGH } table_when;
typedef enum { GO, PROBE, REFUSE, ZERO, UP, DROP } table_answer;

typedef struct {
    fs_state from;
    table_event event;
    table_when when;
    table_answer answer;
    fs_state to;
    fs_because because;
} table_row;

#define TABLE_STATE_CLOSED FS_CLOSED_STATE
#define TABLE_STATE_OPEN FS_OPEN
#define TABLE_STATE_HALF_OPEN FS_HALF_OPEN
#define TABLE_STATE_FORCED_OPEN FS_FORCED_OPEN
#define TABLE_STATE_DISABLED FS_DISABLED
#define TABLE_STATE_METRICS_ONLY FS_METRICS_ONLY
#define TABLE_ROW(from, event, when, answer, to, because) \
    {TABLE_STATE_##from, ON_##event, when, answer, TABLE_STATE_##to, FS_BECAUSE_##because},

static const table_row breaker_table[] = {FS_TABLE(TABLE_ROW)};
#define TABLE_ROWS (sizeof breaker_table / sizeof breaker_table[0])

/* The row that leads from one state to another on an event. NULL: there is none. */
static inline const table_row *table_row_to(fs_state from, table_event event, fs_state to) {
    for (unsigned i = 0; i < TABLE_ROWS; i++)
        if (breaker_table[i].from == from && breaker_table[i].event == event && breaker_table[i].to == to)
            return &breaker_table[i];
    return NULL;
}

#endif
