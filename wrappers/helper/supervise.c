/* MUST: end exactly as the job did; let nothing of the job outlive monitor or init.
 * MUST NOT: keep a right of root's once the job runs, or hold the job's stdin, stdout, stderr.
 *
 * Monitor and init talk through a SOCK_SEQPACKET pair: 'R' init is about to start the job, 'G' it
 * may, 'S' + status the job has ended, 'E' + line something failed.  An end of file means that
 * the other one has died.
 */
#include "supervise.h"

#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "die.h"
#include "signals.h"
#include "verify.h"
#include "view.h"

#define READY 'R'
#define GO 'G'
#define STATUS 'S'

struct status_report {
    char type;
    int status;
};

_Noreturn static void run_job(const struct job *job)
{
    const struct inherited *inherited = job->inherited;
    struct stat here;
    setsid(); /* HTCondor's jobs lead a session and a process group */
    if (inherited->directory == NULL)
        die(MSG_CWD, "the job's working directory was removed");
    if (chdir(inherited->directory) != 0 || stat(".", &here) != 0)
        die_errno(MSG_CWD, "chdir %s", inherited->directory);
    if (here.st_dev != inherited->directory_status.st_dev ||
        here.st_ino != inherited->directory_status.st_ino)
        die(MSG_CWD, "%s is another directory inside", inherited->directory);
    inherit_restore_signals(inherited);
    execve(inherited->command[0], inherited->command, inherited->environment);
    die_errno(MSG_EXEC, "run %s", inherited->command[0]);
}

static void leave_standard_descriptors(int null)
{
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(null, fd) != fd)
            die_errno(MSG_SUPERVISOR, "dup2");
    close(null);
}

/* Passes signals on to TARGET until one says that a child has changed its state. */
static void pass_on_until_child(pid_t target)
{
    for (;;) {
        int signal_number = signals_wait();
        if (signal_number == SIGCHLD)
            return;
        if (signal_number > 0)
            kill(target, signal_number);
    }
}

/* Waits for MAIN, reaping whatever else ends, and passes signals on to it. */
static int wait_and_reap(pid_t main_process)
{
    for (;;) {
        int status;
        pid_t ended;
        pass_on_until_child(main_process);
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
            if (ended == main_process)
                return status;
    }
}

static void enter_namespaces(struct job *job)
{
    static const struct {
        enum control control;
        int flag;
        const char *name;
    } namespaces[] = {
        { CONTROL_IPC, CLONE_NEWIPC, "unshare CLONE_NEWIPC" },
        { CONTROL_UTS, CLONE_NEWUTS, "unshare CLONE_NEWUTS" },
        { CONTROL_CGROUP_NAMESPACE, CLONE_NEWCGROUP, "unshare CLONE_NEWCGROUP" },
    };
    for (size_t i = 0; i < LENGTH(namespaces); i++)
        if (job_wants(job, namespaces[i].control))
            job_control(job, namespaces[i].control, unshare(namespaces[i].flag),
                        namespaces[i].name);
}

/* The monitor has let the job start long ago, or will.  If it dies from now on, PDEATHSIG ends us;
 * if it has died before that was set, the end of the stream tells. */
static void await_monitor(int channel)
{
    char answer;
    const char ready = READY;
    if (send(channel, &ready, 1, MSG_NOSIGNAL) != 1 || recv(channel, &answer, 1, 0) != 1 ||
        recv(channel, &answer, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        _exit(1);
}

_Noreturn static void run_init(struct job *job, int channel, int null,
                               const struct namespaces *host)
{
    die_through(channel);
    enter_namespaces(job);
    verify_namespaces(job, host);
    view_build(job);
    verify_view(job);
    close(job->sandbox);
    close(job->scratch);
    close(job->policy->fd);
    inherit_restore_limits(job->inherited);
    drop_for_good(job->caller, job_wants(job, CONTROL_NO_NEW_PRIVS));
    inherit_verify_standard(job->inherited);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    await_monitor(channel);
    /* It shares our memory until its exec; init has nothing else to do meanwhile. */
    pid_t main_process = vfork();
    if (main_process < 0)
        die_errno(MSG_SUPERVISOR, "fork");
    if (main_process == 0)
        run_job(job);
    leave_standard_descriptors(null);
    struct status_report report = { .type = STATUS };
    report.status = wait_and_reap(main_process);
    send(channel, &report, sizeof report, MSG_NOSIGNAL);
    _exit(0); /* as pid 1: the kernel ends whatever is left of the job */
}

static pid_t start_init(struct job *job, int ends[2], int null)
{
    struct namespaces host;
    verify_note_namespaces(&host);
    unsigned long flags = CLONE_NEWNS | SIGCHLD;
    flags |= job_wants(job, CONTROL_PID) ? CLONE_NEWPID : 0;
    pid_t init = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    job->in_force[CONTROL_PID] = (flags & CLONE_NEWPID) != 0;
    if (init < 0 && (flags & CLONE_NEWPID) != 0) {
        job_control(job, CONTROL_PID, -1, "clone CLONE_NEWPID");
        init = (pid_t)syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, NULL);
    }
    if (init < 0)
        die_errno(MSG_CONTROL, "mount: clone CLONE_NEWNS");
    if (init == 0) {
        close(ends[0]);
        run_init(job, ends[1], null, &host);
    }
    close(ends[1]);
    return init;
}

/* Ends this process as the job ended: HTCondor's OOM detection wants to see the SIGKILL. */
_Noreturn static void end_as(int status)
{
    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    int signal_number = WTERMSIG(status);
    signal_set(signal_number, SIG_DFL);
    kill(getpid(), signal_number);
    signals_mask(SIG_UNBLOCK, signal_bit(signal_number), NULL);
    _exit(128 + signal_number);
}

/* Takes the next report.  Returns false when init has none any more. */
static bool take_report(int channel, struct status_report *last)
{
    char text[REPORT_BYTES_MAX + 1];
    ssize_t length = recv(channel, text, sizeof text - 1, 0);
    if (length <= 0)
        return false;
    text[length] = '\0';
    if (text[0] == REPORT_FAILED && length > 2)
        die_line((enum blame)(text[1] - '0'), text + 2);
    if (text[0] == STATUS && length == sizeof *last)
        memcpy(last, text, sizeof *last);
    else
        last->type = text[0];
    return true;
}

static int await_init(pid_t init)
{
    for (;;) {
        int status;
        pass_on_until_child(init);
        if (waitpid(init, &status, WNOHANG) == init)
            return status;
    }
}

_Noreturn void supervise(struct job *job)
{
    int ends[2];
    const char go = GO;
    struct status_report report = { 0 };
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        die_errno(MSG_SUPERVISOR, "socketpair");
    pid_t init = start_init(job, ends, null);
    close(job->sandbox);
    close(job->scratch);
    close(job->policy->fd);
    drop_for_good(job->caller, true);
    leave_standard_descriptors(null);
    /* Until init is the job's user too, it cannot be signalled: signals wait. */
    if (send(ends[0], &go, 1, MSG_NOSIGNAL) == 1)
        take_report(ends[0], &report);
    int status = await_init(init);
    while (take_report(ends[0], &report))
        ;
    if (report.type == STATUS)
        end_as(report.status);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        end_as(status); /* the machine ran out of memory, or root ended it */
    die(MSG_SUPERVISOR, "the job's init ended without a word, with wait status %d", status);
}
