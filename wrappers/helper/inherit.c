/* MUST: leave only descriptors 0-2; take the environment as data only.
 * MUST NOT: call getenv, believe a path, or act on anything of the caller's.
 */
#include "inherit.h"

#include <linux/magic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>

#include "die.h"

/* ARG_MAX is at most 3/4 of an 8 MiB stack; anything larger is no environment of the kernel's. */
#define ENVIRONMENT_BYTES_MAX (8u << 20)
#define FILES_MAX 65536 /* 1,024 binds and 4,096 chroots need far fewer */
#define FIRST_SIGNAL 1

static void open_standard_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
        if (fd < 0)
            _exit(126); /* there is nowhere to tell it */
    } while (fd <= 2);
    /* Anything else that the caller left open could be a directory outside the isolation. */
    if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
        for (int other = (int)sysconf(_SC_OPEN_MAX); other > 2; other--)
            close(other);
}

static void check_proc(void)
{
    struct statfs status;
    if (statfs("/proc", &status) != 0 || status.f_type != PROC_SUPER_MAGIC)
        die(MSG_INHERITED, "/proc is no procfs");
}

static char *read_environment(size_t *size)
{
    OWNED_FD fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    size_t room = 1u << 16;
    char *text = malloc(room);
    *size = 0;
    while (fd >= 0 && text != NULL) {
        ssize_t got = read(fd, text + *size, room - 1 - *size);
        if (got == 0)
            return text;
        if (got < 0)
            break;
        *size += (size_t)got;
        if (*size == room - 1) {
            room *= 2;
            text = room > ENVIRONMENT_BYTES_MAX ? NULL : realloc(text, room);
        }
    }
    die_errno(MSG_INHERITED, "read the environment from /proc/self/environ");
}

static char **split_environment(char *text, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += text[i] == '\0';
    char **environment = calloc(count + 2, sizeof *environment);
    if (environment == NULL)
        die_errno(MSG_INHERITED, "keep the environment");
    text[size] = '\0';
    size_t used = 0;
    for (char *entry = text; entry < text + size; entry += strlen(entry) + 1)
        environment[used++] = entry;
    return environment;
}

static void keep_directory(struct inherited *inherited)
{
    static char path[FIELD_BYTES_MAX + 1];
    ssize_t length = readlink("/proc/self/cwd", path, sizeof path - 1);
    if (length <= 0 || path[0] != '/' || stat(".", &inherited->directory_status) != 0)
        return;
    path[length] = '\0';
    inherited->directory = path;
}

static void keep_signals(struct inherited *inherited)
{
    sigset_t all;
    sigemptyset(&inherited->ignored);
    for (int signal_number = FIRST_SIGNAL; signal_number <= SIGRTMAX; signal_number++) {
        struct sigaction action;
        if (sigaction(signal_number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            sigaddset(&inherited->ignored, signal_number);
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &inherited->mask);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would take our children's status away */
    signal(SIGPIPE, SIG_IGN);
}

static void stop_timers(void)
{
    const struct itimerval never = { 0 };
    setitimer(ITIMER_REAL, &never, NULL);
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    setitimer(ITIMER_PROF, &never, NULL);
}

void inherit(struct inherited *inherited, int argc, char **argv)
{
    prctl(PR_SET_DUMPABLE, 0);
    open_standard_descriptors();
    stop_timers();
    keep_signals(inherited);
    check_proc();
    size_t size;
    char *text = read_environment(&size);
    inherited->environment = split_environment(text, size);
    die_knows_environment(inherited->environment);
    inherited->umask = umask(022);
    keep_directory(inherited);
    for (unsigned i = 0; i < RLIM_NLIMITS; i++)
        if (getrlimit(i, &inherited->limits[i]) != 0)
            die_errno(MSG_INHERITED, "getrlimit %u", i);
    if (chdir("/") != 0)
        die_errno(MSG_INHERITED, "chdir /");
    inherited->command = argc > 2 ? argv + 2 : NULL;
}

void inherit_raise_limits(const struct inherited *inherited)
{
    /* NPROC is left alone: it is counted for the job's user, and our fork is one of them. */
    static const __rlimit_resource_t raised[] = { RLIMIT_FSIZE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_CPU,
                                                  RLIMIT_NOFILE };
    for (size_t i = 0; i < LENGTH(raised); i++) {
        const rlim_t most = raised[i] == RLIMIT_NOFILE ? FILES_MAX : RLIM_INFINITY;
        const struct rlimit endless = { most, most };
        const rlim_t hard = inherited->limits[raised[i]].rlim_max;
        const struct rlimit all_there_is = { hard, hard };
        /* A container may lack CAP_SYS_RESOURCE.  What is too little then fails by itself. */
        if (setrlimit(raised[i], &endless) != 0 && setrlimit(raised[i], &all_there_is) != 0)
            die_errno(MSG_INHERITED, "raise limit %d", (int)raised[i]);
    }
    const struct rlimit no_dump = { 0, inherited->limits[RLIMIT_CORE].rlim_max };
    if (setrlimit(RLIMIT_CORE, &no_dump) != 0)
        die_errno(MSG_INHERITED, "lower the limit of dumps");
}

void inherit_restore_limits(const struct inherited *inherited)
{
    for (unsigned i = 0; i < RLIM_NLIMITS; i++)
        if (setrlimit(i, &inherited->limits[i]) != 0)
            die_errno(MSG_INHERITED, "give back limit %u", i);
}

void inherit_restore_signals(const struct inherited *inherited)
{
    for (int signal_number = FIRST_SIGNAL; signal_number <= SIGRTMAX; signal_number++)
        signal(signal_number,
               sigismember(&inherited->ignored, signal_number) == 1 ? SIG_IGN : SIG_DFL);
    umask(inherited->umask);
    sigprocmask(SIG_SETMASK, &inherited->mask, NULL);
}
