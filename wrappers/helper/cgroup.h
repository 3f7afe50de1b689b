/* Limits on the cgroup that carries HTCondor's own. */
#pragma once

#include "job.h"

/* Writes the job's limits and reads them back. */
void cgroup_limit(struct job *job);
