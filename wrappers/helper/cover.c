/* MUST: cover what is hidden before anything of the job's is mounted below it.
 * MUST NOT: leave what covers writable.
 */
#include <stdio.h>
#include <sys/mount.h>

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

int step_hide(struct view *view)
{
    const struct tree_option options[] = { { "mode", "0555" }, { 0 } };
    OWNED_FD empty = tree_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    OWNED_FD file = empty < 0 ? -1 : openat(empty, "empty", O_CREAT | O_EXCL | O_CLOEXEC, 0);
    OWNED_FD inner = file < 0 || mkdirat(empty, "directory", 0555) != 0
                         ? -1 : tree_copy(empty, "directory");
    OWNED_FD blank = inner < 0 ? -1 : tree_copy(empty, "empty");
    view->object = "tmpfs";
    if (blank < 0 || tree_set(inner, MOUNT_ATTR_RDONLY) || tree_set(blank, MOUNT_ATTR_RDONLY))
        return -1;
    const struct record *hidden = NULL;
    while ((hidden = view_next(view, POLICY_HIDE, hidden)) != NULL) {
        struct stat status;
        view->object = hidden->field[0];
        OWNED_FD target = tree_target(view->root, hidden->field[0]);
        if (target < 0 && errno == ENOENT)
            continue;
        const char *execute = job_execute_below(view->job, hidden->field[0]);
        if (target < 0 || fstat(target, &status) != 0 ||
            (execute != NULL && cover_around_execute(view, hidden->field[0], execute) != 0))
            return -1;
        if (execute != NULL)
            continue;
        OWNED_FD cover = tree_copy(S_ISDIR(status.st_mode) ? inner : blank, "");
        if (cover < 0 || view_place_at(view, cover, target) != 0)
            return -1;
    }
    return 0;
}

int step_read_only(struct view *view)
{
    const struct record *path = NULL;
    while ((path = view_next(view, POLICY_READ_ONLY, path)) != NULL) {
        view->object = path->field[0];
        OWNED_FD target = tree_target(view->root, path->field[0]);
        if (target < 0 && errno == ENOENT)
            continue;
        OWNED_FD tree = target < 0 ? -1 : tree_copy(target, "");
        if (tree < 0 || tree_set(tree, MOUNT_ATTR_RDONLY) != 0 || view_place_at(view, tree, target) != 0)
            return -1;
    }
    return 0;
}
