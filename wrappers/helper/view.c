/* MUST: take every source from the machine before the first change; resolve every target inside
 * the job's root.
 * MUST NOT: go on after a step of a required control has failed.
 */
#include "view.h"

#include <stdio.h>

#include "die.h"
#include "view_steps.h"

/* Mounts the chroot's directory on itself: only a mount can become the root. */
static void open_chroot(struct view *view)
{
    const char *path = view->job->root->field[1];
    OWNED_FD directory = open_trusted(path, O_PATH | O_DIRECTORY);
    if (directory < 0 || fstat(directory, &view->job->root_status) != 0)
        die_errno(MSG_CHROOT, "open %s as the chroot %s", path, view->job->root->field[0]);
    view->root = tree_copy(directory, "");
    if (view->root < 0 || tree_place(view->root, directory) != 0)
        die_errno(MSG_CHROOT, "use %s as the chroot %s", path, view->job->root->field[0]);
    if (view->job->root->number[2] == ACCESS_RO && tree_set(view->root, MOUNT_ATTR_RDONLY) != 0)
        die_errno(MSG_CHROOT, "make the chroot %s read-only", view->job->root->field[0]);
}

static void open_root(struct view *view)
{
    if (view->job->root != NULL) {
        open_chroot(view);
        return;
    }
    view->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (view->root < 0)
        die_errno(MSG_CONTROL, "open /");
}

int view_place(struct view *view, int tree, const char *path)
{
    view->object = path;
    OWNED_FD target = tree < 0 ? -1 : tree_target(view->root, path);
    return target < 0 ? -1 : view_place_at(view, tree, target);
}

/* Notes where TREE is by the path without links: two spellings of one place are one place. */
static int note(struct view *view, int tree, int target)
{
    char link[32], path[FIELD_BYTES_MAX + 1];
    const char *top = view->job->root == NULL ? "" : view->job->root->field[1];
    snprintf(link, sizeof link, "/proc/self/fd/%d", target);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || strncmp(path, top, strlen(top)) != 0)
        return -1;
    path[length] = '\0';
    job_note_placed(view->job, tree, path + strlen(top));
    return 0;
}

int view_place_at(struct view *view, int tree, int target)
{
    return note(view, tree, target) != 0 ? -1 : tree_place(tree, target);
}

static void run_step(struct view *view, enum control control, int (*step)(struct view *))
{
    int result = step(view);
    if (result < 0 && errno == ENOENT && view->job->policy->modes[control] == MODE_REQUIRE)
        die(MSG_MOUNT_POINT, "%s: %s is missing in %s", control_name(control), view->object,
            view_root_name(view));
    job_control(view->job, control, result, view->object);
}

static void place_dev(struct view *view)
{
    if (view_place(view, view->dev, "/dev") != 0)
        die_errno(MSG_MOUNT_POINT, "mount on /dev in %s", view_root_name(view));
}

static void enter_root(struct view *view)
{
    if (view->job->root == NULL) {
        if (chdir("/") != 0)
            die_errno(MSG_CHROOT, "chdir /");
        return;
    }
    if (fchdir(view->root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
        syscall(SYS_umount2, ".", MNT_DETACH) != 0 || chdir("/") != 0)
        die_errno(MSG_CHROOT, "make %s the root", view->job->root->field[1]);
}

/* In the order of running: what hides comes before what must be seen again, and /dev, which
 * keeps its devices, after the nosuid and nodev of all the rest. */
static const struct {
    enum control control;
    int (*step)(struct view *);
} steps[] = {
    { CONTROL_PROC, step_proc },     { CONTROL_SYS, step_sys },
    { CONTROL_SHM, step_shm },       { CONTROL_MQUEUE, step_mqueue },
    { CONTROL_PTS, step_pts },       { CONTROL_TMP, step_tmp },
    { CONTROL_HIDE, step_hide },     { CONTROL_SANDBOXES, step_sandboxes },
    { CONTROL_READ_ONLY, step_read_only },
};

/* In a chroot the sandbox has to be mounted, and EXECUTE is where. */
static bool is_needed(const struct job *job, enum control control)
{
    return job->root != NULL && control == CONTROL_SANDBOXES;
}

void view_build(struct job *job)
{
    struct view view = { .job = job };
    if (syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
        die_errno(MSG_CONTROL, "mount: stop propagation to the host");
    take_sources(&view);
    open_root(&view);
    if (job_wants(job, CONTROL_NOSUID))
        run_step(&view, CONTROL_NOSUID, step_nosuid);
    place_dev(&view);
    place_parts(&view);
    for (size_t i = 0; i < LENGTH(steps); i++)
        if (job_wants(job, steps[i].control) || is_needed(job, steps[i].control))
            run_step(&view, steps[i].control, steps[i].step);
    enter_root(&view);
    close(view.root);
    close(view.dev);
    close(view.sys);
    close(view.sandbox);
}
