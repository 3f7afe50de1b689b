/* MUST: give the planner nothing but the policy, the scratch directory and two pipes, as the
 * job's user for good; bound its time, its memory and its output.
 * MUST NOT: believe a byte of what it writes.
 */
#include "planner.h"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "die.h"
#include "signals.h"

#define SECONDS_MAX 20
#define MEMORY_MAX (UINT64_C(1) << 30)

struct output {
    int fd;
    char *text;
    size_t room;
    bool keep_end; /* when there is no more room, the beginning goes */
    size_t size;
};

struct pipes {
    int plan[2], errors[2], start[2]; /* read end, write end */
};

/* Tells why the planner could not be started; only code of ours holds this pipe. */
_Noreturn static void fail_start(const struct pipes *pipes)
{
    int error = errno;
    _exit(write(pipes->start[1], &error, sizeof error) == sizeof error ? 1 : 2);
}

static void set_limit(const struct pipes *pipes, int resource, rlim_t value)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0)
        fail_start(pipes);
    limit.rlim_max = limit.rlim_max < value ? limit.rlim_max : value;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(resource, &limit) != 0)
        fail_start(pipes);
}

_Noreturn static void become_planner(const struct policy *policy, const struct caller *caller,
                                     int scratch, const struct pipes *pipes)
{
    if (dup2(policy->fd, 0) != 0 || dup2(pipes->plan[1], 1) != 1 ||
        dup2(pipes->errors[1], 2) != 2 || lseek(0, 0, SEEK_SET) != 0)
        fail_start(pipes);
    set_limit(pipes, RLIMIT_CPU, SECONDS_MAX);
    set_limit(pipes, RLIMIT_AS, MEMORY_MAX);
    set_limit(pipes, RLIMIT_FSIZE, 0);
    set_limit(pipes, RLIMIT_NOFILE, 64);
    setsid();
    drop_for_good(caller, true);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (fchdir(scratch) != 0)
        fail_start(pipes);
    if (signal_set(SIGPIPE, SIG_DFL) != 0 || signals_mask(SIG_SETMASK, SIGNALS_NONE, NULL) != 0)
        fail_start(pipes);
    char *const arguments[] = { (char *)"python3", (char *)"-I", (char *)"-S",
                                (char *)policy_text(policy, POLICY_PLANNER, 1), (char *)"plan",
                                NULL };
    char *const environment[] = { (char *)"PATH=/usr/bin:/bin", NULL };
    execve(policy_text(policy, POLICY_PLANNER, 0), arguments, environment);
    fail_start(pipes);
}

static int64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void end_planner(pid_t planner)
{
    kill(planner, SIGKILL);
    waitpid(planner, NULL, 0);
}

/* Returns false at the end of the stream, or when there is no more room. */
static bool read_some(struct output *output)
{
    if (output->size == output->room && output->keep_end) {
        output->size /= 2;
        memmove(output->text, output->text + output->room - output->size, output->size);
    }
    ssize_t got = read(output->fd, output->text + output->size, output->room - output->size);
    output->size += got > 0 ? (size_t)got : 0;
    return got > 0;
}

/* Waits for POLLED until END.  Returns false when the time is over. */
static bool wait_for(struct pollfd *polled, nfds_t count, int64_t end)
{
    for (;;) {
        int64_t left = end - milliseconds();
        int ready = left <= 0 ? 0 : poll(polled, count, (int)left);
        if (ready >= 0 || errno != EINTR) /* as after SIGSTOP and SIGCONT */
            return ready > 0;
    }
}

/* Reads both until they end.  Returns false when the time is over. */
static bool read_outputs(struct output *plan, struct output *errors, int64_t end)
{
    struct pollfd polled[2] = { { .fd = plan->fd, .events = POLLIN },
                                { .fd = errors->fd, .events = POLLIN } };
    while (polled[0].fd >= 0 || polled[1].fd >= 0) {
        if (!wait_for(polled, 2, end))
            return false;
        if (polled[0].revents != 0 && !read_some(plan))
            polled[0].fd = -1;
        if (plan->size == plan->room)
            return true;
        if (polled[1].revents != 0 && !read_some(errors))
            polled[1].fd = -1;
    }
    return true;
}

