/* A stand-in for condor_starter that times what it starts.
 *
 * It reads requests from its standard input, one a line, fields separated by tabs:
 *
 *   set NAME=VALUE               goes into the environment of what is started
 *   user UID GID                 ... is its user
 *   groups GID...                ... its supplementary groups
 *   enter FILE...                ... its cgroups: each cgroup.procs that its pid is written to
 *   directory PATH               ... its working directory
 *   input PATH                   ... its standard input
 *   run PROGRAM ARGUMENT...      starts it, waits for its end and answers with one line:
 *                                FIRST END CPU STATUS
 *
 * FIRST and END are nanoseconds between this side of execve() and the first instruction of
 * job.c (0: it was not that which ran), or the return of waitpid(); CPU is the user and system
 * time in microseconds of all processes, also of those that outlived the one that was started:
 * no answer comes before they have ended.  What is started sees as its parent a program with real
 * uid 0, as a job of HTCondor does.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIELDS_MAX 8192
#define FEW_MAX 16
#define NOT_STARTED 127

static struct {
    uid_t uid;
    gid_t gid;
    gid_t groups[FEW_MAX];
    size_t group_count;
    char *cgroups[FEW_MAX];
    size_t cgroup_count;
    char *directory, *input;
} how;

/* Written by the child right before execve(). */
static struct timespec *start;

static int64_t since_start(const struct timespec *end)
{
    return (int64_t)(end->tv_sec - start->tv_sec) * 1000000000 + (end->tv_nsec - start->tv_nsec);
}

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "spawn: %s: %s\n", what, strerror(errno));
    _exit(NOT_STARTED);
}

static char *keep(const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL)
        fail("strdup");
    return copy;
}

static void enter_cgroups(void)
{
    for (size_t i = 0; i < how.cgroup_count; i++) {
        int fd = open(how.cgroups[i], O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
            fail(how.cgroups[i]);
        close(fd);
    }
}

_Noreturn static void become(char **command, int output)
{
    enter_cgroups();
    setsid();
    int input = open(how.input == NULL ? "/dev/null" : how.input, O_RDONLY);
    if (input < 0 || dup2(input, 0) != 0 || dup2(output, 1) != 1)
        fail(how.input == NULL ? "/dev/null" : how.input);
    close(input);
    close(output);
    if (setgroups(how.group_count, how.groups) != 0 ||
        setresgid(how.gid, how.gid, how.gid) != 0 || setresuid(how.uid, how.uid, how.uid) != 0)
        fail("take the user's ids");
    if (how.directory != NULL && chdir(how.directory) != 0)
        fail(how.directory);
    clock_gettime(CLOCK_MONOTONIC, start);
    execv(command[0], command);
    fail(command[0]);
}

static int64_t microseconds(const struct rusage *usage)
{
    return (int64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 +
           usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
}

static void run(char **command)
{
    struct timespec first = { 0 }, end;
    struct rusage before, after;
    int ends[2], status;
    getrusage(RUSAGE_CHILDREN, &before);
    if (pipe2(ends, O_CLOEXEC) != 0)
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0)
        become(command, ends[1]);
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
    clock_gettime(CLOCK_MONOTONIC, &end);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    getrusage(RUSAGE_CHILDREN, &after);
    close(ends[1]);
    ssize_t got = read(ends[0], &first, sizeof first);
    close(ends[0]);
    printf("%lld %lld %lld %d\n", got == sizeof first ? (long long)since_start(&first) : 0,
           (long long)since_start(&end), (long long)(microseconds(&after) - microseconds(&before)),
           status);
    fflush(stdout);
}

static void set_few(char **fields, size_t count)
{
    if (count > FEW_MAX) {
        errno = E2BIG;
        fail("too many fields");
    }
    if (strcmp(fields[0], "groups") == 0) {
        how.group_count = 0;
        for (size_t i = 1; i < count; i++)
            how.groups[how.group_count++] = (gid_t)strtoul(fields[i], NULL, 10);
    } else {
        while (how.cgroup_count > 0)
            free(how.cgroups[--how.cgroup_count]);
        for (size_t i = 1; i < count; i++)
            how.cgroups[how.cgroup_count++] = keep(fields[i]);
    }
}

static void set_path(char **place, const char *path)
{
    free(*place);
    *place = path == NULL ? NULL : keep(path);
}

static void obey(char **fields, size_t count)
{
    const char *verb = fields[0];
    if (strcmp(verb, "run") == 0 && count > 1) {
        run(fields + 1);
    } else if (strcmp(verb, "set") == 0 && count == 2) {
        putenv(keep(fields[1]));
    } else if (strcmp(verb, "user") == 0 && count == 3) {
        how.uid = (uid_t)strtoul(fields[1], NULL, 10);
        how.gid = (gid_t)strtoul(fields[2], NULL, 10);
    } else if (strcmp(verb, "groups") == 0 || strcmp(verb, "enter") == 0) {
        set_few(fields, count);
    } else if (strcmp(verb, "directory") == 0) {
        set_path(&how.directory, fields[1]);
    } else if (strcmp(verb, "input") == 0) {
        set_path(&how.input, fields[1]);
    } else {
        errno = EINVAL;
        fail(verb);
    }
}

int main(void)
{
    static char *fields[FIELDS_MAX + 1];
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    start = mmap(NULL, sizeof *start, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        fail("mmap");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        fail("become the reaper of orphans");
    signal(SIGPIPE, SIG_DFL);
    while ((length = getline(&line, &room, stdin)) > 0) {
        size_t count = 0;
        line[length - 1] = '\0';
        for (char *field = strtok(line, "\t"); field != NULL; field = strtok(NULL, "\t"))
            if (count < FIELDS_MAX)
                fields[count++] = field;
        fields[count] = NULL;
        if (count > 0)
            obey(fields, count);
    }
    return 0;
}
