/* What the caller handed over: kept for the job, made harmless for the helper. */
#pragma once

#include <sys/resource.h>

#include "common.h"

/* A standard descriptor as the starter opened it, outside the isolation. */
struct standard {
    char path[FIELD_BYTES_MAX + 1]; /* "" : a pipe or socket, which has none */
    struct stat status;
    int flags;
};

struct inherited {
    char **command;     /* the job's argv: HTCondor's command line behind the wrapper */
    char **environment; /* the job's, whole: what getenv has lost under AT_SECURE as well */
    char *directory;    /* working directory, as a path; NULL if it has none any more */
    struct stat directory_status;
    struct standard standard[3];
    struct rlimit limits[RLIM_NLIMITS];
    uint64_t mask;    /* of signals, as in signals.h */
    uint64_t ignored;
    mode_t umask;
};

/* Limits are kept and made roomy, before anything else can fail for want of them. */
void inherit_limits(struct inherited *inherited);

/* Standard descriptors open, no others; all signals blocked; the rest kept. */
void inherit(struct inherited *inherited, int argc, char **argv);

/* Inside the isolation, as the job: dies unless each standard descriptor that has a path is what
 * the job would get at that path.  The starter opens what the job names in In, Out and Err with
 * the job's rights, but among all that the machine has: another job's file, or a directory. */
void inherit_verify_standard(const struct inherited *inherited);

/* Gives limits back; to be called before root's rights are dropped. */
void inherit_restore_limits(const struct inherited *inherited);

/* Gives back signal dispositions, signal mask and umask; the last act before exec. */
void inherit_restore_signals(const struct inherited *inherited);
