/* The compiled policy: the only file that the helper believes. */
#pragma once

#include "common.h"
#include "identity.h"
#include "records.h"

struct policy {
    struct records records;
    int fd; /* the very file, for the planner to read */
    enum mode modes[CONTROL_COUNT];
};

void policy_load(struct policy *policy);

/* Dies unless this caller may start this command with this policy. */
void policy_admit(const struct policy *policy, const struct caller *caller, int argc,
                  char *const *argv);

/* Returns the value of a record that stands exactly once, or FALLBACK. */
uint64_t policy_number(const struct policy *policy, enum policy_key key, uint64_t fallback);
const char *policy_text(const struct policy *policy, enum policy_key key, size_t field);

/* Opens PATH with FLAGS, component by component and without following any link.  Dies unless each
 * belongs to root and nobody else may write it (CVE-2025-32463's class); returns -1 and errno
 * if it cannot be opened. */
int open_trusted(const char *path, int flags);
