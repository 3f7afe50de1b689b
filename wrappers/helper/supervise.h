/* The job's monitor (the wrapper's pid) and init (pid 1 of its namespace), D7. */
#pragma once

#include "job.h"

/* Starts the job and ends as it ended. */
_Noreturn void supervise(struct job *job);
