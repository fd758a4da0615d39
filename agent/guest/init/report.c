/* What the init says, and how the machine ends. The console keeps the last word even when no agent listens. */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void say(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "trueup: %s\n", text);
}

/* `reason_code` is one of kit.wire.REASON_CODES. Control characters become blanks: the line must stay one line. */
void fail(const char *reason_code, const char *format, ...) {
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~') *c = ' ';
    say("FAILED %s %s", reason_code, text);
    channel_send("FAILED %s %s", reason_code, text);
    power_off();
}

/* The agent runs qemu with -no-reboot: a reset ends the machine, and needs no power management in the guest. */
void power_off(void) {
    unmount_all();
    sync();
    reboot(RB_AUTOBOOT);
    for (;;) pause();
}

/* Under another name first, then renamed: a reader never meets half a file. */
bool write_file(const char *path, const char *content, size_t size, mode_t mode, uid_t uid, gid_t gid) {
    char temporary[4200];
    snprintf(temporary, sizeof temporary, "%s.trueup-new", path);
    unlink(temporary);
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) return false;
    bool written = true;
    for (size_t done = 0; written && done < size;) {
        ssize_t count = write(file, content + done, size - done);
        if (count < 0 && errno == EINTR) continue;
        written = count > 0;
        if (written) done += (size_t)count;
    }
    written = written && fchown(file, uid, gid) == 0 && fchmod(file, mode) == 0;
    close(file);
    if (written && rename(temporary, path) == 0) return true;
    unlink(temporary);
    return false;
}

/* Like mkdir -p. */
bool make_folders(const char *path) {
    char part[4096];
    if (strlen(path) >= sizeof part) return false;
    strcpy(part, path);
    for (char *slash = part + 1; *slash; slash++) {
        if (*slash != '/') continue;
        *slash = 0;
        if (mkdir(part, 0755) != 0 && errno != EEXIST) return false;
        *slash = '/';
    }
    return mkdir(part, 0755) == 0 || errno == EEXIST;
}

/* The start of a small file as text, without its last newline; 0 if it cannot be read. */
size_t read_small(const char *path, char *buffer, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = read(file, buffer, size - 1);
    close(file);
    if (count <= 0) return 0;
    if (buffer[count - 1] == '\n') count--;
    buffer[count] = 0;
    return (size_t)count;
}
