/* The files that the job sees. */
#pragma once

#include "job.h"

/* In the job's new mount namespace, as root: builds the view and makes it the root. */
void view_build(struct job *job);

/* Path below the scratch directory that backs the private directory PATH ("/var/tmp"). */
static inline const char *view_backing(const char *path) { return path + 1; }
