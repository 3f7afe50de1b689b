/* What one job gets: the result of policy and plan. */
#pragma once

#include "identity.h"
#include "inherit.h"
#include "policy.h"

/* What was mounted at a path, for the read-back. */
struct placed {
    char *path;
    dev_t device;
    ino_t inode;
};

struct job {
    const struct policy *policy;
    const struct caller *caller;
    const struct inherited *inherited;
    int sandbox;            /* dir_<starter> below EXECUTE */
    int scratch;            /* the sandbox itself, or scratch in it since HTCondor 25.4 */
    const char *execute;    /* the EXECUTE that it is in */
    char sandbox_name[32];  /* dir_<starter> */
    const struct record *root; /* its named chroot, or NULL */
    struct stat root_status;   /* of the chroot's directory */
    uint64_t limits[LIMIT_COUNT]; /* UINT64_MAX: none */
    bool asked[LIMIT_COUNT];      /* by the plan, tighter than the policy's */
    bool in_force[CONTROL_COUNT];
    struct placed *placed;
    size_t placed_count;
};

/* Finds the sandbox that the starter made for this job. */
void job_find_sandbox(struct job *job);

/* Checks PLAN against the policy: names only, and only tighter (D2).  Dies if it asks for more,
 * or if the planner refuses the job. */
void job_authorise(struct job *job, const struct records *plan);

/* Notes the result of a step: RESULT < 0 with errno is a failure at OBJECT.  A required control
 * that failed ends the start; a preferred one is noted as missing. */
void job_control(struct job *job, enum control control, int result, const char *object);

/* Notes that TREE is mounted at PATH now, and nothing else at or below it that was noted before. */
void job_note_placed(struct job *job, int tree, const char *path);

static inline bool job_wants(const struct job *job, enum control control)
{
    return job->policy->modes[control] != MODE_OFF;
}

/* Returns what follows "PATH/" in the EXECUTE that holds the sandbox, or NULL if it is not below
 * PATH. */
const char *job_execute_below(const struct job *job, const char *path);

/* Tells whether PATH is in a private directory, which covers it. */
bool job_is_private(const struct job *job, const char *path);

const char *control_name(enum control control);
const char *limit_name(enum limit limit);
