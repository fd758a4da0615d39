/* PID 1 of a guest, in eight small parts. The contract with the agent is ../CONTRACT.md.
 *
 *   main.c      the life of the machine: one loop, one state, three inputs (the channel, dead children, a deadline)
 *   channel.c   lines to and from the agent; the bytes of the archive
 *   archive.c   the boot archive: tar entries, boot.env, NUL-ended records; all in memory, never in a file
 *   report.c    the console, FAILED, powering off
 *   disks.c     the root (squashfs + layer as an overlay), volumes, tmpfs; and taking all of it apart
 *   secret.c    the secret, from memory to a tmpfs
 *   network.c   lo and eth0 by ioctl, hosts and resolv.conf
 *   process.c   the image's process: its own mount namespace, user, folder, descriptors
 *
 * One static binary: no shell ever sees a value that came from outside.
 */
#ifndef TRUEUP_INIT_H
#define TRUEUP_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
    ARCHIVE_BYTES_MAX = 4 << 20, /* the secret is at most 256 KiB, arguments and environment share the rest */
    LINE_BYTES_MAX = 200,        /* the longest line that the agent sends is "BOOT 4194304" */
    ARGUMENTS_MAX = 4096,        /* also of environment entries */
    DEVICE_WAIT_MS = 10000,      /* a device that is not there by then was not given to this machine */
    HELLO_EVERY_MS = 1000,
    ARCHIVE_STALL_MS = 5000,     /* an archive that stops coming is dropped; HELLO begins anew */
    ORPHANS_GRACE_MS = 2000,     /* for what the process left behind, after it has ended */
};

#define NEW_ROOT "/newroot"

struct bytes {
    char *data; /* NULL: there is none */
    size_t size;
};

/* channel.c */
enum input { INPUT_NONE, INPUT_LINE, INPUT_ARCHIVE };
bool channel_open(void);
int channel_descriptor(void);
void channel_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
enum input channel_next(char line[LINE_BYTES_MAX], struct bytes *archive);
void channel_expect(size_t archive_bytes);
void channel_skip(size_t archive_bytes);
bool channel_in_archive(void);
void channel_reset(void);

/* archive.c */
bool archive_is_sound(struct bytes archive);
struct bytes archive_find(const char *name);
bool boot_value(const char *key, char *value, size_t size);
char **archive_records(const char *name);
void archive_wipe(void);

/* report.c */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *reason_code, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
void power_off(void) __attribute__((noreturn));
long long now_ms(void);
bool write_file(const char *path, const char *content, size_t size, mode_t mode, uid_t uid, gid_t gid);
bool make_folders(const char *path);
size_t read_small(const char *path, char *buffer, size_t size);

/* disks.c */
bool mount_kernel_trees(void);
bool load_modules(void);
void enter_image_root(void);
void leave_image_root(void);
void mount_root(void);
void mount_volumes(uid_t uid, gid_t gid);
void unmount_all(void);

/* secret.c */
void place_secret(uid_t uid, gid_t gid);

/* network.c */
void network_prepare(void);
void network_up(void);
void write_network_files(void);

/* process.c */
void process_user(uid_t *uid, gid_t *gid);
int stop_signal(void);
pid_t process_start(uid_t uid, gid_t gid);

#endif
