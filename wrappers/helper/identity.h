/* Who calls, and how root's rights end. */
#pragma once

#include "common.h"

struct caller {
    uid_t uid;
    gid_t gid;
    size_t group_count;
    gid_t *groups;
    pid_t starter; /* the parent; its real uid is 0 */
    struct stat starter_program;
};

/* Dies unless this process is privileged and its parent's real uid is 0 (D4). */
void identify(struct caller *caller);

/* No exec from now on, in this process or those to come, gives a capability. */
void empty_bounding_set(void);

/* All ids become the caller's, no capability is left, none can come back; each is proved.
 * NO_NEW_PRIVS is set too if asked for. */
void drop_for_good(const struct caller *caller, bool no_new_privs);

/* The same ids, but nothing else given up: for ISOLATION_ENABLE = False. */
void become_caller(const struct caller *caller);
