/* Signals as the kernel counts them, 1 to 64 in one word: C libraries keep some to themselves,
 * and a job may use all of them. */
#pragma once

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "common.h"

#define SIGNALS_ALL UINT64_MAX
#define SIGNALS_NONE UINT64_C(0)
#define SIGNAL_LAST 64

static inline uint64_t signal_bit(int number) { return UINT64_C(1) << (number - 1); }

/* HOW of sigprocmask(2); returns 0, or -1 and errno. */
static inline int signals_mask(int how, uint64_t set, uint64_t *previous)
{
    return (int)syscall(SYS_rt_sigprocmask, how, &set, previous, sizeof set);
}

struct signal_action { /* the kernel's, for handlers that are none */
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static inline int signal_set(int number, void (*handler)(int))
{
    const struct signal_action action = { .handler = handler };
    return (int)syscall(SYS_rt_sigaction, number, &action, NULL, sizeof action.mask);
}

static inline bool signal_is_ignored(int number)
{
    struct signal_action action;
    return syscall(SYS_rt_sigaction, number, NULL, &action, sizeof action.mask) == 0 &&
           action.handler == SIG_IGN;
}

/* Takes a SIGCHLD, or waits MILLISECONDS for one; all other signals stay. */
static inline void signal_wait_for_child(int64_t milliseconds)
{
    const uint64_t child = signal_bit(SIGCHLD);
    const struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    syscall(SYS_rt_sigtimedwait, &child, NULL, &time, sizeof child);
}

/* Waits for any blocked signal; returns its number, or -1 when interrupted, as by SIGCONT. */
static inline int signals_wait(void)
{
    const uint64_t all = SIGNALS_ALL;
    return (int)syscall(SYS_rt_sigtimedwait, &all, NULL, NULL, sizeof all);
}
