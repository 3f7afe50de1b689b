/* MUST: look at the result by the paths that the job will use; die on any difference of a
 * control that is noted as in force.
 * MUST NOT: mend anything.
 */
#include "verify.h"

#include <dirent.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "die.h"
#include "view.h"

#define MQUEUE_MAGIC 0x19800202

static void fail(enum control control, const char *object, const char *difference)
{
    die(MSG_READ_BACK, "%s: %s %s", control_name(control), object, difference);
}

static void note_namespace(const char *name, struct stat *status)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    if (stat(path, status) != 0)
        die_errno(MSG_READ_BACK, "stat %s", path);
}

void verify_note_namespaces(struct namespaces *host)
{
    note_namespace("pid", &host->pid);
    note_namespace("mnt", &host->mnt);
    note_namespace("ipc", &host->ipc);
    note_namespace("uts", &host->uts);
    note_namespace("cgroup", &host->cgroup);
}

static void check_namespace(const struct job *job, enum control control, const struct stat *host,
                            const struct stat *own)
{
    if (job->in_force[control] && host->st_ino == own->st_ino)
        fail(control, "the namespace", "is the machine's");
}

void verify_namespaces(const struct job *job, const struct namespaces *host)
{
    struct namespaces own;
    verify_note_namespaces(&own);
    if (own.mnt.st_ino == host->mnt.st_ino)
        die(MSG_READ_BACK, "the mount namespace is the machine's");
    check_namespace(job, CONTROL_PID, &host->pid, &own.pid);
    check_namespace(job, CONTROL_IPC, &host->ipc, &own.ipc);
    check_namespace(job, CONTROL_UTS, &host->uts, &own.uts);
    check_namespace(job, CONTROL_CGROUP_NAMESPACE, &host->cgroup, &own.cgroup);
    if (job->in_force[CONTROL_PID] && getpid() != 1)
        fail(CONTROL_PID, "init", "is not pid 1");
}

static void check_flags(enum control control, const char *path, unsigned long wanted)
{
    struct statvfs status;
    if (statvfs(path, &status) != 0)
        die_errno(MSG_READ_BACK, "%s: statvfs %s", control_name(control), path);
    if ((status.f_flag & wanted) != wanted)
        fail(control, path, "lacks a mount flag");
}

static void check_type(enum control control, const char *path, long magic)
{
    struct statfs status;
    if (statfs(path, &status) != 0)
        die_errno(MSG_READ_BACK, "%s: statfs %s", control_name(control), path);
    if (status.f_type != magic)
        fail(control, path, "is of another filesystem");
}

static void check_proc(const struct job *job)
{
    char self[32], expected[32];
    ssize_t length = readlink("/proc/self", self, sizeof self - 1);
    self[length < 0 ? 0 : length] = '\0';
    snprintf(expected, sizeof expected, "%d", (int)getpid());
    check_type(CONTROL_PROC, "/proc", PROC_SUPER_MAGIC);
    if (job->in_force[CONTROL_PID] && strcmp(self, expected) != 0)
        fail(CONTROL_PROC, "/proc", "shows another PID namespace");
}

static void check_shm(const struct job *job)
{
    struct statvfs status;
    uint64_t wanted = policy_number(job->policy, POLICY_SHM_SIZE, 0);
    check_type(CONTROL_SHM, "/dev/shm", TMPFS_MAGIC);
    check_flags(CONTROL_SHM, "/dev/shm", ST_NOSUID | ST_NODEV);
    /* The kernel rounds up to whole pages. */
    if (statvfs("/dev/shm", &status) != 0 || status.f_blocks == 0 ||
        status.f_blocks * status.f_frsize > wanted + status.f_frsize)
        fail(CONTROL_SHM, "/dev/shm", "has another size");
}

/* Each private directory is the one of this scratch directory, or a filesystem of its own. */
static void check_private(const struct job *job)
{
    const struct record *directory = NULL;
    bool sized = policy_number(job->policy, POLICY_TMP_SIZE, 0) > 0;
    while ((directory = records_next(&job->policy->records, POLICY_PRIVATE, directory)) != NULL) {
        const char *path = directory->field[0];
        struct stat inside, backing;
        check_flags(CONTROL_TMP, path, ST_NOSUID | ST_NODEV);
        if (stat(path, &inside) != 0 || inside.st_uid != job->caller->uid)
            fail(CONTROL_TMP, path, "is not the job's");
        if (sized)
            check_type(CONTROL_TMP, path, TMPFS_MAGIC);
        else if (fstatat(job->scratch, view_backing(path), &backing, AT_SYMLINK_NOFOLLOW) != 0 ||
                 backing.st_dev != inside.st_dev || backing.st_ino != inside.st_ino)
            fail(CONTROL_TMP, path, "is not the one in the scratch directory");
    }
}

