/* MUST: take names from the plan, never paths; give the tighter of plan and policy.
 * MUST NOT: believe where the environment or the ads say that the sandbox is.
 */
#include "job.h"

#include <stdio.h>

#include "die.h"
#include "kernel.h"

#define PIDS_LEAST 8 /* monitor, init and a shell with a pipe must fit */

static const char *const control_words[] = { WORDS_CONTROL };
static const char *const limit_words[] = { WORDS_LIMIT };

const char *control_name(enum control control) { return control_words[control]; }

const char *limit_name(enum limit limit) { return limit_words[limit]; }

static int open_directory(int parent, const char *path, int flags)
{
    return kernel_openat2(parent, path, flags | O_DIRECTORY,
                          RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

static bool find_below(struct job *job, const char *execute)
{
    OWNED_FD parent = open_directory(AT_FDCWD, execute, O_PATH);
    if (parent < 0)
        return false;
    job->sandbox = open_directory(parent, job->sandbox_name, O_RDONLY);
    job->execute = execute;
    return job->sandbox >= 0;
}

/* The job owns what it works in; what HTCondor keeps beside that since 25.4 it does not own. */
static bool belongs_to_job(const struct job *job, int directory)
{
    struct stat status;
    return fstat(directory, &status) == 0 && status.st_uid == job->caller->uid;
}

void job_find_sandbox(struct job *job)
{
    const struct record *execute = NULL;
    bool found = false;
    snprintf(job->sandbox_name, sizeof job->sandbox_name, "dir_%d", (int)job->caller->starter);
    while (!found && (execute = records_next(&job->policy->records, POLICY_EXECUTE, execute)))
        found = find_below(job, execute->field[0]);
    if (!found)
        die_errno(MSG_SANDBOX, "find %s below EXECUTE (%s)", job->sandbox_name,
                  policy_text(job->policy, POLICY_EXECUTE, 0));
    job->scratch = belongs_to_job(job, job->sandbox)
                       ? dup(job->sandbox)
                       : open_directory(job->sandbox, "scratch", O_RDONLY);
    if (job->scratch < 0 || fcntl(job->scratch, F_SETFD, FD_CLOEXEC) != 0)
        die_errno(MSG_SANDBOX, "open the scratch directory in %s/%s", job->execute,
                  job->sandbox_name);
    if (!belongs_to_job(job, job->scratch))
        die(MSG_SANDBOX, "the scratch directory in %s/%s is not the job's", job->execute,
            job->sandbox_name);
}

static const struct record *find_root(const struct policy *policy, const char *name)
{
    const struct record *root = NULL;
    while ((root = records_next(&policy->records, POLICY_ROOT, root)) != NULL)
        if (strcmp(root->field[0], name) == 0)
            return root;
    return NULL;
}

static bool has_group(const struct caller *caller, uint64_t gid)
{
    for (size_t i = 0; i < caller->group_count; i++)
        if (caller->groups[i] == gid)
            return true;
    return caller->gid == gid;
}

static bool may_use(const struct job *job, const char *name)
{
    const struct record *entry = NULL;
    bool listed = false;
    while ((entry = records_next(&job->policy->records, POLICY_ROOT_USER, entry)) != NULL)
        if (strcmp(entry->field[0], name) == 0) {
            listed = true;
            if (entry->number[1] == job->caller->uid)
                return true;
        }
    while ((entry = records_next(&job->policy->records, POLICY_ROOT_GROUP, entry)) != NULL)
        if (strcmp(entry->field[0], name) == 0) {
            listed = true;
            if (has_group(job->caller, entry->number[1]))
                return true;
        }
    return !listed;
}

static void authorise_root(struct job *job, const struct records *plan)
{
    const struct record *asked = records_next(plan, PLAN_ROOT, NULL);
    const char *forced = policy_text(job->policy, POLICY_ROOT_FORCED, 0);
    const char *name = asked != NULL ? asked->field[0] : forced;
    if (name == NULL)
        return;
    job->root = find_root(job->policy, name);
    if (job->root == NULL || (forced != NULL && strcmp(name, forced) != 0))
        die(MSG_UNKNOWN_CHROOT, "the chroot %s is not offered here", name);
    if (!may_use(job, name))
        die(MSG_CHROOT_DENIED, "uid %u may not use the chroot %s", (unsigned)job->caller->uid,
            name);
}

static void authorise_limits(struct job *job, const struct records *plan)
{
    const struct record *limit = NULL;
    for (size_t i = 0; i < LIMIT_COUNT; i++)
        job->limits[i] = UINT64_MAX;
    job->limits[LIMIT_MEMORY_LOW] = 0; /* a protection is the policy's to give */
    while ((limit = records_next(&job->policy->records, POLICY_LIMIT, limit)) != NULL)
        job->limits[limit->number[0]] = limit->number[1];
    while ((limit = records_next(plan, PLAN_LIMIT, limit)) != NULL) {
        uint64_t *ceiling = &job->limits[limit->number[0]];
        if (limit->number[1] > *ceiling)
            die(MSG_LIMIT, "%s of %s is over %llu", limit_words[limit->number[0]],
                limit->field[1], (unsigned long long)*ceiling);
        job->asked[limit->number[0]] = limit->number[1] < *ceiling;
        *ceiling = limit->number[1];
    }
    if (job->limits[LIMIT_PIDS_MAX] < PIDS_LEAST)
        die(MSG_LIMIT, "pids-max of %llu is under %d",
            (unsigned long long)job->limits[LIMIT_PIDS_MAX], PIDS_LEAST);
}

void job_authorise(struct job *job, const struct records *plan)
{
    const struct record *refusal = records_next(plan, PLAN_REFUSE, NULL);
    /* Always the job's fault: a planner that a job has led astray must not stop the machine. */
    if (refusal != NULL)
        die_line(BLAME_JOB, refusal->field[2]);
    authorise_root(job, plan);
    authorise_limits(job, plan);
}

void job_control(struct job *job, enum control control, int result, const char *object)
{
    job->in_force[control] = result >= 0;
    if (result >= 0)
        return;
    if (job->policy->modes[control] == MODE_REQUIRE)
        die_errno(MSG_CONTROL, "%s: %s", control_name(control), object);
}

static bool is_below(const char *path, const char *top)
{
    size_t length = strlen(top);
    return strncmp(path, top, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

void job_note_placed(struct job *job, int tree, const char *path)
{
    struct stat status;
    size_t kept = 0;
    for (size_t i = 0; i < job->placed_count; i++)
        if (!is_below(job->placed[i].path, path))
            job->placed[kept++] = job->placed[i];
    job->placed = reallocarray(job->placed, kept + 1, sizeof *job->placed);
    char *copy = strdup(path);
    if (job->placed == NULL || copy == NULL || fstat(tree, &status) != 0)
        die_errno(MSG_READ_BACK, "note the mount on %s", path);
    job->placed[kept] = (struct placed){ copy, status.st_dev, status.st_ino };
    job->placed_count = kept + 1;
}

const char *job_execute_below(const struct job *job, const char *path)
{
    size_t length = strlen(path);
    bool below = strncmp(job->execute, path, length) == 0 && job->execute[length] == '/';
    return below ? job->execute + length + 1 : NULL;
}

bool job_is_private(const struct job *job, const char *path)
{
    const struct record *directory = NULL;
    while ((directory = records_next(&job->policy->records, POLICY_PRIVATE, directory)) != NULL)
        if (job_wants(job, CONTROL_TMP) && is_below(path, directory->field[0]))
            return true;
    return false;
}
