/* File systems. The image's root is an overlay: the shared squashfs below, the private ext4 layer above.
 *
 * This program itself stays in the initramfs, so that it can take everything apart at the end; it steps into the
 * image's root (chroot) only while it mounts there, so that links inside the image lead to places inside the image.
 * The process gets its own mount namespace whose root is the overlay (process.c): it never sees the initramfs.
 */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int outside = -1; /* the initramfs root, while inside the image's */

bool mount_kernel_trees(void) {
    static const char *trees[][2] = {{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}};
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        mkdir(trees[i][1], 0755);
        if (mount(trees[i][0], trees[i][1], trees[i][0], MS_NOSUID, NULL) != 0 && errno != EBUSY) return false;
    }
    return true;
}

/* /modules/order names the files, dependencies first (agent/guest/modules.py wrote it). Freed once they are loaded. */
bool load_modules(void) {
    FILE *order = fopen("/modules/order", "re");
    char name[200], path[256];
    if (!order) return false;
    while (fgets(name, sizeof name, order)) {
        name[strcspn(name, "\n")] = 0;
        snprintf(path, sizeof path, "/modules/%s", name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0 || (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST)) {
            say("module %s: %s", name, strerror(errno));
            return false;
        }
        close(file);
        unlink(path);
    }
    fclose(order);
    return true;
}

static bool block_with_serial(const char *serial, char *device, size_t size) {
    DIR *folder = opendir("/sys/block");
    bool found = false;
    for (struct dirent *entry; folder && !found && (entry = readdir(folder));) {
        char path[400], here[64];
        snprintf(path, sizeof path, "/sys/block/%s/serial", entry->d_name);
        found = entry->d_name[0] != '.' && read_small(path, here, sizeof here) && strcmp(here, serial) == 0;
        if (found) snprintf(device, size, "/dev/%.32s", entry->d_name);
    }
    if (folder) closedir(folder);
    return found;
}

static bool wait_for_block(const char *serial, char *device, size_t size) {
    for (long long deadline = now_ms() + DEVICE_WAIT_MS; !block_with_serial(serial, device, size); usleep(5000))
        if (now_ms() >= deadline) return false;
    return true;
}

static void mount_or_fail(
    const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    if (!make_folders(target) || mount(source, target, type, flags, data) != 0)
        fail("rootfs_build_failed", "mount %s (%s) on %s: %s", source, type, target, strerror(errno));
}

void enter_image_root(void) {
    outside = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (outside < 0 || chroot(NEW_ROOT) != 0 || chdir("/") != 0)
        fail("rootfs_build_failed", "enter the image's root: %s", strerror(errno));
}

void leave_image_root(void) {
    if (outside < 0) return;
    if (fchdir(outside) != 0 || chroot(".") != 0) say("leave the image's root: %s", strerror(errno));
    close(outside);
    outside = -1;
}

static void mount_overlay(void) {
    char root[64], layer[64];
    if (!wait_for_block("root", root, sizeof root)) fail("rootfs_build_failed", "no block device with serial root");
    if (!wait_for_block("layer", layer, sizeof layer)) fail("rootfs_build_failed", "no block device with serial layer");
    mount_or_fail(root, "/lower", "squashfs", MS_RDONLY, NULL);
    mount_or_fail(layer, "/layer", "ext4", MS_NOATIME, NULL);
    if (!make_folders("/layer/upper") || !make_folders("/layer/work"))
        fail("rootfs_build_failed", "prepare the layer: %s", strerror(errno));
    mount_or_fail("overlay", NEW_ROOT, "overlay", 0, "lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work");
}

/* Ends inside the image's root. */
void mount_root(void) {
    mount_overlay();
    enter_image_root();
    mount_or_fail("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_fail("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_fail("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, NULL);
    mount_or_fail("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5");
    mount_or_fail("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_or_fail("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
    mount_or_fail("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    static const char *links[][2] = {
        {"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) (void)!symlink(links[i][0], links[i][1]);
}

static bool mount_ext4(const char *device, const char *path, bool read_only) {
    unsigned long flags = MS_NOATIME | MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0);
    if (mount(device, path, "ext4", flags, NULL) == 0) return true;
    /* A device that cannot be written cannot replay its journal either. */
    return read_only && mount(device, path, "ext4", flags, "noload") == 0;
}

/* A new volume belongs to root; the process's user gets its top folder, or it could not use it. */
static void give_volume(const char *path, uid_t uid, gid_t gid) {
    struct stat top;
    if (uid != 0 && stat(path, &top) == 0 && top.st_uid == 0 && top.st_gid == 0 && chown(path, uid, gid) != 0)
        fail("volume_attach_failed", "give %s to user %u: %s", path, uid, strerror(errno));
}

static void mount_volume(char *line, uid_t uid, gid_t gid) {
    char device[64];
    char *path = strchr(line, ' '), *mode = strrchr(line, ' ');
    if (!path || path == mode || path[1] != '/') fail("volume_attach_failed", "bad line in mounts: %s", line);
    *path++ = *mode++ = 0;
    bool read_only = strcmp(mode, "ro") == 0;
    if (!wait_for_block(line, device, sizeof device))
        fail("volume_attach_failed", "no block device with serial %s", line);
    if (!make_folders(path) || !mount_ext4(device, path, read_only))
        fail("volume_attach_failed", "mount %s on %s: %s", line, path, strerror(errno));
    if (!read_only) give_volume(path, uid, gid);
}

/* Called inside the image's root. */
void mount_volumes(uid_t uid, gid_t gid) {
    struct bytes file = archive_find("mounts");
    char *text = file.data ? strndup(file.data, file.size) : NULL;
    for (char *rest = text, *line; rest && (line = strsep(&rest, "\n"));)
        if (*line) mount_volume(line, uid, gid);
    free(text);
}

static bool under(const char *path, const char *top) {
    size_t size = strlen(top);
    return strncmp(path, top, size) == 0 && (path[size] == '/' || path[size] == 0);
}

/* Newest mount first. What cannot be unmounted is made read-only, which writes out its journal as well. */
void unmount_all(void) {
    static char paths[64][1024];
    size_t count = 0;
    leave_image_root();
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    for (struct mntent *entry; mounts && count < 64 && (entry = getmntent(mounts));)
        if (under(entry->mnt_dir, NEW_ROOT) || under(entry->mnt_dir, "/layer"))
            snprintf(paths[count++], sizeof paths[0], "%s", entry->mnt_dir);
    if (mounts) endmntent(mounts);
    while (count-- > 0) {
        if (umount2(paths[count], 0) == 0) continue;
        say("unmount %s: %s", paths[count], strerror(errno));
        mount(NULL, paths[count], NULL, MS_REMOUNT | MS_RDONLY, NULL);
    }
}
