/* What every file of the helper shares: the generated tables and owned descriptors. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "records.gen.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static inline void close_owned(int *fd)
{
    int error = errno;
    if (*fd >= 0)
        close(*fd);
    errno = error;
}
#define OWNED_FD __attribute__((cleanup(close_owned))) int
