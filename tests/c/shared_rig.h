/* shared_rig.h - what the tests of the shared arena stand on: a folder for files, and children.
 *
 * What:    the folder is gone when all processes of the test are, however they ended: one more, which does nothing else, waits
 *          for that. A child dies with its parent: none runs on, or holds a file, after a test that was killed.
 * States:  none.   Units: none.   Threads: one.   Errors: none; without a folder the program ends.
 */
#ifndef FAILSOFT_SHARED_RIG_H
#define FAILSOFT_SHARED_RIG_H

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static char folder[64], path[128];

/* Until nobody holds the other end any more. */
static void remove_after(int end) {
    char nothing, command[160];
    setsid(); /* a signal to the test and all of its processes is not for this one */
    for (int held = 0; held < 3; held++) close(held);
    while (read(end, &nothing, 1) != 0) {}
    snprintf(command, sizeof command, "rm -rf %s", folder);
    _exit(system(command) != 0);
}

static inline void rig_folder(void) {
    int ends[2];
    snprintf(folder, sizeof folder, "/dev/shm/failsoft-test-XXXXXX");
    if (!mkdtemp(folder)) {
        snprintf(folder, sizeof folder, "/tmp/failsoft-test-XXXXXX");
        if (!mkdtemp(folder)) exit(2);
    }
    if (pipe(ends) != 0) exit(2);
    if (fork() == 0) {
        close(ends[1]);
        remove_after(ends[0]);
    }
    close(ends[0]);
}

/* fork() for a child that dies with its parent. */
static inline pid_t fork_bound(void) {
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    return 0;
}

static inline pid_t child(void (*body)(void)) {
    pid_t pid = fork_bound();
    if (pid == 0) {
        body();
        _exit(check_failed != 0);
    }
    return pid;
}

#define ends_well(pid)                                                                                  \
    do {                                                                                                \
        int status_ = 0;                                                                                \
        CHECK(waitpid((pid), &status_, 0) > 0 && WIFEXITED(status_) && WEXITSTATUS(status_) == 0);      \
    } while (0)

#endif
