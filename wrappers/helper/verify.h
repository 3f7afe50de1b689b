/* Read-back: what the kernel says is in force, not what was asked of it (D3). */
#pragma once

#include "job.h"

/* Namespaces of the monitor, to tell the job's from. */
struct namespaces {
    struct stat pid, mnt, ipc, uts, cgroup;
};

void verify_note_namespaces(struct namespaces *host);

/* In the job's namespaces, while the machine's /proc is there: dies on any difference. */
void verify_namespaces(const struct job *job, const struct namespaces *host);

/* In the job's root, before root's rights go: dies on any difference. */
void verify_view(const struct job *job);
