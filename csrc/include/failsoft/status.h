/* status.h - what a setup function answers.
 *
 * What:    the only error type of the C core. Hot functions cannot fail and return nothing of the kind; functions
 *          that set something up return a status, and on anything but FS_OK have changed nothing.
 * States:  none.   Units: none.   Threads: values, no state.
 * Errors:  this is them. errno is never used.
 */
#ifndef FAILSOFT_STATUS_H
#define FAILSOFT_STATUS_H

typedef enum {
    FS_OK = 0,
    FS_NO_MEMORY,   /* the arena is full, or the system gave none */
    FS_INVALID,     /* an argument is outside its stated domain */
} fs_status;

#endif
