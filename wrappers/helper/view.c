/* MUST: take every source from the host before the first change; place every target inside the
 * job's root; make directories in the scratch directory with the job's rights only.
 * MUST NOT: mount anything that the job chose, or follow a link that it made.
 */
#include "view.h"

#include <linux/openat2.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "die.h"
#include "tree.h"

static const char *const host_files[] = { "/etc/resolv.conf", "/etc/hosts", "/etc/passwd",
                                          "/etc/group" };

struct part {
    int tree;
    const char *target;
};

struct view {
    struct job *job;
    int root;               /* of the job's tree */
    const char *object;     /* what the current step works on */
    int dev, sys, sandbox;  /* the host's, taken before anything changed */
    struct part *parts;     /* host files and binds, in the order of placing */
    size_t part_count;
};

static const struct record *next(const struct view *view, enum policy_key key,
                                 const struct record *previous)
{
    return records_next(&view->job->policy->records, key, previous);
}

static uint64_t safe_attributes(const struct view *view)
{
    return job_wants(view->job, CONTROL_NOSUID) ? MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV : 0;
}

/* Copies the host's PATH, no component of which may be a link: condor_isolation apply has
 * resolved them, and one that came later is not what the administrator saw. */
static int take(const char *path, uint64_t attributes)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    OWNED_FD source = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
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
    uint64_t attributes = safe_attributes(view) | (access == ACCESS_RO ? MOUNT_ATTR_RDONLY : 0);
    add_part(view, take(source, attributes), source, target);
}

static void take_binds(struct view *view)
{
    const struct record *bind = NULL;
    while ((bind = next(view, POLICY_BIND, bind)) != NULL)
        take_bind(view, bind->field[0], bind->field[1], bind->number[2]);
    while (view->job->root != NULL && (bind = next(view, POLICY_ROOT_BIND, bind)) != NULL)
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
        if (tree >= 0 && tree_set(tree, safe_attributes(view) | MOUNT_ATTR_RDONLY) != 0)
            die_errno(MSG_BIND, "bind %s", host_files[i]);
        add_part(view, tree, host_files[i], host_files[i]);
    }
}

static void take_sources(struct view *view)
{
    /* What was opened in the monitor belongs to another mount namespace and cannot be copied. */
    close(view->job->sandbox);
    close(view->job->scratch);
    job_find_sandbox(view->job);
    view->dev = take("/dev", job_wants(view->job, CONTROL_NOSUID) ? MOUNT_ATTR_NOSUID : 0);
    view->sys = take("/sys", safe_attributes(view));
    if (view->dev < 0 || view->sys < 0)
        die_errno(MSG_BIND, "bind /dev and /sys");
    view->sandbox = tree_copy(view->job->sandbox, "");
    if (view->sandbox < 0 || tree_set(view->sandbox, safe_attributes(view)) != 0)
        die_errno(MSG_SANDBOX, "bind %s", view->job->sandbox_name);
    if (view->job->root != NULL)
        take_host_files(view);
    take_binds(view);
}

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

static int place(struct view *view, int tree, const char *path)
{
    view->object = path;
    OWNED_FD target = tree < 0 ? -1 : tree_target(view->root, path);
    return target < 0 ? -1 : tree_place(tree, target);
}

