/* The secret's way: from this program's memory into a tmpfs, and nowhere else. */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

static bool is_empty(const char *path) {
    DIR *folder = opendir(path);
    int entries = 0;
    while (folder && readdir(folder)) entries++;
    if (folder) closedir(folder);
    return entries <= 2;
}

/* A tmpfs of its own at the secret's folder, unless that is /run or /tmp, which are tmpfs already. It hides nothing. */
static void mount_secret_folder(const char *folder) {
    if (strcmp(folder, "/run") == 0 || strcmp(folder, "/tmp") == 0) return;
    if (!make_folders(folder)) fail("secrets_injection_failed", "make %s: %s", folder, strerror(errno));
    if (!is_empty(folder))
        fail("secrets_injection_failed", "%s is not empty: the secret's tmpfs would hide its files", folder);
    if (mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m") != 0)
        fail("secrets_injection_failed", "mount a tmpfs on %s: %s", folder, strerror(errno));
}

/* Called inside the image's root. */
void place_secret(uid_t uid, gid_t gid) {
    struct bytes secret = archive_find("secret");
    struct bytes path = archive_find("secret.path"), mode = archive_find("secret.mode");
    char file[1024], folder[1024];
    if (!secret.data) return;
    snprintf(file, sizeof file, "%.*s", (int)path.size, path.data ? path.data : "");
    file[strcspn(file, "\n")] = 0;
    strcpy(folder, file);
    char *slash = strrchr(folder, '/');
    if (file[0] != '/' || slash == folder) fail("secrets_injection_failed", "%s cannot be a secret's path", file);
    *slash = 0;
    char digits[8] = {0};
    memcpy(digits, mode.data ? mode.data : "400", mode.data && mode.size < sizeof digits ? mode.size : 3);
    mount_secret_folder(folder);
    if (!write_file(file, secret.data, secret.size, (mode_t)strtoul(digits, NULL, 8) & 0777, uid, gid))
        fail("secrets_injection_failed", "write %s: %s", file, strerror(errno));
}