/* Returns whether the planner could be started, before END. */
static bool await_start(const char *program, int start, int64_t end)
{
    struct pollfd polled = { .fd = start, .events = POLLIN };
    int error;
    if (!wait_for(&polled, 1, end))
        return false;
    if (read(start, &error, sizeof error) == sizeof error) {
        errno = error;
        die_errno(MSG_NO_PLANNER, "start %s", program);
    }
    return true;
}

/* Returns whether the planner has ended, before END. */
static bool await_end(pid_t planner, int64_t end, int *status)
{
    while (waitpid(planner, status, WNOHANG) == 0) {
        int64_t left = end - milliseconds();
        if (left <= 0)
            return false;
        signal_wait_for_child(left);
    }
    return true;
}

static const char *last_line(struct output *errors)
{
    while (errors->size > 0 && errors->text[errors->size - 1] == '\n')
        errors->size--;
    for (size_t i = 0; i < errors->size; i++)
        if (errors->text[i] == '\0')
            errors->text[i] = '?';
    errors->text[errors->size] = '\0';
    const char *newline = strrchr(errors->text, '\n');
    return newline == NULL ? errors->text : newline + 1;
}

static void check_end_of_planner(int status, struct output *errors)
{
    const char *line = last_line(errors);
    const char *colon = *line == '\0' ? "" : ": ";
    if (WIFSIGNALED(status))
        die(MSG_PLANNER_FAILED, "the planner was ended by signal %d%s%.400s", WTERMSIG(status),
            colon, line);
    if (WEXITSTATUS(status) != 0)
        die(MSG_PLANNER_FAILED, "the planner exited with status %d%s%.400s", WEXITSTATUS(status),
            colon, line);
}

static void open_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0)
        die_errno(MSG_NO_PLANNER, "pipe");
}

/* In a PID namespace of its own, so that nothing that it starts outlives it: what runs there is
 * the job's user, in nobody's sandbox yet. */
static pid_t clone_planner(const struct policy *policy)
{
    unsigned long flags = policy->modes[CONTROL_PID] == MODE_OFF ? SIGCHLD : CLONE_NEWPID | SIGCHLD;
    pid_t planner = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    if (planner < 0 && policy->modes[CONTROL_PID] == MODE_PREFER)
        planner = fork();
    if (planner < 0)
        die_errno(MSG_NO_PLANNER, "clone");
    return planner;
}

static pid_t start_planner(const struct policy *policy, const struct caller *caller, int scratch,
                           struct pipes *pipes)
{
    open_pipe(pipes->plan);
    open_pipe(pipes->errors);
    open_pipe(pipes->start);
    pid_t planner = clone_planner(policy);
    if (planner == 0) {
        die_through(pipes->errors[1]);
        become_planner(policy, caller, scratch, pipes);
    }
    close(pipes->plan[1]);
    close(pipes->errors[1]);
    close(pipes->start[1]);
    return planner;
}

void planner_run(const struct policy *policy, const struct caller *caller, int scratch,
                 struct records *records)
{
    static char plan_text[PLAN_BYTES_MAX + 2], error_text[2049];
    struct output plan = { .text = plan_text, .room = sizeof plan_text - 1 };
    struct output errors = { .text = error_text, .room = sizeof error_text - 1, .keep_end = true };
    int status;
    size_t line;
    struct pipes pipes;
    int64_t end = milliseconds() + SECONDS_MAX * 1000;
    pid_t planner = start_planner(policy, caller, scratch, &pipes);
    plan.fd = pipes.plan[0];
    errors.fd = pipes.errors[0];
    bool in_time = await_start(policy_text(policy, POLICY_PLANNER, 0), pipes.start[0], end) &&
                   read_outputs(&plan, &errors, end);
    if (in_time && plan.size > PLAN_BYTES_MAX) {
        end_planner(planner);
        die(MSG_BAD_PLAN, "the plan is larger than %d bytes", PLAN_BYTES_MAX);
    }
    if (!in_time || !await_end(planner, end, &status)) {
        end_planner(planner);
        die(MSG_PLANNER_FAILED, "the planner did not end within %d s", SECONDS_MAX);
    }
    close(pipes.plan[0]);
    close(pipes.errors[0]);
    close(pipes.start[0]);
    check_end_of_planner(status, &errors);
    const char *problem = records_read(records, RECORDS_PLAN, plan_text, plan.size, &line);
    if (problem != NULL)
        die(MSG_BAD_PLAN, "line %zu of the plan %s", line, problem);
}
