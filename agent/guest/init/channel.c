/* The virtio-serial port `trueup.0`: lines both ways, and the archive's bytes after BOOT.
 *
 * The port never blocks this program: a line that the host does not take is lost, and PING asks again. While the host
 * is away poll() reports a hang-up without end; main.c then looks only every 100 ms. What the host had sent only in
 * part is dropped at a hang-up, so that its next words start a line.
 */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int port = -1;
static char buffer[16384];
static size_t begin, end; /* what of the buffer is not used up */
static char line_part[LINE_BYTES_MAX];
static size_t line_size;
static bool line_too_long;
static struct bytes incoming;
static size_t incoming_wanted;
static size_t unwanted; /* bytes of an archive that comes too late */

static int open_port(void) {
    DIR *folder = opendir("/sys/class/virtio-ports");
    int found = -1;
    for (struct dirent *entry; folder && found < 0 && (entry = readdir(folder));) {
        char path[400], name[64];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        if (!read_small(path, name, sizeof name) || strcmp(name, "trueup.0") != 0) continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        found = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    if (folder) closedir(folder);
    return found;
}

bool channel_open(void) {
    for (long long deadline = now_ms() + DEVICE_WAIT_MS; port < 0 && now_ms() < deadline;) {
        port = open_port();
        if (port < 0) usleep(5000);
    }
    return port >= 0;
}

int channel_descriptor(void) { return port; }

void channel_send(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (size < 0) return;
    if ((size_t)size > sizeof line - 2) size = sizeof line - 2;
    line[size++] = '\n';
    if (port >= 0 && write(port, line, (size_t)size) < 0 && errno != EAGAIN) say("channel: %s", strerror(errno));
}

bool channel_in_archive(void) { return incoming.data != NULL; }

void channel_expect(size_t archive_bytes) {
    incoming.data = malloc(archive_bytes + 1);
    incoming.size = 0;
    incoming_wanted = archive_bytes;
}

/* An archive that nobody asked for is swallowed: its bytes must not be read as lines. */
void channel_skip(size_t archive_bytes) { unwanted = archive_bytes; }

/* Forgets what came in part. */
void channel_reset(void) {
    if (incoming.data) explicit_bzero(incoming.data, incoming.size);
    free(incoming.data);
    incoming = (struct bytes){0};
    begin = end = line_size = unwanted = 0;
    line_too_long = false;
}

static bool take_archive(struct bytes *archive) {
    size_t part = end - begin;
    if (part > incoming_wanted - incoming.size) part = incoming_wanted - incoming.size;
    memcpy(incoming.data + incoming.size, buffer + begin, part);
    explicit_bzero(buffer + begin, part);
    incoming.size += part;
    begin += part;
    if (incoming.size < incoming_wanted) return false;
    incoming.data[incoming.size] = 0;
    *archive = incoming;
    incoming = (struct bytes){0};
    return true;
}

static void skip_unwanted(void) {
    size_t part = end - begin < unwanted ? end - begin : unwanted;
    explicit_bzero(buffer + begin, part);
    begin += part;
    unwanted -= part;
}

static bool take_line(char line[LINE_BYTES_MAX]) {
    skip_unwanted();
    while (begin < end) {
        char c = buffer[begin++];
        if (c != '\n') {
            if (line_size + 1 < sizeof line_part) line_part[line_size++] = c;
            else line_too_long = true;
            continue;
        }
        bool whole = !line_too_long;
        memcpy(line, line_part, line_size);
        line[line_size] = 0;
        line_size = 0;
        line_too_long = false;
        if (whole) return true;
        say("a line longer than %d bytes was ignored", LINE_BYTES_MAX);
    }
    return false;
}

/* The next whole thing that the host said, if it is here already. */
enum input channel_next(char line[LINE_BYTES_MAX], struct bytes *archive) {
    for (;;) {
        if (channel_in_archive()) {
            if (take_archive(archive)) return INPUT_ARCHIVE;
        } else if (take_line(line)) {
            return INPUT_LINE;
        }
        ssize_t count = read(port, buffer, sizeof buffer);
        if (count <= 0) return INPUT_NONE; /* nothing more now, or the host is away */
        begin = 0;
        end = (size_t)count;
    }
}
