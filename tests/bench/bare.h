/* A program without a C library: its start costs what the kernel's execve() costs.
 *
 * The start of a static glibc asks the processor about itself some ninety times (cpuid), and in a
 * virtual machine each answer comes from the hypervisor: half a millisecond here, ten times what
 * is to be measured.
 */
#pragma once

#include <asm/unistd.h>
#include <linux/time_types.h>

#if defined __x86_64__
static inline long kernel(long number, long a, long b, long c, long d)
{
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return number;
}
__asm__(".globl _start\n_start:\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call begin\n");
#elif defined __aarch64__
static inline long kernel(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
                  x2 __asm__("x2") = c, x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
__asm__(".globl _start\n_start:\n  mov x0, sp\n  bl begin\n");
#else
#error "one system call and the entry point have to be written for this machine"
#endif

static long run(long argc, char **argv);

/* Called with what the kernel has put on the stack: argc, then argv. */
__attribute__((used, noreturn)) static void begin(long *stack)
{
    kernel(__NR_exit_group, run(stack[0], (char **)(stack + 1)), 0, 0, 0);
    __builtin_unreachable();
}
