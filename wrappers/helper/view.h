/* The files that the job sees. */
#pragma once

#include "job.h"

/* In the job's new mount namespace, as root: builds the view and makes it the root. */
void view_build(struct job *job);