/* Returns whether PATH is a directory that holds nothing but the first part of NAME, a relative
 * path (NULL: nothing at all). */
static bool holds_only(const char *path, const char *name)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return false;
    bool only = true;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            only = only && name != NULL && strlen(entry->d_name) == strcspn(name, "/") &&
                   strncmp(entry->d_name, name, strcspn(name, "/")) == 0;
    closedir(directory);
    return only;
}

static void check_sandboxes(const struct job *job)
{
    const struct record *execute = NULL;
    while ((execute = records_next(&job->policy->records, POLICY_EXECUTE, execute)) != NULL) {
        const char *path = execute->field[0];
        bool own = strcmp(path, job->execute) == 0;
        if (!own && access(path, F_OK) != 0)
            continue;
        if (!holds_only(path, own ? job->sandbox_name : NULL))
            fail(CONTROL_SANDBOXES, path, "shows another sandbox");
        check_flags(CONTROL_SANDBOXES, path, ST_RDONLY);
    }
    static char path[FIELD_BYTES_MAX + 64];
    struct stat inside, sandbox;
    snprintf(path, sizeof path, "%s/%s", job->execute, job->sandbox_name);
    if (stat(path, &inside) != 0 || fstat(job->sandbox, &sandbox) != 0 ||
        inside.st_dev != sandbox.st_dev || inside.st_ino != sandbox.st_ino)
        fail(CONTROL_SANDBOXES, path, "is not the job's sandbox");
    if (job->in_force[CONTROL_NOSUID])
        check_flags(CONTROL_NOSUID, path, ST_NOSUID | ST_NODEV);
}

static void check_hidden(const struct job *job)
{
    const struct record *hidden = NULL;
    while ((hidden = records_next(&job->policy->records, POLICY_HIDE, hidden)) != NULL) {
        const char *path = hidden->field[0];
        struct stat status;
        if (stat(path, &status) != 0)
            continue;
        check_flags(CONTROL_HIDE, path, ST_RDONLY | ST_NOSUID | ST_NODEV);
        if (S_ISDIR(status.st_mode) ? !holds_only(path, job_execute_below(job, path))
                                    : status.st_size != 0)
            fail(CONTROL_HIDE, path, "is not empty");
    }
}

static void check_read_only(const struct job *job)
{
    const struct record *path = NULL;
    while ((path = records_next(&job->policy->records, POLICY_READ_ONLY, path)) != NULL)
        if (access(path->field[0], F_OK) == 0)
            check_flags(CONTROL_READ_ONLY, path->field[0], ST_RDONLY);
}

static void check_root(const struct job *job)
{
    if (job->in_force[CONTROL_NOSUID])
        check_flags(CONTROL_NOSUID, "/", ST_NOSUID | ST_NODEV);
    if (job->root != NULL && job->root->number[2] == ACCESS_RO)
        check_flags(CONTROL_READ_ONLY, "/", ST_RDONLY);
    struct stat inside;
    if (job->root != NULL && (stat("/", &inside) != 0 || inside.st_dev != job->root_status.st_dev ||
                              inside.st_ino != job->root_status.st_ino))
        die(MSG_READ_BACK, "the root is not the chroot %s", job->root->field[0]);
}

static void check_sys(const struct job *job)
{
    (void)job;
    check_flags(CONTROL_SYS, "/sys", ST_RDONLY);
}

static void check_mqueue(const struct job *job)
{
    (void)job;
    if (access("/dev/mqueue", F_OK) == 0)
        check_type(CONTROL_MQUEUE, "/dev/mqueue", MQUEUE_MAGIC);
}

static void check_pts(const struct job *job)
{
    (void)job;
    check_type(CONTROL_PTS, "/dev/pts", DEVPTS_SUPER_MAGIC);
    if (!holds_only("/dev/pts", "ptmx"))
        fail(CONTROL_PTS, "/dev/pts", "shows another terminal");
}

static const struct {
    enum control control;
    void (*check)(const struct job *);
} checks[] = {
    { CONTROL_PROC, check_proc },           { CONTROL_SYS, check_sys },
    { CONTROL_SHM, check_shm },             { CONTROL_MQUEUE, check_mqueue },
    { CONTROL_PTS, check_pts },             { CONTROL_TMP, check_private },
    { CONTROL_SANDBOXES, check_sandboxes }, { CONTROL_HIDE, check_hidden },
    { CONTROL_READ_ONLY, check_read_only },
};

void verify_view(const struct job *job)
{
    check_root(job);
    for (size_t i = 0; i < LENGTH(checks); i++)
        if (job->in_force[checks[i].control])
            checks[i].check(job);
}
