/* MUST: hold every object by descriptor; resolve targets inside the root they belong to
 * (runc CVE-2021-30465's class).
 * MUST NOT: follow magic links.
 */
#include "tree.h"

#include <limits.h>
#include <stdio.h>

int tree_copy(int directory, const char *path)
{
    return kernel_open_tree(directory, path,
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
}

int tree_new(const char *type, const struct tree_option *options, uint64_t attributes)
{
    OWNED_FD context = kernel_fsopen(type);
    if (context < 0)
        return -1;
    for (; options->key != NULL; options++) {
        unsigned command = options->value == NULL ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
        if (kernel_fsconfig(context, command, options->key, options->value) != 0)
            return -1;
    }
    if (kernel_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL) != 0)
        return -1;
    return kernel_fsmount(context, (unsigned)attributes);
}

int tree_set(int tree, uint64_t attributes)
{
    struct mount_attr change = { .attr_set = attributes };
    return kernel_mount_setattr(tree, AT_EMPTY_PATH | AT_RECURSIVE, &change);
}

int tree_target(int root, const char *path)
{
    return kernel_openat2(root, path, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int tree_place(int tree, int target)
{
    return kernel_move_mount(tree, target);
}

int tree_make_directories(int directory, const char *path, mode_t mode)
{
    int fd = fcntl(directory, F_DUPFD_CLOEXEC, 0);
    for (const char *part = path; *part != '\0' && fd >= 0; part += *part == '/') {
        char name[NAME_MAX + 1];
        OWNED_FD parent = fd;
        size_t length = strcspn(part, "/");
        snprintf(name, sizeof name, "%.*s", (int)length, part);
        part += length;
        if (mkdirat(parent, name, mode) != 0 && errno != EEXIST)
            return -1;
        fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    return fd;
}
