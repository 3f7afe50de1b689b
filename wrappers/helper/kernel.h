/* System calls that the C library lacks or knows under names of its own only: older ones do not
 * have the mount calls at all, and <sys/mount.h> and <linux/mount.h> exclude each other. */
#pragma once

#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include "common.h"

#ifndef MNT_DETACH /* <sys/mount.h> has it, <linux/mount.h> has not */
#define MNT_DETACH 2
#endif

static inline int kernel_open_tree(int directory, const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, directory, path, flags);
}

static inline int kernel_move_mount(int tree, int target)
{
    return (int)syscall(SYS_move_mount, tree, "", target, "",
                        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int kernel_fsopen(const char *type)
{
    return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

static inline int kernel_fsconfig(int context, unsigned command, const char *key,
                                  const char *value)
{
    return (int)syscall(SYS_fsconfig, context, command, key, value, 0);
}

static inline int kernel_fsmount(int context, unsigned attributes)
{
    return (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
}

static inline int kernel_mount_setattr(int tree, unsigned flags, struct mount_attr *attributes)
{
    return (int)syscall(SYS_mount_setattr, tree, "", flags, attributes, sizeof *attributes);
}

/* Returns a descriptor; FLAGS of open(2), RESOLVE of openat2(2). */
static inline int kernel_openat2(int directory, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .resolve = resolve };
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}
