/* Runs the planner as the job's user and brings back its plan (D1). */
#pragma once

#include "identity.h"
#include "inherit.h"
#include "policy.h"

/* SCRATCH is the job's scratch directory, the planner's working directory.  The records point
 * into memory that stays. */
void planner_run(const struct policy *policy, const struct caller *caller, int scratch,
                 struct records *plan);
