/* MUST: cover what is hidden before anything of the job's is mounted below it.
 * MUST NOT: leave what covers writable.
 */
#include <stdio.h>

#include "view_steps.h"

static bool is_missing(const struct view *view, const char *path)
{
    OWNED_FD target = tree_target(view->root, path);
    return target < 0 && errno == ENOENT;
}

/* Covers EXECUTE with a directory that holds nothing but this job's sandbox. */
static int cover_execute(struct view *view, const char *execute, bool own)
{
    const struct tree_option options[] = { { "mode", "0755" }, { 0 } };
    OWNED_FD cover = tree_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    view->object = execute;
    if (cover < 0 || (own && mkdirat(cover, view->job->sandbox_name, 0755) != 0) ||
        tree_set(cover, MOUNT_ATTR_RDONLY) != 0 || view_place(view, cover, execute) != 0)
        return -1;
    if (!own)
        return 0;
    static char path[FIELD_BYTES_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", execute, view->job->sandbox_name);
    int result = view_place(view, view->sandbox, path);
    view->object = execute;
    return result;
}

int step_sandboxes(struct view *view)
{
    const struct record *execute = NULL;
    while ((execute = view_next(view, POLICY_EXECUTE, execute)) != NULL) {
        bool own = strcmp(execute->field[0], view->job->execute) == 0;
        if (!own && is_missing(view, execute->field[0]))
            continue;
        if (cover_execute(view, execute->field[0], own) != 0)
            return -1;
    }
    return 0;
}

/* Covers PATH but leaves a place for EXECUTE, which step_sandboxes fills. */
static int cover_around_execute(struct view *view, const char *path, const char *execute)
{
    const struct tree_option options[] = { { "mode", "0555" }, { 0 } };
    OWNED_FD cover = tree_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    OWNED_FD place = cover < 0 ? -1 : tree_make_directories(cover, execute, 0755);
    if (place < 0 || tree_set(cover, MOUNT_ATTR_RDONLY) != 0)
        return -1;
    return view_place(view, cover, path);
}

/* Returns an empty read-only tree: a directory, or a file.  The first cover that is placed serves
 * as source of all others: to close one that was never placed costs a grace period of the kernel. */
static int new_cover(bool directory)
{
    const struct tree_option options[] = { { "mode", "0555" }, { 0 } };
    int empty = tree_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (empty >= 0 && !directory) {
        OWNED_FD whole = empty;
        OWNED_FD file = openat(whole, "empty", O_CREAT | O_EXCL | O_CLOEXEC, 0);
        empty = file < 0 ? -1 : tree_copy(whole, "empty");
    }
    if (empty >= 0 && tree_set(empty, MOUNT_ATTR_RDONLY) != 0)
        return -1;
    return empty;
}

static int hide_one(struct view *view, const char *path, int covers[2])
{
    struct stat status;
    OWNED_FD target = tree_target(view->root, path);
    if (target < 0 && errno == ENOENT)
        return 0;
    if (target < 0 || fstat(target, &status) != 0)
        return -1;
    const char *execute = job_execute_below(view->job, path);
    if (execute != NULL)
        return cover_around_execute(view, path, execute);
    int *cover = &covers[S_ISDIR(status.st_mode)];
    if (*cover < 0) {
        *cover = new_cover(S_ISDIR(status.st_mode));
        return *cover < 0 ? -1 : view_place_at(view, *cover, target);
    }
    OWNED_FD copy = tree_copy(*cover, "");
    return copy < 0 ? -1 : view_place_at(view, copy, target);
}

int step_hide(struct view *view)
{
    int covers[2] = { -1, -1 }; /* of files, of directories */
    int result = 0;
    const struct record *hidden = NULL;
    while (result == 0 && (hidden = view_next(view, POLICY_HIDE, hidden)) != NULL) {
        if (job_is_private(view->job, hidden->field[0]))
            continue;
        view->object = hidden->field[0];
        result = hide_one(view, hidden->field[0], covers);
    }
    close_owned(&covers[0]);
    close_owned(&covers[1]);
    return result;
}

int step_read_only(struct view *view)
{
    const struct record *path = NULL;
    while ((path = view_next(view, POLICY_READ_ONLY, path)) != NULL) {
        if (job_is_private(view->job, path->field[0]))
            continue;
        view->object = path->field[0];
        OWNED_FD target = tree_target(view->root, path->field[0]);
        if (target < 0 && errno == ENOENT)
            continue;
        OWNED_FD tree = target < 0 ? -1 : tree_copy(target, "");
        if (tree < 0 || tree_set(tree, MOUNT_ATTR_RDONLY) != 0 ||
            view_place_at(view, tree, target) != 0)
            return -1;
    }
    return 0;
}
