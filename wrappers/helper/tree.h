/* Mount trees as descriptors: made, changed and placed without a path being used twice.
 * Each function returns a descriptor or 0, or -1 and errno. */
#pragma once

#include "kernel.h"

/* Detached copy of what is mounted at DIRECTORY/PATH (PATH "" : DIRECTORY itself), with all
 * mounts below it. */
int tree_copy(int directory, const char *path);

struct tree_option {
    const char *key, *value; /* value NULL: a flag */
};

/* Detached new filesystem of TYPE; OPTIONS end with a NULL key. */
int tree_new(const char *type, const struct tree_option *options, uint64_t attributes);

/* Sets MOUNT_ATTR_ flags of a tree or of an attached mount, with all mounts below it. */
int tree_set(int tree, uint64_t attributes);

/* Opens PATH inside ROOT, in which all its links are resolved. */
int tree_target(int root, const char *path);

/* Attaches TREE at TARGET. */
int tree_place(int tree, int target);

/* Opens PATH (O_PATH) below DIRECTORY, and makes what is missing of it with MODE.  No part may be
 * a link. */
int tree_make_directories(int directory, const char *path, mode_t mode);
