/* MUST: leave only descriptors 0-2; take the environment as data only.
 * MUST NOT: call getenv, believe a path, or act on anything of the caller's.
 */
#include "inherit.h"

#include <linux/magic.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>

#include "die.h"
#include "signals.h"

/* ARG_MAX is at most 3/4 of an 8 MiB stack; anything larger is no environment of the kernel's. */
#define ENVIRONMENT_BYTES_MAX (8u << 20)
#define SECURE_STACK ((rlim_t)8 << 20) /* _STK_LIM */
#define FILES_MAX 65536 /* 1,024 binds and 4,096 chroots need far fewer */

static void open_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            die_errno(MSG_INHERITED, "open /dev/null as descriptor %d", fd);
    /* Anything else that the caller left open could be a directory outside the isolation. */
    if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
        for (int other = (int)sysconf(_SC_OPEN_MAX); other > 2; other--)
            close(other);
}

static void keep_standard(struct standard *standard, int fd)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, standard->path, sizeof standard->path);
    standard->flags = fcntl(fd, F_GETFL);
    if (length < 0 && errno == ENAMETOOLONG)
        die(MSG_STDIO, "the path of descriptor %d is too long", fd);
    if (length <= 0 || standard->flags < 0 || fstat(fd, &standard->status) != 0)
        die_errno(MSG_INHERITED, "look at descriptor %d", fd);
    if ((size_t)length == sizeof standard->path)
        die(MSG_STDIO, "the path of descriptor %d is too long", fd);
    standard->path[standard->path[0] == '/' ? length : 0] = '\0';
}

/* A pipe that was opened, as /proc/PID/fd/N of another process can be, and not made by pipe(2):
 * the kernel marks whatever open(2) opened on a 64-bit machine. */
static bool is_own_pipe(const struct standard *standard)
{
    _Static_assert(O_LARGEFILE != 0, "the C library hides what the kernel marks");
    return S_ISSOCK(standard->status.st_mode) ||
           (S_ISFIFO(standard->status.st_mode) && (standard->flags & O_LARGEFILE) == 0);
}

