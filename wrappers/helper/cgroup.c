/* MUST: write only to the cgroup that this process is in and HTCondor's limits are on; accept
 * what the kernel made of a value only if it is not looser.
 * MUST NOT: loosen a limit that is there already.
 */
#include "cgroup.h"

#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>

#include "die.h"

#define CGROUPS "/sys/fs/cgroup"
#define MEMBERSHIP_MAX 8192 /* a dozen hierarchies at most */
#define CPU_PERIOD 100000u /* microseconds: the kernel's default (cgroup-v2.rst, cpu.max) */

/* File of each limit.  NULL: this version has nothing that means the same.  Version 1 has no
 * pids here, because HTCondor puts jobs into no group of that hierarchy. */
static const struct {
    const char *v1_controller, *v1, *v2;
    bool may_rise; /* a protection, not a ceiling: what is there already does not bound it */
} interfaces[LIMIT_COUNT] = {
    [LIMIT_MEMORY_MAX] = { "memory", "memory.limit_in_bytes", "memory.max", false },
    [LIMIT_MEMORY_HIGH] = { NULL, NULL, "memory.high", false },
    [LIMIT_MEMORY_LOW] = { NULL, NULL, "memory.low", true },
    [LIMIT_SWAP_MAX] = { NULL, NULL, "memory.swap.max", false },
    [LIMIT_PIDS_MAX] = { NULL, NULL, "pids.max", false },
    [LIMIT_CPU_MAX] = { "cpu", "cpu.cfs_quota_us", "cpu.max", false },
    [LIMIT_CPU_WEIGHT] = { NULL, NULL, "cpu.weight", false },
};

static bool lists(const char *controllers, const char *controller)
{
    size_t length = strlen(controller);
    for (const char *item = controllers; item != NULL; item = strchr(item, ',')) {
        item += *item == ',';
        if (strncmp(item, controller, length) == 0 && strchr(",", item[length]) != NULL)
            return true;
    }
    return false;
}

/* Reads /proc/PROCESS/cgroup ("self" or a pid) once. */
static void read_membership(const char *process, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/cgroup", process);
    OWNED_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    text[length < 0 ? 0 : length] = '\0';
}

/* Puts the group for CONTROLLER ("": version 2) into PATH, as a directory below CGROUPS.  Lines
 * of MEMBERSHIP are ID:CONTROLLERS:PATH (cgroups(7)). */
static bool find_group(const char *membership, const char *controller, char *path, size_t size)
{
    const char *next;
    for (const char *line = membership; *line != '\0'; line = next) {
        char controllers[128];
        next = line + strcspn(line, "\n");
        next += *next == '\n';
        const char *list = strchr(line, ':');
        const char *group = list == NULL ? NULL : strchr(list + 1, ':');
        if (group == NULL)
            return false;
        snprintf(controllers, sizeof controllers, "%.*s", (int)(group - list - 1), list + 1);
        if (*controller == '\0' ? *controllers != '\0' : !lists(controllers, controller))
            continue;
        int length = snprintf(path, size, "%s%s%s%.*s", CGROUPS, *controllers ? "/" : "",
                              controllers, (int)strcspn(group + 1, "\n"), group + 1);
        return length > 0 && (size_t)length < size && strstr(path, "/..") == NULL;
    }
    return false;
}

/* Since HTCondor 24.8 its limits are on X.slice, and the process is in X.slice/X.scope, out of
 * which the job may move itself (design.md, fact 8). */
static void leave_scope(char *path)
{
    char *scope = strrchr(path, '/');
    size_t length = strlen(path);
    if (scope != NULL && length > 6 && strcmp(path + length - 6, ".scope") == 0)
        *scope = '\0';
}

/* Opens the group that is this job's alone, or fails: limits must not fall on the daemons. */
static int open_group(const struct job *job, const char *controller)
{
    static char own_text[MEMBERSHIP_MAX], other_text[MEMBERSHIP_MAX];
    static char own[FIELD_BYTES_MAX], other[FIELD_BYTES_MAX];
    char starter[16];
    struct statfs status;
    if (own_text[0] == '\0') {
        snprintf(starter, sizeof starter, "%d", (int)job->caller->starter);
        read_membership("self", own_text, sizeof own_text);
        read_membership(starter, other_text, sizeof other_text);
    }
    if (!find_group(own_text, controller, own, sizeof own) ||
        !find_group(other_text, controller, other, sizeof other))
        return -1;
    leave_scope(own);
    size_t length = strlen(own);
    bool shared = own[length - 1] == '/' || /* the root */
                  (strncmp(own, other, length) == 0 && strchr("/", other[length]) != NULL);
    int group = shared ? -1 : open(own, O_PATH | O_DIRECTORY | O_CLOEXEC);
    long magic = *controller == '\0' ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC;
    if (group >= 0 && (fstatfs(group, &status) != 0 || (long)status.f_type != magic)) {
        close(group);
        group = -1;
    }
    return group;
}

/* Reads the first number of FILE; "max" and -1 are no limit. */
static bool read_value(int group, const char *file, uint64_t *value)
{
    char text[64];
    OWNED_FD fd = openat(group, file, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length <= 0)
        return false;
    text[length] = '\0';
    *value = text[0] == 'm' || text[0] == '-' ? UINT64_MAX : strtoull(text, NULL, 10);
    return true;
}

static bool write_value(int group, const char *file, const char *text)
{
    OWNED_FD fd = openat(group, file, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static int put(int group, enum limit limit, bool unified, uint64_t wanted)
{
    const char *file = unified ? interfaces[limit].v2 : interfaces[limit].v1;
    uint64_t present, value = limit == LIMIT_CPU_MAX ? wanted * (CPU_PERIOD / 1000) : wanted;
    char text[64];
    if (!read_value(group, file, &present))
        return -1;
    if (present <= value && !interfaces[limit].may_rise)
        return 0;
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    if (!write_value(group, file, text) || !read_value(group, file, &present))
        return -1;
    if (present > value)
        die(MSG_READ_BACK, "limits: %s of %llu became %llu", limit_name(limit),
            (unsigned long long)value, (unsigned long long)present);
    return 0;
}

static int limit_one(const struct job *job, enum limit limit, bool unified)
{
    const char *controller = unified ? "" : interfaces[limit].v1_controller;
    errno = EOPNOTSUPP;
    OWNED_FD group = controller == NULL ? -1 : open_group(job, controller);
    return group < 0 ? -1 : put(group, limit, unified, job->limits[limit]);
}

/* A machine that cannot give what the job asks for beyond the policy is not at fault. */
static void miss(struct job *job, enum limit limit)
{
    if (job->asked[limit] && job->policy->modes[CONTROL_LIMITS] == MODE_REQUIRE)
        die_errno(MSG_LIMIT, "%s cannot be had here", limit_name(limit));
    job_control(job, CONTROL_LIMITS, -1, limit_name(limit));
}

static bool is_wanted(const struct job *job, enum limit limit)
{
    return job->limits[limit] != (interfaces[limit].may_rise ? 0 : UINT64_MAX);
}

void cgroup_limit(struct job *job)
{
    bool unified = access(CGROUPS "/cgroup.controllers", F_OK) == 0;
    for (enum limit limit = 0; limit < LIMIT_COUNT && job_wants(job, CONTROL_LIMITS); limit++)
        if (is_wanted(job, limit) && limit_one(job, limit, unified) != 0)
            miss(job, limit);
}
