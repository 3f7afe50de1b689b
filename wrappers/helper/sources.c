/* MUST: take every source by descriptor, before the first change to the job's view.
 * MUST NOT: take a path that the job chose, or follow a link in a bind list.
 */
#include "die.h"
#include "view_steps.h"

struct part {
    int tree;
    const char *target;
};

static const char *const host_files[] = { "/etc/resolv.conf", "/etc/hosts", "/etc/passwd",
                                          "/etc/group" };

/* Copies the host's PATH, no component of which may be a link: condor_isolation apply has
 * resolved them, and one that came later is not what the administrator saw. */
static int take(const char *path, uint64_t attributes)
{
    OWNED_FD source = kernel_openat2(AT_FDCWD, path, O_PATH,
                                     RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
    int tree = source < 0 ? -1 : tree_copy(source, "");
    if (tree < 0 || tree_set(tree, attributes) != 0)
        return -1;
    return tree;
}

static void add_part(struct view *view, int tree, const char *source, const char *target)
{
    if (tree < 0)
        die_errno(MSG_BIND, "bind %s", source);
    view->parts = reallocarray(view->parts, view->part_count + 1, sizeof *view->parts);
    if (view->parts == NULL)
        die_errno(MSG_BIND, "bind %s", source);
    view->parts[view->part_count++] = (struct part){ .tree = tree, .target = target };
}

static void take_bind(struct view *view, const char *source, const char *target,
                      uint64_t access)
{
    uint64_t attributes = view_safe_attributes(view) | (access == ACCESS_RO ? MOUNT_ATTR_RDONLY : 0);
    add_part(view, take(source, attributes), source, target);
}

static void take_binds(struct view *view)
{
    const struct record *bind = NULL;
    while ((bind = view_next(view, POLICY_BIND, bind)) != NULL)
        take_bind(view, bind->field[0], bind->field[1], bind->number[2]);
    while (view->job->root != NULL && (bind = view_next(view, POLICY_ROOT_BIND, bind)) != NULL)
        if (strcmp(bind->field[0], view->job->root->field[0]) == 0)
            take_bind(view, bind->field[1], bind->field[2], bind->number[3]);
}

/* Names and addresses are the host's in every chroot. */
static void take_host_files(struct view *view)
{
    for (size_t i = 0; i < LENGTH(host_files); i++) {
        OWNED_FD source = open(host_files[i], O_PATH | O_CLOEXEC); /* may be a link of root's */
        if (source < 0 && errno == ENOENT)
            continue;
        int tree = source < 0 ? -1 : tree_copy(source, "");
        if (tree >= 0 && tree_set(tree, view_safe_attributes(view) | MOUNT_ATTR_RDONLY) != 0)
            die_errno(MSG_BIND, "bind %s", host_files[i]);
        add_part(view, tree, host_files[i], host_files[i]);
    }
}

void take_sources(struct view *view)
{
    /* What was opened in the monitor belongs to another mount namespace and cannot be copied. */
    close(view->job->sandbox);
    close(view->job->scratch);
    job_find_sandbox(view->job);
    view->dev = take("/dev", job_wants(view->job, CONTROL_NOSUID) ? MOUNT_ATTR_NOSUID : 0);
    view->sys = take("/sys", view_safe_attributes(view));
    if (view->dev < 0 || view->sys < 0)
        die_errno(MSG_BIND, "bind /dev and /sys");
    view->sandbox = tree_copy(view->job->sandbox, "");
    if (view->sandbox < 0 || tree_set(view->sandbox, view_safe_attributes(view)) != 0)
        die_errno(MSG_SANDBOX, "bind %s", view->job->sandbox_name);
    if (view->job->root != NULL)
        take_host_files(view);
    take_binds(view);
}

void place_parts(struct view *view)
{
    for (size_t i = 0; i < view->part_count; i++) {
        if (view_place(view, view->parts[i].tree, view->parts[i].target) != 0)
            die_errno(MSG_MOUNT_POINT, "mount on %s in %s", view->object,
                      view_root_name(view));
        close(view->parts[i].tree);
    }
    free(view->parts);
}
