/* The life of the machine.
 *
 *   WAITING   HELLO each second until the archive is here        STOP: power off
 *   RUNNING   the process runs                                   STOP: its stop signal, a deadline, then SIGKILL
 *   ENDING    the process has ended, EXIT was said; what it      its orphans get SIGTERM and ORPHANS_GRACE_MS
 *             left behind ends, then unmount and power off
 *
 * As PID 1 this program inherits every orphan; each dead child is reaped whenever one dies.
 */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static enum { WAITING, RUNNING, ENDING } state = WAITING;
static pid_t process;
static int process_stop_signal;
static long long deadline_ms = -1; /* RUNNING: SIGKILL; ENDING: power off; WAITING: the archive must go on; -1: none */
static long long hello_ms;
static char exit_line[32];

static void set_clock(void) {
    char text[32];
    struct timeval now;
    if (!boot_value("time", text, sizeof text)) return;
    gettimeofday(&now, NULL);
    struct timeval given = {.tv_sec = atoll(text)};
    if (llabs((long long)(given.tv_sec - now.tv_sec)) > 2) settimeofday(&given, NULL);
}

static void boot(struct bytes archive) {
    uid_t uid;
    gid_t gid;
    if (!archive_is_sound(archive)) fail("vmm_start_failed", "the boot archive is damaged or lacks boot.env or argv");
    set_clock();
    process_user(&uid, &gid);
    process_stop_signal = stop_signal();
    network_up();
    mount_root();
    mount_volumes(uid, gid);
    write_network_files();
    place_secret(uid, gid);
    leave_image_root();
    process = process_start(uid, gid);
    archive_wipe();
    state = RUNNING;
    deadline_ms = -1;
    channel_send("STARTED");
}

static void stop(const char *seconds) {
    if (state == WAITING) power_off();
    if (state == ENDING) return;
    long long until = now_ms() + 1000LL * atoi(seconds);
    if (deadline_ms < 0 || until < deadline_ms) deadline_ms = until;
    kill(process, process_stop_signal);
}

static void expect_archive(const char *size_text) {
    long long size = atoll(size_text);
    if (size <= 0) return;
    if (state != WAITING) {
        channel_skip((size_t)size);
        return;
    }
    if (size > ARCHIVE_BYTES_MAX)
        fail("vmm_start_failed", "an archive of %lld bytes: at most %d", size, ARCHIVE_BYTES_MAX);
    channel_expect((size_t)size);
    deadline_ms = now_ms() + ARCHIVE_STALL_MS;
}

static void answer_ping(void) {
    channel_send("PONG");
    if (state == WAITING) channel_send("HELLO 1");
    else channel_send("%s", state == RUNNING ? "STARTED" : exit_line);
}

static void obey(const char *line) {
    if (strcmp(line, "PING") == 0) answer_ping();
    else if (strncmp(line, "BOOT ", 5) == 0) expect_archive(line + 5);
    else if (strncmp(line, "STOP ", 5) == 0) stop(line + 5);
    else say("an unknown line from the host was ignored");
}

static void hear(void) {
    char line[LINE_BYTES_MAX];
    struct bytes archive = {0};
    for (enum input got; (got = channel_next(line, &archive)) != INPUT_NONE; archive = (struct bytes){0}) {
        if (got == INPUT_ARCHIVE) boot(archive);
        else obey(line);
    }
    if (channel_in_archive()) deadline_ms = now_ms() + ARCHIVE_STALL_MS; /* it goes on */
}

/* Linux counts its OOM kills: a process that died of SIGKILL after one was killed for its memory. */
static bool memory_ran_out(void) {
    char statistics[16384];
    read_small("/proc/vmstat", statistics, sizeof statistics);
    char *count = strstr(statistics, "\noom_kill ");
    return count && atoi(count + 10) > 0;
}

static void process_ended(int status) {
    int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    bool memory = code == 128 + SIGKILL && memory_ran_out();
    snprintf(exit_line, sizeof exit_line, memory ? "EXIT %d oom" : "EXIT %d", code);
    say("%s", exit_line);
    channel_send("%s", exit_line);
    state = ENDING;
    deadline_ms = now_ms() + ORPHANS_GRACE_MS;
    kill(-1, SIGTERM);
}

static void reap(int children) {
    struct signalfd_siginfo ignored[8];
    while (read(children, ignored, sizeof ignored) > 0) {}
    pid_t pid;
    for (int status; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == process && state == RUNNING) process_ended(status);
    if (pid < 0 && errno == ECHILD && state == ENDING) power_off();
}

/* The last of the orphans are killed and waited for: a volume with an open file cannot be unmounted. */
static void kill_all_and_power_off(void) {
    kill(-1, SIGKILL);
    for (long long until = now_ms() + 1000; now_ms() < until; usleep(2000))
        if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD) break;
    power_off();
}

static void on_time(void) {
    if (state == WAITING && !channel_in_archive() && now_ms() >= hello_ms) {
        channel_send("HELLO 1");
        hello_ms = now_ms() + HELLO_EVERY_MS;
    }
    if (deadline_ms < 0 || now_ms() < deadline_ms) return;
    deadline_ms = -1;
    if (state == WAITING) channel_reset();
    else if (state == RUNNING) kill(process, SIGKILL);
    else kill_all_and_power_off();
}

static int wait_ms(void) {
    long long next = state == WAITING && !channel_in_archive() ? hello_ms : -1;
    if (deadline_ms >= 0 && (next < 0 || deadline_ms < next)) next = deadline_ms;
    if (next < 0) return -1;
    long long left = next - now_ms();
    return left < 0 ? 0 : (int)left;
}

static void live(int children) {
    for (;;) {
        struct pollfd inputs[] = {{.fd = children, .events = POLLIN}, {.fd = channel_descriptor(), .events = POLLIN}};
        poll(inputs, 2, wait_ms());
        if (inputs[1].revents & POLLIN) hear();
        else if (inputs[1].revents & POLLHUP) { /* nobody listens, and poll would return at once for ever */
            channel_reset();
            if (state == WAITING) deadline_ms = -1;
            poll(inputs, 1, 100);
        }
        reap(children);
        on_time();
    }
}

static int watch_children(void) {
    sigset_t dead_child;
    sigemptyset(&dead_child);
    sigaddset(&dead_child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &dead_child, NULL);
    return signalfd(-1, &dead_child, SFD_NONBLOCK | SFD_CLOEXEC);
}

int main(void) {
    setenv("PATH", "/bin", 1);
    if (!mount_kernel_trees() || !load_modules()) {
        say("FAILED vmm_start_failed the initramfs does not fit its kernel");
        power_off();
    }
    int adjust = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (adjust >= 0) {
        (void)!write(adjust, "-1000", 5);
        close(adjust);
    }
    network_prepare();
    int children = watch_children();
    if (!channel_open()) {
        say("FAILED vmm_start_failed no virtio-serial port named trueup.0");
        power_off();
    }
    say("HELLO");
    live(children);
}
