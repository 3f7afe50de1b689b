/* MUST: make and open directories in the scratch directory with the job's rights only.
 * MUST NOT: follow a link that the job made.
 */
#include <stdio.h>
#include <sys/fsuid.h>

#include "die.h"
#include "view_steps.h"

/* Makes PATH below the scratch directory with the job's rights and opens it.  What is there may
 * be the job's work of an earlier start: a link, or somebody else's directory, is refused. */
static int open_backing(const struct job *job, const char *path)
{
    struct stat status;
    int fd = tree_make_directories(job->scratch, path, 0700);
    if (fd >= 0 && (fstat(fd, &status) != 0 || status.st_uid != job->caller->uid)) {
        close(fd);
        errno = EPERM;
        return -1;
    }
    return fd;
}

/* Path below the scratch directory that backs the private directory PATH, as HTCondor has it. */
static const char *backing(const char *path) { return path + 1; }

static int copy_backing(const struct job *job, const char *path, uint64_t attributes)
{
    setfsgid(job->caller->gid);
    setfsuid(job->caller->uid);
    OWNED_FD directory = open_backing(job, backing(path));
    int error = errno;
    setfsuid(0);
    setfsgid(0);
    errno = error;
    /* Whatever stands in the way is the job's own: it must not stop the machine. */
    if (directory < 0)
        die_errno(MSG_SCRATCH, "make %s in the scratch directory", backing(path));
    int tree = tree_copy(directory, "");
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

int step_tmp(struct view *view)
{
    const struct job *job = view->job;
    const uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    uint64_t size = policy_number(job->policy, POLICY_TMP_SIZE, 0);
    const struct record *directory = NULL;
    while ((directory = view_next(view, POLICY_PRIVATE, directory)) != NULL) {
        view->object = directory->field[0];
        OWNED_FD tree = size > 0 ? new_sized(job, size, attributes)
                                 : copy_backing(job, directory->field[0], attributes);
        if (view_place(view, tree, directory->field[0]) != 0)
            return -1;
    }
    return 0;
}
