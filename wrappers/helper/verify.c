/* MUST: look at the result by the paths that the job will use; die on any difference of a
 * control that is noted as in force.
 * MUST NOT: mend anything.
 */
#include "verify.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "die.h"

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

static void check_proc(const struct job *job)
{
    char self[32], expected[32];
    ssize_t length = readlink("/proc/self", self, sizeof self - 1);
    self[length < 0 ? 0 : length] = '\0';
    snprintf(expected, sizeof expected, "%d", (int)getpid());
    if (job->in_force[CONTROL_PID] && strcmp(self, expected) != 0)
        fail(CONTROL_PROC, "/proc", "shows another PID namespace");
}

static void check_shm(const struct job *job)
{
    struct statvfs status;
    uint64_t wanted = policy_number(job->policy, POLICY_SHM_SIZE, 0);
    check_flags(CONTROL_SHM, "/dev/shm", ST_NOSUID | ST_NODEV);
    /* The kernel rounds up to whole pages. */
    if (statvfs("/dev/shm", &status) != 0 || status.f_blocks == 0 ||
        status.f_blocks * status.f_frsize > wanted + status.f_frsize)
        fail(CONTROL_SHM, "/dev/shm", "has another size");
}

static void check_private(const struct job *job)
{
    const struct record *directory = NULL;
    while ((directory = records_next(&job->policy->records, POLICY_PRIVATE, directory)) != NULL) {
        struct stat inside;
        check_flags(CONTROL_TMP, directory->field[0], ST_NOSUID | ST_NODEV);
        if (stat(directory->field[0], &inside) != 0 || inside.st_uid != job->caller->uid)
            fail(CONTROL_TMP, directory->field[0], "is not the job's");
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
    snprintf(path, sizeof path, "%s/%s", job->execute, job->sandbox_name);
    if (job->in_force[CONTROL_NOSUID])
        check_flags(CONTROL_NOSUID, path, ST_NOSUID | ST_NODEV);
}

static void check_hidden(const struct job *job)
{
    const struct record *hidden = NULL;
    while ((hidden = records_next(&job->policy->records, POLICY_HIDE, hidden)) != NULL) {
        const char *path = hidden->field[0];
        struct stat status;
        if (job_is_private(job, path) || stat(path, &status) != 0)
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
        if (!job_is_private(job, path->field[0]) && access(path->field[0], F_OK) == 0)
            check_flags(CONTROL_READ_ONLY, path->field[0], ST_RDONLY);
}

static bool is_chroot(const struct job *job, const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && status.st_dev == job->root_status.st_dev &&
           status.st_ino == job->root_status.st_ino;
}

static void check_root(const struct job *job)
{
    if (job->in_force[CONTROL_NOSUID])
        check_flags(CONTROL_NOSUID, "/", ST_NOSUID | ST_NODEV);
    if (job->root != NULL && job->root->number[2] == ACCESS_RO)
        check_flags(CONTROL_READ_ONLY, "/", ST_RDONLY);
    if (job->root != NULL && !is_chroot(job, "/"))
        die(MSG_READ_BACK, "the root is not the chroot %s", job->root->field[0]);
    /* ".." of the root leads to what is mounted on the root: the machine's, were it still there. */
    if (job->root != NULL && !is_chroot(job, "/.."))
        die(MSG_READ_BACK, "the machine's root is still mounted");
}

static void check_sys(const struct job *job)
{
    (void)job;
    check_flags(CONTROL_SYS, "/sys", ST_RDONLY);
}

static const struct {
    enum control control;
    void (*check)(const struct job *);
} checks[] = {
    { CONTROL_PROC, check_proc },           { CONTROL_SYS, check_sys },
    { CONTROL_SHM, check_shm },             { CONTROL_TMP, check_private },
    { CONTROL_SANDBOXES, check_sandboxes }, { CONTROL_HIDE, check_hidden },
    { CONTROL_READ_ONLY, check_read_only },
};

static void check_placed(const struct job *job)
{
    for (size_t i = 0; i < job->placed_count; i++) {
        const struct placed *placed = &job->placed[i];
        struct stat inside;
        if (stat(placed->path, &inside) != 0 || inside.st_dev != placed->device ||
            inside.st_ino != placed->inode)
            die(MSG_READ_BACK, "%s is not what was mounted there", placed->path);
    }
}

void verify_view(const struct job *job)
{
    check_placed(job);
    check_root(job);
    for (size_t i = 0; i < LENGTH(checks); i++)
        if (job->in_force[checks[i].control])
            checks[i].check(job);
}
