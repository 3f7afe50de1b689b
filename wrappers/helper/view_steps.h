/* What the files that build the view share. */
#pragma once

#include "job.h"
#include "tree.h"

struct view {
    struct job *job;
    int root;              /* of the job's tree */
    const char *object;    /* what the current step works on */
    int dev, sys, sandbox; /* the machine's, taken before anything changed */
    struct part *parts;    /* the machine's files and binds, in the order of placing */
    size_t part_count;
};

/* Sources (sources.c): copies of all that the job keeps of the machine, taken while it is whole;
 * and their places in the job's root. */
void take_sources(struct view *view);
void place_parts(struct view *view);

/* One step a control: each returns 0, or -1 with errno and the path in view->object. */
int step_nosuid(struct view *view);
int step_proc(struct view *view);
int step_sys(struct view *view);
int step_shm(struct view *view);
int step_mqueue(struct view *view);
int step_pts(struct view *view);
int step_tmp(struct view *view);       /* private.c */
int step_hide(struct view *view);      /* cover.c */
int step_sandboxes(struct view *view); /* cover.c */
int step_read_only(struct view *view); /* cover.c */

/* Attaches TREE (-1: a step before failed) at PATH inside the job's root. */
int view_place(struct view *view, int tree, const char *path);

/* The same where TARGET, which is view->object, is open already. */
int view_place_at(struct view *view, int tree, int target);

static inline const struct record *view_next(const struct view *view, enum policy_key key,
                                             const struct record *previous)
{
    return records_next(&view->job->policy->records, key, previous);
}

static inline uint64_t view_safe_attributes(const struct view *view)
{
    return job_wants(view->job, CONTROL_NOSUID) ? MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV : 0;
}

/* For messages. */
static inline const char *view_root_name(const struct view *view)
{
    return view->job->root == NULL ? "the machine's root" : view->job->root->field[1];
}