static bool is_same(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* What is read-only for the job must not come along on the machine's writable mount, where
 * /proc/self/fd/N would open it for writing again. */
static bool reopen(int fd, const struct standard *standard)
{
    struct stat status;
    OWNED_FD inside = open(standard->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return inside >= 0 && fstat(inside, &status) == 0 && is_same(&status, &standard->status) &&
           dup2(inside, fd) == fd;
}

static bool is_visible(int fd, const struct standard *standard)
{
    struct stat inside;
    struct statvfs filesystem;
    if (lstat(standard->path, &inside) != 0 || !is_same(&inside, &standard->status) ||
        statvfs(standard->path, &filesystem) != 0)
        return false;
    if ((filesystem.f_flag & ST_RDONLY) == 0 || !S_ISREG(inside.st_mode))
        return true;
    return (standard->flags & O_ACCMODE) == O_RDONLY && reopen(fd, standard);
}

void inherit_verify_standard(const struct inherited *inherited)
{
    for (int fd = 0; fd <= 2; fd++) {
        const struct standard *standard = &inherited->standard[fd];
        const struct stat *status = &standard->status;
        if (S_ISDIR(status->st_mode) || (standard->flags & O_PATH) != 0)
            die(MSG_STDIO, "descriptor %d is a directory, %s", fd, standard->path);
        if (S_ISCHR(status->st_mode) && status->st_rdev == makedev(5, 2))
            die(MSG_STDIO, "descriptor %d is a terminal of the machine's", fd);
        if (standard->path[0] == '\0' ? !is_own_pipe(standard) : !is_visible(fd, standard))
            die(MSG_STDIO, "descriptor %d, %s, is not there for the job", fd, standard->path);
    }
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
    for (int number = 1; number <= SIGNAL_LAST; number++)
        if (signal_is_ignored(number))
            inherited->ignored |= signal_bit(number);
    /* SIGCHLD ignored would take our children's status away. */
    if (signals_mask(SIG_SETMASK, SIGNALS_ALL, &inherited->mask) != 0 ||
        signal_set(SIGCHLD, SIG_DFL) != 0 || signal_set(SIGPIPE, SIG_IGN) != 0)
        die_errno(MSG_INHERITED, "block signals");
}

static void stop_timers(void)
{
    const struct itimerval never = { 0 };
    setitimer(ITIMER_REAL, &never, NULL);
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    setitimer(ITIMER_PROF, &never, NULL);
}

/* The kernel cuts the soft stack limit to 8 MiB for a privileged exec (setup_new_exec), before
 * we can read it.  HTCondor gives jobs the hard limit as soft one, and so do we. */
static void mend_stack_limit(struct rlimit *limit)
{
    if (limit->rlim_cur == SECURE_STACK && limit->rlim_max > limit->rlim_cur)
        limit->rlim_cur = limit->rlim_max;
}

/* NPROC is left alone: it is counted for the job's user, and our fork is one of them. */
void inherit_limits(struct inherited *inherited)
{
    static const int raised[] = { RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_FSIZE,
                                                  RLIMIT_AS,     RLIMIT_DATA,  RLIMIT_CPU };
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (getrlimit(i, &inherited->limits[i]) != 0)
            die_errno(MSG_INHERITED, "getrlimit %d", i);
    for (size_t i = 0; i < LENGTH(raised); i++) {
        const rlim_t most = raised[i] == RLIMIT_NOFILE ? FILES_MAX : RLIM_INFINITY;
        const rlim_t hard = inherited->limits[raised[i]].rlim_max;
        const struct rlimit endless = { most, hard > most ? hard : most };
        const struct rlimit all_there_is = { hard, hard };
        /* A container may lack CAP_SYS_RESOURCE.  What is too little then fails by itself. */
        if (setrlimit(raised[i], &endless) != 0 && setrlimit(raised[i], &all_there_is) != 0)
            die_errno(MSG_INHERITED, "raise limit %d", raised[i]);
    }
    const struct rlimit no_dump = { 0, inherited->limits[RLIMIT_CORE].rlim_max };
    if (setrlimit(RLIMIT_CORE, &no_dump) != 0)
        die_errno(MSG_INHERITED, "lower the limit of dumps");
    mend_stack_limit(&inherited->limits[RLIMIT_STACK]);
}

void inherit(struct inherited *inherited, int argc, char **argv)
{
    open_standard_descriptors();
    stop_timers();
    keep_signals(inherited);
    check_proc();
    for (int fd = 0; fd <= 2; fd++)
        keep_standard(&inherited->standard[fd], fd);
    size_t size;
    char *text = read_environment(&size);
    inherited->environment = split_environment(text, size);
    inherited->umask = umask(022);
    keep_directory(inherited);
    if (chdir("/") != 0)
        die_errno(MSG_INHERITED, "chdir /");
    inherited->command = argc > 2 ? argv + 2 : NULL;
}

void inherit_restore_limits(const struct inherited *inherited)
{
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (setrlimit(i, &inherited->limits[i]) != 0)
            die_errno(MSG_INHERITED, "give back limit %d", i);
}

void inherit_restore_signals(const struct inherited *inherited)
{
    const int changed[] = { SIGCHLD, SIGPIPE };
    for (size_t i = 0; i < LENGTH(changed); i++)
        if (signal_set(changed[i],
                       inherited->ignored & signal_bit(changed[i]) ? SIG_IGN : SIG_DFL) != 0)
            die_errno(MSG_INHERITED, "give back signal %d", changed[i]);
    umask(inherited->umask);
    if (signals_mask(SIG_SETMASK, inherited->mask, NULL) != 0)
        die_errno(MSG_INHERITED, "give back the signal mask");
}
