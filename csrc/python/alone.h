/* alone.h - coming to a shared arena and leaving it, while no other thread of this process counts.
 *
 * What:    fs_shared_claim and fs_shared_part (shared.h), each of which copies the private arena and puts something else
 *          in its place. What another thread counted in between would be lost, and what it took would be taken twice.
 *          Under the GIL no other thread runs then. Without it all are stopped, at points of the interpreter's choice,
 *          at which none is in the middle of code of ours: the interpreter visits its objects so, and the work is done
 *          at the first of them. Calls pay nothing for it; they stand still for as long as the copy takes.
 * States:  none.   Units: none.
 * Threads: to be called with the interpreter's leave, as all of Python.
 * Errors:  those of shared.h.
 */
#ifndef FAILSOFT_PYTHON_ALONE_H
#define FAILSOFT_PYTHON_ALONE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "failsoft/shared.h"

fs_shared_status fs_claim_alone(fs_mapping *mapping);
void fs_part_alone(fs_mapping *mapping);

#endif
