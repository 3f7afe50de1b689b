/* One way to fail: one line, with a message id, told where its reader looks.
 *
 * MUST hold: the job never runs after one of these, and where a starter waits for us the job
 * never completes because of them (it goes back to Idle with the line in its event log).
 */
#pragma once

#include "common.h"

/* MSG is a MSG_... macro of records.gen.h: whose fault, id, what to do. */
_Noreturn void die(enum blame blame, const char *id, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same, ending in the name of errno. */
_Noreturn void die_errno(enum blame blame, const char *id, const char *remedy,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));

/* A line that is finished already: the planner's, or a child's. */
_Noreturn void die_line(enum blame blame, const char *line);

/* Failures of this process are sent to the monitor through FD, a SOCK_SEQPACKET socket. */
void die_through(int fd);

/* What is known about the caller; each may be called as soon as it is. */
void die_knows_environment(char *const *environment);
void die_knows_user(uid_t uid, gid_t gid);
void die_knows_no_starter(void); /* until then one is supposed to wait */

/* Opens the directory of the fault mark while the helper still sees the host. */
void die_prepare_mark(void);

/* Closes it again: without root's rights there is no mark to write. */
void die_give_up_mark(void);

/* Writes LINE to the system's log. */
void log_line(const char *line);

#define REPORT_BYTES_MAX 2048
#define REPORT_FAILED 'E'
