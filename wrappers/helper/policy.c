/* MUST: check owner and mode of the file and of every parent on the descriptors it reads;
 * read once; refuse what it does not know.
 * MUST NOT: open a path twice or fall back to defaults.
 */
#include "policy.h"

#include <limits.h>
#include <stdio.h>

#include "die.h"

#define NOT_ROOTS_ALONE (S_IWGRP | S_IWOTH)

static void check_owner(int fd, const char *path, const char *end)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        die_errno(MSG_UNTRUSTED_PATH, "stat %.*s", (int)(end - path), path);
    /* A POSIX ACL that lets somebody write shows as write permission of the group. */
    if (status.st_uid != 0 || (status.st_mode & NOT_ROOTS_ALONE) != 0)
        die(MSG_UNTRUSTED_PATH, "%.*s belongs to uid %u and has mode %04o",
            end == path ? 1 : (int)(end - path), path, (unsigned)status.st_uid,
            (unsigned)(status.st_mode & 07777));
}

int open_trusted(const char *path, int flags)
{
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    check_owner(fd, path, path + 1);
    for (const char *part = path + 1; *part != '\0'; part += *part == '/') {
        char name[NAME_MAX + 1];
        size_t length = strcspn(part, "/");
        snprintf(name, sizeof name, "%.*s", (int)length, part);
        part += length;
        int how = *part == '\0' ? flags : O_PATH | O_DIRECTORY;
        int next = openat(fd, name, how | O_NOFOLLOW | O_CLOEXEC);
        int error = errno;
        close(fd);
        errno = error;
        fd = next;
        if (fd < 0)
            return -1;
        check_owner(fd, path, part);
    }
    return fd;
}

static void check_fresh(const struct policy *policy)
{
    const struct record *source = NULL;
    while ((source = records_next(&policy->records, POLICY_SOURCE, source)) != NULL) {
        struct stat status;
        if (stat(source->field[2], &status) != 0)
            die_errno(MSG_STALE_POLICY, "stat %s", source->field[2]);
        uint64_t mtime = (uint64_t)status.st_mtim.tv_sec * UINT64_C(1000000000) +
                         (uint64_t)status.st_mtim.tv_nsec;
        if (mtime != source->number[0] || (uint64_t)status.st_size != source->number[1])
            die(MSG_STALE_POLICY, "%s has changed", source->field[2]);
    }
}

static char *read_whole(int fd, size_t *size)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        die_errno(MSG_NO_POLICY, "stat %s", POLICY_PATH);
    if (!S_ISREG(status.st_mode) || status.st_size > POLICY_BYTES_MAX)
        die(MSG_BAD_POLICY, "%s is no regular file of at most %d bytes", POLICY_PATH,
            POLICY_BYTES_MAX);
    size_t room = (size_t)status.st_size;
    char *text = malloc(room + 1);
    ssize_t got = text == NULL ? -1 : pread(fd, text, room, 0);
    if (got < 0)
        die_errno(MSG_NO_POLICY, "read %s", POLICY_PATH);
    *size = (size_t)got;
    return text;
}

static void read_modes(struct policy *policy)
{
    const struct record *mode = NULL;
    bool told[CONTROL_COUNT] = { false };
    while ((mode = records_next(&policy->records, POLICY_MODE, mode)) != NULL) {
        policy->modes[mode->number[0]] = (enum mode)mode->number[1];
        told[mode->number[0]] = true;
    }
    for (size_t i = 0; i < CONTROL_COUNT; i++)
        if (!told[i])
            die(MSG_BAD_POLICY, "%s has no mode for each control", POLICY_PATH);
}

void policy_load(struct policy *policy)
{
    size_t size, line;
    policy->fd = open_trusted(POLICY_PATH, O_RDONLY | O_NONBLOCK);
    if (policy->fd < 0)
        die_errno(MSG_NO_POLICY, "open %s", POLICY_PATH);
    char *text = read_whole(policy->fd, &size);
    const char *problem = records_read(&policy->records, RECORDS_POLICY, text, size, &line);
    if (problem == records_other_version)
        die(MSG_OTHER_VERSION, "%s %s", POLICY_PATH, problem);
    if (problem != NULL)
        die(MSG_BAD_POLICY, "%s line %zu %s", POLICY_PATH, line, problem);
    read_modes(policy);
    check_fresh(policy);
}

static bool is_starter(const struct policy *policy, const struct stat *program)
{
    const struct record *starter = NULL;
    while ((starter = records_next(&policy->records, POLICY_STARTER, starter)) != NULL) {
        struct stat status;
        if (stat(starter->field[0], &status) == 0 && status.st_dev == program->st_dev &&
            status.st_ino == program->st_ino)
            return true;
    }
    return false;
}

void policy_admit(const struct policy *policy, const struct caller *caller, int argc,
                  char *const *argv)
{
    if (!is_starter(policy, &caller->starter_program))
        die(MSG_NOT_STARTER, "the parent process %d is not %s", (int)caller->starter,
            policy_text(policy, POLICY_STARTER, 0));
    uint64_t least = policy_number(policy, POLICY_MIN_UID, UINT64_MAX);
    if (caller->uid == 0)
        die(MSG_UID, "the job's uid is 0");
    if (caller->uid < least)
        die(MSG_UID, "the job's uid %u is below %llu", (unsigned)caller->uid,
            (unsigned long long)least);
    if (argc < 3 ||
        strcmp(argv[1], policy_text(policy, POLICY_WRAPPER, 0)) != 0)
        die(MSG_ARGUMENTS, "the first argument is not %s, followed by a command",
            policy_text(policy, POLICY_WRAPPER, 0));
    const char *sshd = policy_text(policy, POLICY_SSHD, 0);
    bool isolates = policy_number(policy, POLICY_ENABLE, 1) != 0;
    if (isolates && sshd != NULL && strcmp(argv[2], sshd) == 0)
        die(MSG_SSHD, "%s is not started", sshd);
}

uint64_t policy_number(const struct policy *policy, enum policy_key key, uint64_t fallback)
{
    const struct record *record = records_next(&policy->records, key, NULL);
    return record == NULL ? fallback : record->number[0];
}

const char *policy_text(const struct policy *policy, enum policy_key key, size_t field)
{
    const struct record *record = records_next(&policy->records, key, NULL);
    return record == NULL ? NULL : record->field[field];
}