static int place_new(struct view *view, const char *path, const char *type,
                     const struct tree_option *options, uint64_t attributes)
{
    OWNED_FD tree = tree_new(type, options, attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return place(view, tree, path);
}

static int step_nosuid(struct view *view)
{
    view->object = "/";
    return tree_set(view->root, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

static int step_proc(struct view *view)
{
    const struct tree_option options[] = { { 0 } };
    return place_new(view, "/proc", "proc", options, MOUNT_ATTR_NOEXEC);
}

static int step_sys(struct view *view)
{
    view->object = "/sys";
    if (tree_set(view->sys, MOUNT_ATTR_RDONLY) != 0)
        return -1;
    return place(view, view->sys, "/sys");
}

static int step_shm(struct view *view)
{
    char size[32];
    snprintf(size, sizeof size, "%llu",
             (unsigned long long)policy_number(view->job->policy, POLICY_SHM_SIZE, 0));
    const struct tree_option options[] = { { "mode", "1777" }, { "size", size }, { 0 } };
    return place_new(view, "/dev/shm", "tmpfs", options, 0);
}

static int step_mqueue(struct view *view)
{
    const struct tree_option options[] = { { 0 } };
    int result = place_new(view, "/dev/mqueue", "mqueue", options, MOUNT_ATTR_NOEXEC);
    /* Without the directory there is nothing that shows queues; the IPC namespace holds them. */
    return result != 0 && errno == ENOENT ? 0 : result;
}

static int step_pts(struct view *view)
{
    const struct tree_option options[] = {
        { "newinstance", NULL }, { "ptmxmode", "0666" }, { "mode", "0620" }, { "gid", "5" }, { 0 }
    };
    OWNED_FD tree = tree_new("devpts", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    return place(view, tree, "/dev/pts");
}

/* Makes PATH below the scratch directory with the job's rights and opens it.  What is there may
 * be the job's work of an earlier start: a link, or somebody else's directory, is refused. */
static int open_backing(const struct job *job, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    char part[FIELD_BYTES_MAX + 1];
    struct stat status;
    for (const char *end = path; *end != '\0';) {
        end += strcspn(end + 1, "/") + 1;
        snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
        if (mkdirat(job->scratch, part, 0700) != 0 && errno != EEXIST)
            return -1;
    }
    int fd = (int)syscall(SYS_openat2, job->scratch, path, &how, sizeof how);
    if (fd >= 0 && (fstat(fd, &status) != 0 || status.st_uid != job->caller->uid)) {
        close(fd);
        errno = EPERM;
        return -1;
    }
    return fd;
}

static int copy_backing(const struct job *job, const char *path, uint64_t attributes)
{
    setfsgid(job->caller->gid);
    setfsuid(job->caller->uid);
    OWNED_FD directory = open_backing(job, view_backing(path));
    int error = errno;
    setfsuid(0);
    setfsgid(0);
    errno = error;
    int tree = directory < 0 ? -1 : tree_copy(directory, "");
    return tree >= 0 && tree_set(tree, attributes) != 0 ? -1 : tree;
}

static int new_sized(const struct job *job, uint64_t bytes, uint64_t attributes)
{
    char size[32], uid[16], gid[16];
    snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
    snprintf(uid, sizeof uid, "%u", (unsigned)job->caller->uid);
    snprintf(gid, sizeof gid, "%u", (unsigned)job->caller->gid);
    const struct tree_option options[] = { { "mode", "0700" }, { "size", size }, { "uid", uid },
                                           { "gid", gid },     { 0 } };
    return tree_new("tmpfs", options, attributes);
}

static int step_tmp(struct view *view)
{
    const struct job *job = view->job;
    const uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    uint64_t size = policy_number(job->policy, POLICY_TMP_SIZE, 0);
    const struct record *directory = NULL;
    while ((directory = next(view, POLICY_PRIVATE, directory)) != NULL) {
        view->object = directory->field[0];
        OWNED_FD tree = size > 0 ? new_sized(job, size, attributes)
                                 : copy_backing(job, directory->field[0], attributes);
        if (place(view, tree, directory->field[0]) != 0)
            return -1;
    }
    return 0;
}

static bool is_missing(const struct view *view, const char *path)
{
    OWNED_FD target = tree_target(view->root, path);
    return target < 0 && errno == ENOENT;
}

/* Covers EXECUTE with a directory that holds nothing but this job's sandbox. */
static int cover_execute(struct view *view, const char *execute, bool own)
{
    const struct tree_option options[] = { { "mode", "0755" }, { "size", "64k" }, { 0 } };
    OWNED_FD cover = tree_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    view->object = execute;
    if (cover < 0 || (own && mkdirat(cover, view->job->sandbox_name, 0755) != 0) ||
        tree_set(cover, MOUNT_ATTR_RDONLY) != 0 || place(view, cover, execute) != 0)
        return -1;
    if (!own)
        return 0;
    char path[FIELD_BYTES_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", execute, view->job->sandbox_name);
    int result = place(view, view->sandbox, path);
    view->object = execute;
    return result;
}

static int step_sandboxes(struct view *view)
{
    const struct record *execute = NULL;
    while ((execute = next(view, POLICY_EXECUTE, execute)) != NULL) {
        bool own = strcmp(execute->field[0], view->job->execute) == 0;
        if (!own && is_missing(view, execute->field[0]))
            continue;
        if (cover_execute(view, execute->field[0], own) != 0)
            return -1;
    }
    return 0;
}

static int step_hide(struct view *view)
{
    const struct tree_option options[] = { { "mode", "0555" }, { "size", "64k" }, { 0 } };
    OWNED_FD empty = tree_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    OWNED_FD file = empty < 0 ? -1 : openat(empty, "empty", O_CREAT | O_EXCL | O_CLOEXEC, 0);
    OWNED_FD inner = file < 0 || mkdirat(empty, "directory", 0555) != 0
                         ? -1 : tree_copy(empty, "directory");
    OWNED_FD blank = inner < 0 ? -1 : tree_copy(empty, "empty");
    view->object = "tmpfs";
    if (blank < 0 || tree_set(inner, MOUNT_ATTR_RDONLY) || tree_set(blank, MOUNT_ATTR_RDONLY))
        return -1;
    const struct record *hidden = NULL;
    while ((hidden = next(view, POLICY_HIDE, hidden)) != NULL) {
        struct stat status;
        view->object = hidden->field[0];
        OWNED_FD target = tree_target(view->root, hidden->field[0]);
        if (target < 0 && errno == ENOENT)
            continue;
        if (target < 0 || fstat(target, &status) != 0)
            return -1;
        OWNED_FD cover = tree_copy(S_ISDIR(status.st_mode) ? inner : blank, "");
        if (cover < 0 || tree_place(cover, target) != 0)
            return -1;
    }
    return 0;
}

static int step_read_only(struct view *view)
{
    const struct record *path = NULL;
    while ((path = next(view, POLICY_READ_ONLY, path)) != NULL) {
        view->object = path->field[0];
        OWNED_FD target = tree_target(view->root, path->field[0]);
        if (target < 0 && errno == ENOENT)
            continue;
        OWNED_FD tree = target < 0 ? -1 : tree_copy(target, "");
        if (tree < 0 || tree_set(tree, MOUNT_ATTR_RDONLY) != 0 || tree_place(tree, target) != 0)
            return -1;
    }
    return 0;
}

static void run_step(struct view *view, enum control control, int (*step)(struct view *))
{
    int result = step(view);
    if (result < 0 && errno == ENOENT && view->job->policy->modes[control] == MODE_REQUIRE)
        die(MSG_MOUNT_POINT, "%s: %s is missing in %s", control_name(control), view->object,
            view->job->root == NULL ? "the machine's root" : view->job->root->field[1]);
    job_control(view->job, control, result, view->object);
}

static void place_parts(struct view *view)
{
    for (size_t i = 0; i < view->part_count; i++) {
        if (place(view, view->parts[i].tree, view->parts[i].target) != 0)
            die_errno(MSG_MOUNT_POINT, "mount on %s in %s", view->object,
                      view->job->root == NULL ? "the machine's root" : view->job->root->field[1]);
        close(view->parts[i].tree);
    }
    free(view->parts);
}

static void place_dev(struct view *view)
{
    if (place(view, view->dev, "/dev") != 0)
        die_errno(MSG_MOUNT_POINT, "mount on /dev");
}

static void enter_root(struct view *view)
{
    if (view->job->root == NULL) {
        if (chdir("/") != 0)
            die_errno(MSG_CHROOT, "chdir /");
        return;
    }
    if (fchdir(view->root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
        umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
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
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
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
