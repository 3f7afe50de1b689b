/* condor-isolation's privileged helper: the interpreter of USER_JOB_WRAPPER.
 *
 * The kernel starts it, setuid root, with the job's environment and the arguments
 * "isolate WRAPPER COMMAND ARGUMENT...".  It believes its compiled policy, the kernel, and nothing
 * else: see SECURITY.md.
 */
#include <stdio.h>

#include "cgroup.h"
#include "die.h"
#include "identity.h"
#include "inherit.h"
#include "job.h"
#include "planner.h"
#include "policy.h"
#include "supervise.h"

/* ISOLATION_ENABLE = False: the job runs as without the package. */
_Noreturn static void run_plain(const struct inherited *inherited, const struct caller *caller)
{
    inherit_restore_limits(inherited);
    become_caller(caller);
    if (inherited->directory == NULL || chdir(inherited->directory) != 0)
        die_errno(MSG_DISABLED, "chdir to the job's working directory");
    inherit_restore_signals(inherited);
    execve(inherited->command[0], inherited->command, inherited->environment);
    die_errno(MSG_EXEC, "run %s", inherited->command[0]);
}

/* condor_ssh_to_job's sshd: an error file would end the job that the session is for. */
static bool is_session(int argc, char **argv)
{
    const char *name = argc > 3 ? strrchr(argv[2], '/') : NULL;
    return name != NULL && strcmp(name, "/sshd") == 0 && strcmp(argv[3], "-i") == 0;
}

int main(int argc, char **argv)
{
    static struct inherited inherited; /* large: a job may have a small stack */
    struct caller caller = { 0 };
    struct policy policy = { 0 };
    struct records plan = { 0 };

    /* As far as the C library left it, the environment is enough for a message. */
    die_knows_environment(environ);
    die_knows_user(getuid(), getgid());
    if (is_session(argc, argv))
        die_knows_no_starter();
    inherit_limits(&inherited);
    identify(&caller);
    inherit(&inherited, argc, argv);
    die_prepare_mark();
    policy_load(&policy);
    policy_admit(&policy, &caller, argc, argv);
    if (policy_number(&policy, POLICY_ENABLE, 1) == 0)
        run_plain(&inherited, &caller);

    empty_bounding_set();
    struct job job = { .policy = &policy, .caller = &caller, .inherited = &inherited };
    job_find_sandbox(&job);
    planner_run(&policy, &caller, job.scratch, &plan);
    job_authorise(&job, &plan);
    cgroup_limit(&job);
    supervise(&job);
}
