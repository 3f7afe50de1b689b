/* A job that looks at its isolation: "look FILE" writes namespaces, ids and mounts to FILE. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const char *const names[] = { "pid", "mnt", "ipc", "uts", "cgroup", "user" };
    FILE *out = argc == 2 ? fopen(argv[1], "w") : NULL;
    if (out == NULL)
        return 1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char link[32];
        struct stat status;
        snprintf(link, sizeof link, "/proc/self/ns/%s", names[i]);
        if (stat(link, &status) == 0)
            fprintf(out, "%s %lu\n", names[i], (unsigned long)status.st_ino);
    }
    fprintf(out, "uid %u\n", (unsigned)getuid());
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    char line[8192];
    while (mounts != NULL && fgets(line, sizeof line, mounts) != NULL)
        fprintf(out, "mount %s", line);
    return fclose(out) != 0;
}
