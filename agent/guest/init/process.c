/* The image's process: as the image's user, in its folder, in a mount namespace whose root is the overlay. */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* `user` is "UID:GID" in numbers: the agent looked the names up in the image. */
void process_user(uid_t *uid, gid_t *gid) {
    char text[64] = "0:0", *rest;
    boot_value("user", text, sizeof text);
    *uid = (uid_t)strtoul(text, &rest, 10);
    if (rest == text || *rest != ':') fail("vmm_start_failed", "user %s is not UID:GID", text);
    *gid = (gid_t)strtoul(rest + 1, NULL, 10);
}

/* "SIGQUIT", "QUIT", "SIGRTMIN+3" or "3"; SIGTERM if nothing was said. */
int stop_signal(void) {
    char text[32];
    if (!boot_value("stop_signal", text, sizeof text)) return SIGTERM;
    const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
    if (strncasecmp(name, "RTMIN+", 6) == 0) return SIGRTMIN + atoi(name + 6);
    for (int number = 1; number < SIGRTMIN; number++) {
        const char *known = sigabbrev_np(number);
        if (known && strcasecmp(known, name) == 0) return number;
    }
    int number = atoi(name);
    if (number < 1 || number > SIGRTMAX) fail("vmm_start_failed", "stop_signal %s is unknown", text);
    return number;
}

static void give_up(int report, const char *attempted) {
    char text[300];
    int size = snprintf(text, sizeof text, "%s: %s", attempted, strerror(errno));
    (void)!write(report, text, (size_t)size);
    _exit(127);
}

static void enter_namespace(int report) {
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || chdir(NEW_ROOT) != 0 ||
        mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
        give_up(report, "enter the image's root");
}

/* Output goes to the console as it is. The user owns the console, so that it can open /dev/stderr anew. */
static void set_descriptors(int report, uid_t uid, gid_t gid) {
    struct termios mode;
    int in = open("/dev/null", O_RDONLY), out = open("/dev/console", O_WRONLY | O_NOCTTY);
    if (in < 0 || out < 0) give_up(report, "open /dev/console");
    if (tcgetattr(out, &mode) == 0) {
        mode.c_oflag &= ~(tcflag_t)OPOST;
        tcsetattr(out, TCSANOW, &mode);
    }
    if (fchown(out, uid, gid) != 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        give_up(report, "prepare the descriptors");
    close(in);
    close(out);
}

static void set_limits(void) {
    struct rlimit files = {.rlim_cur = 65536, .rlim_max = 1 << 20};
    setrlimit(RLIMIT_NOFILE, &files);
    int adjust = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (adjust >= 0) {
        (void)!write(adjust, "0", 1);
        close(adjust);
    }
}

static void enter_workdir(int report, uid_t uid, gid_t gid) {
    char folder[2048];
    if (!boot_value("workdir", folder, sizeof folder)) strcpy(folder, "/");
    struct stat there;
    if (stat(folder, &there) != 0) {
        if (!make_folders(folder) || chown(folder, uid, gid) != 0) give_up(report, "make the working folder");
    }
    if (chdir(folder) != 0) give_up(report, "enter the working folder");
}

static void become(int report, uid_t uid, gid_t gid) {
    if (setgroups(1, &gid) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        give_up(report, "change to the image's user");
}

static void child(int report, uid_t uid, gid_t gid, char **arguments, char **environment) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    umask(022);
    enter_namespace(report);
    set_descriptors(report, uid, gid);
    set_limits();
    enter_workdir(report, uid, gid);
    become(report, uid, gid);
    environ = environment;
    execvp(arguments[0], arguments); /* looks along the PATH of `environ` */
    give_up(report, arguments[0]);
}

/* The pid of the process, once its program runs; a program that cannot be run is a failed boot. */
pid_t process_start(uid_t uid, gid_t gid) {
    char **arguments = archive_records("argv"), **environment = archive_records("environ");
    int report[2];
    char problem[300] = {0};
    if (!arguments || !arguments[0]) fail("process_exited", "there is nothing to run: argv is empty or too long");
    if (!environment) fail("process_exited", "the environment is too long");
    if (pipe2(report, O_CLOEXEC) != 0) fail("vmm_start_failed", "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) child(report[1], uid, gid, arguments, environment);
    close(report[1]);
    if (pid < 0) fail("vmm_start_failed", "fork: %s", strerror(errno));
    ssize_t size = read(report[0], problem, sizeof problem - 1);
    close(report[0]);
    if (size > 0) {
        waitpid(pid, NULL, 0);
        fail("process_exited", "run the image's process: %s", problem);
    }
    return pid;
}
