/* What the caller handed over: kept for the job, made harmless for the helper. */
#pragma once

#include <signal.h>
#include <sys/resource.h>

#include "common.h"

struct inherited {
    char **command;     /* the job's argv: HTCondor's command line behind the wrapper */
    char **environment; /* the job's, whole: what getenv has lost under AT_SECURE as well */
    char *directory;    /* working directory, as a path; NULL if it has none any more */
    struct stat directory_status;
    struct rlimit limits[RLIM_NLIMITS];
    sigset_t mask;
    sigset_t ignored;
    mode_t umask;
};

/* Standard descriptors open, no others; all signals blocked; no dumps; roomy limits. */
void inherit(struct inherited *inherited, int argc, char **argv);

/* The rest, for which root's rights are needed: limits that a job set too low for us. */
void inherit_raise_limits(const struct inherited *inherited);

/* Gives limits back; to be called before root's rights are dropped. */
void inherit_restore_limits(const struct inherited *inherited);

/* Gives back signal dispositions, signal mask and umask; the last act before exec. */
void inherit_restore_signals(const struct inherited *inherited);
