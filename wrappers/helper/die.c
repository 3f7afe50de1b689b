/* MUST: name what failed and the errno; write as the job's user only, but for the fault mark;
 * leave the job's stdout and stderr alone when a starter waits.
 * MUST NOT: return; write to a path of the job's with root's rights.
 */
#include "die.h"

#include <grp.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ERROR_FILE_VARIABLE "_CONDOR_WRAPPER_ERROR_FILE="

static int channel = -1;
static int mark_directory = -1;
static bool called_by_hand;
static uid_t user = (uid_t)-1;
static gid_t group = (gid_t)-1;
static char error_file[FIELD_BYTES_MAX + 1];

void die_through(int fd) { channel = fd; }

void die_knows_no_starter(void) { called_by_hand = true; }

void die_knows_user(uid_t uid, gid_t gid)
{
    user = uid;
    group = gid;
}

void die_knows_environment(char *const *environment)
{
    const size_t length = sizeof ERROR_FILE_VARIABLE - 1;
    for (; *environment != NULL; environment++)
        if (strncmp(*environment, ERROR_FILE_VARIABLE, length) == 0)
            snprintf(error_file, sizeof error_file, "%s", *environment + length);
}

void die_prepare_mark(void)
{
    if (mkdir(RUN_DIRECTORY, 0755) != 0 && errno != EEXIST)
        return; /* a machine without /run still runs jobs; it only stops matching later */
    mark_directory = open(RUN_DIRECTORY, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

void die_give_up_mark(void)
{
    close(mark_directory);
    mark_directory = -1;
}

void log_line(const char *line)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
    static char datagram[REPORT_BYTES_MAX + 64];
    /* 35 is facility daemon, severity error; the tag is fixed, so that no argv reaches the log */
    int length = snprintf(datagram, sizeof datagram, "<35>condor-isolation[%d]: uid %u: %s",
                          (int)getpid(), (unsigned)user, line);
    OWNED_FD fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && length > 0)
        sendto(fd, datagram, strlen(datagram), MSG_NOSIGNAL, (struct sockaddr *)&address,
               sizeof address);
}

static bool write_line(int fd, const char *line)
{
    size_t length = strlen(line);
    return write(fd, line, length) == (ssize_t)length && write(fd, "\n", 1) == 1;
}

/* The startd's cron job looks at this file: the machine stops matching at once. */
static void mark_machine(const char *line)
{
    if (geteuid() != 0 || mark_directory < 0)
        return;
    OWNED_FD fd = openat(mark_directory, "fault.new",
                         O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd >= 0 && fchmod(fd, 0644) == 0 && write_line(fd, line))
        renameat(mark_directory, "fault.new", mark_directory, "fault");
}

static void become_user(void)
{
    if ((geteuid() == 0 && setgroups(0, NULL) != 0) || user == (uid_t)-1 ||
        setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0)
        error_file[0] = '\0'; /* nothing of the job's is touched with another's rights */
}

/* The starter looks for the file as user condor, who may not enter the scratch directory
 * unless it is made traversable (design.md, fact 3). */
static bool write_error_file(const char *line)
{
    static char copy[sizeof error_file];
    struct stat status;
    memcpy(copy, error_file, sizeof copy);
    const char *scratch = dirname(copy);
    if (stat(scratch, &status) == 0)
        chmod(scratch, (status.st_mode | 0111) & 0777);
    if (unlink(error_file) != 0 && errno == EISDIR) {
        static char aside[sizeof error_file + 8];
        snprintf(aside, sizeof aside, "%s.old", error_file);
        rename(error_file, aside);
    }
    close(STDIN_FILENO); /* a job may have been left three descriptors */
    OWNED_FD fd = open(error_file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd >= 0) {
        fchmod(fd, 0644);
        write_line(fd, line); /* on a full disk the empty file still stops the completion */
        return true;
    }
    static char machine_ad[sizeof error_file + 16];
    snprintf(machine_ad, sizeof machine_ad, "%s/.machine.ad", scratch);
    return rename(machine_ad, error_file) == 0;
}

_Noreturn static void tell(enum blame blame, const char *line)
{
    if (blame == BLAME_MACHINE)
        mark_machine(line);
    if (channel >= 0) {
        static char report[REPORT_BYTES_MAX];
        int length = snprintf(report, sizeof report, "%c%d%s", REPORT_FAILED, (int)blame, line);
        if (length < 0 || write(channel, report, strnlen(report, sizeof report)) < 0)
            _exit(126); /* the monitor has died */
        _exit(127);
    }
    log_line(line);
    become_user();
    if (called_by_hand || error_file[0] == '\0') {
        write_line(STDERR_FILENO, line);
        _exit(126);
    }
    if (write_error_file(line))
        _exit(1);
    /* An exit now would complete the job.  It stays in the queue as running until somebody
     * vacates it or the starter's hard kill comes. */
    sigset_t none;
    sigemptyset(&none);
    for (;;)
        sigsuspend(&none);
}

static void make_printable(char *line)
{
    for (; *line != '\0'; line++)
        if (*line < 0x20 || *line > 0x7e)
            *line = '?';
}

_Noreturn void die_line(enum blame blame, const char *line)
{
    static char copy[REPORT_BYTES_MAX - 8];
    snprintf(copy, sizeof copy, "%s", line);
    make_printable(copy);
    tell(blame, copy);
}

static const char *error_name(int error)
{
    static const struct {
        int number;
        const char *name;
    } names[] = { ERROR_NAMES };
    for (size_t i = 0; i < LENGTH(names); i++)
        if (names[i].number == error)
            return names[i].name;
    return "unknown errno";
}

/* What one job may have used up, for itself or for all: no reason to stop the machine. */
static bool is_scarce(int error)
{
    return error == EAGAIN || error == ENOMEM || error == ENOSPC || error == EDQUOT ||
           error == EMFILE || error == ENFILE;
}

_Noreturn static void die_with(enum blame blame, const char *id, const char *remedy, int error,
                               const char *format, va_list arguments)
{
    static char reason[1024];
    static char line[REPORT_BYTES_MAX];
    vsnprintf(reason, sizeof reason, format, arguments);
    if (error != 0)
        snprintf(line, sizeof line, "%s: %s: %s (%s); %s", id, reason, error_name(error),
                 strerror(error), remedy);
    else
        snprintf(line, sizeof line, "%s: %s; %s", id, reason, remedy);
    die_line(is_scarce(error) ? BLAME_JOB : blame, line);
}

_Noreturn void die(enum blame blame, const char *id, const char *remedy, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    die_with(blame, id, remedy, 0, format, arguments);
}

_Noreturn void die_errno(enum blame blame, const char *id, const char *remedy,
                         const char *format, ...)
{
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    die_with(blame, id, remedy, error, format, arguments);
}
