/* MUST: refuse before any file is read; drop gid, groups, uid in an order that works; prove it.
 * MUST NOT: believe argv, the environment or /proc of another kernel namespace.
 */
#include "identity.h"

#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "die.h"

/* Inode of the initial user namespace, fixed by the kernel (PROC_USER_INIT_INO). */
#define INITIAL_USER_NAMESPACE 0xEFFFFFFDu

static bool parent_is_root(int process)
{
    static char text[4096];
    OWNED_FD fd = openat(process, "status", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length <= 0)
        die_errno(MSG_INHERITED, "read the status of the parent process");
    text[length] = '\0';
    unsigned real;
    const char *line = strstr(text, "\nUid:\t");
    return line != NULL && sscanf(line, "\nUid:\t%u", &real) == 1 && real == 0;
}

static void check_privileged(uid_t effective)
{
    struct stat namespace;
    if (effective != 0)
        die(MSG_NOT_PRIVILEGED, "the helper runs as uid %u", (unsigned)effective);
    if (stat("/proc/self/ns/user", &namespace) != 0)
        die_errno(MSG_NOT_PRIVILEGED, "stat /proc/self/ns/user");
    if (namespace.st_ino != INITIAL_USER_NAMESPACE)
        die(MSG_NOT_PRIVILEGED, "the helper runs in a user namespace");
}

static void keep_groups(struct caller *caller)
{
    int count = getgroups(0, NULL);
    if (count < 0)
        die_errno(MSG_INHERITED, "getgroups");
    caller->groups = calloc((size_t)count + 1, sizeof *caller->groups);
    if (caller->groups == NULL || getgroups(count, caller->groups) != count)
        die_errno(MSG_INHERITED, "getgroups");
    caller->group_count = (size_t)count;
}

static void check_parent(struct caller *caller)
{
    char path[32];
    caller->starter = getppid();
    snprintf(path, sizeof path, "/proc/%d", (int)caller->starter);
    OWNED_FD process = open(path, O_DIRECTORY | O_CLOEXEC);
    if (caller->starter == 0)
        die(MSG_NOT_STARTER, "the parent process is in another PID namespace "
                             "(set USE_PID_NAMESPACES = False)");
    if (process < 0)
        die_errno(MSG_INHERITED, "open %s", path);
    if (!parent_is_root(process)) {
        die_knows_no_starter();
        die(MSG_NOT_STARTER, "the parent process %d is no program of root's",
            (int)caller->starter);
    }
    if (geteuid() == 0 && (fstatat(process, "exe", &caller->starter_program, 0) != 0 ||
                           getppid() != caller->starter))
        die_errno(MSG_NOT_STARTER, "the parent process %d went away", (int)caller->starter);
}

void identify(struct caller *caller)
{
    uid_t effective, saved;
    gid_t effective_group, saved_group;
    if (getresuid(&caller->uid, &effective, &saved) != 0 ||
        getresgid(&caller->gid, &effective_group, &saved_group) != 0)
        die_errno(MSG_INHERITED, "getresuid");
    check_parent(caller);
    check_privileged(effective);
    prctl(PR_SET_DUMPABLE, 0);
    keep_groups(caller);
    /* From here to the drop no process of the same uid may signal or inspect us. */
    if (setgroups(0, NULL) != 0 || setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0)
        die_errno(MSG_NOT_PRIVILEGED, "become root");
    prctl(PR_SET_DUMPABLE, 0);
}

void empty_bounding_set(void)
{
    unsigned long capability = 0;
    while (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
        capability++;
    if (errno != EINVAL) /* beyond the last that this kernel knows */
        die_errno(MSG_DROP, "drop capability %lu from the bounding set", capability);
}

static void prove_ids(const struct caller *caller)
{
    uid_t uid[3];
    gid_t gid[3];
    if (getresuid(&uid[0], &uid[1], &uid[2]) != 0 || getresgid(&gid[0], &gid[1], &gid[2]) != 0)
        die_errno(MSG_DROP, "getresuid");
    for (int i = 0; i < 3; i++)
        if (uid[i] != caller->uid || gid[i] != caller->gid)
            die(MSG_DROP, "an id is not the job's after the drop");
    if (setuid(0) == 0 || seteuid(0) == 0 || (caller->gid != 0 && setegid(0) == 0))
        die(MSG_DROP, "root's id could be taken back after the drop");
    int count = getgroups(0, NULL);
    gid_t *groups = calloc(caller->group_count + 1, sizeof *groups);
    if (count != (int)caller->group_count || groups == NULL || getgroups(count, groups) != count ||
        memcmp(groups, caller->groups, caller->group_count * sizeof *groups) != 0)
        die(MSG_DROP, "the supplementary groups are not the job's after the drop");
    free(groups);
}

static void prove_no_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) != 0)
        die_errno(MSG_DROP, "capget");
    /* What is not permitted and inheritable cannot be ambient (capabilities(7)). */
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        if ((data[i].effective | data[i].permitted | data[i].inheritable) != 0)
            die(MSG_DROP, "a capability is left after the drop");
    for (unsigned long capability = 0;; capability++) {
        int present = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
        if (present < 0)
            return; /* beyond the last that this kernel knows */
        if (present != 0)
            die(MSG_DROP, "capability %lu is left after the drop", capability);
    }
}

void become_caller(const struct caller *caller)
{
    if (setgroups(caller->group_count, caller->groups) != 0 ||
        setresgid(caller->gid, caller->gid, caller->gid) != 0 ||
        setresuid(caller->uid, caller->uid, caller->uid) != 0)
        die_errno(MSG_DROP, "take the job's ids");
    prove_ids(caller);
}

void drop_for_good(const struct caller *caller, bool no_new_privs)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        die_errno(MSG_DROP, "clear the ambient capabilities");
    become_caller(caller);
    /* A new id makes a process dumpable again as fs.suid_dumpable says: never ours. */
    prctl(PR_SET_DUMPABLE, 0);
    die_give_up_mark();
    prove_no_capabilities();
    if (!no_new_privs)
        return;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        die_errno(MSG_DROP, "set no_new_privs");
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        die(MSG_DROP, "no_new_privs is not set after it was set");
}
