/* MUST: give the job instances of its own of what shows or holds other jobs' objects. */
#include <stdio.h>

#include "view_steps.h"

static int place_new(struct view *view, const char *path, const char *type,
                     const struct tree_option *options, uint64_t attributes)
{
    OWNED_FD tree = tree_new(type, options, attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return view_place(view, tree, path);
}

int step_nosuid(struct view *view)
{
    view->object = "/";
    return tree_set(view->root, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

int step_proc(struct view *view)
{
    const struct tree_option options[] = { { 0 } };
    return place_new(view, "/proc", "proc", options, MOUNT_ATTR_NOEXEC);
}

int step_sys(struct view *view)
{
    view->object = "/sys";
    if (tree_set(view->sys, MOUNT_ATTR_RDONLY) != 0)
        return -1;
    return view_place(view, view->sys, "/sys");
}

int step_shm(struct view *view)
{
    char size[32];
    snprintf(size, sizeof size, "%llu",
             (unsigned long long)policy_number(view->job->policy, POLICY_SHM_SIZE, 0));
    const struct tree_option options[] = { { "mode", "1777" }, { "size", size }, { 0 } };
    return place_new(view, "/dev/shm", "tmpfs", options, 0);
}

int step_mqueue(struct view *view)
{
    const struct tree_option options[] = { { 0 } };
    int result = place_new(view, "/dev/mqueue", "mqueue", options, MOUNT_ATTR_NOEXEC);
    /* Without the directory there is nothing that shows queues; the IPC namespace holds them. */
    return result != 0 && errno == ENOENT ? 0 : result;
}

int step_pts(struct view *view)
{
    const struct tree_option options[] = {
        { "newinstance", NULL }, { "ptmxmode", "0666" }, { "mode", "0620" }, { "gid", "5" }, { 0 }
    };
    OWNED_FD tree = tree_new("devpts", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    return view_place(view, tree, "/dev/pts");
}
