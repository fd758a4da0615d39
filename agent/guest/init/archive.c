/* The boot archive: a ustar file held in memory. Unknown entries and keys are ignored, so that an older guest can be
 * booted by a newer agent. */
#define _GNU_SOURCE
#include "init.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, NAME_BYTES = 100, SIZE_AT = 124, SIZE_BYTES = 12, TYPE_AT = 156 };

static struct bytes whole;

static size_t entry_size(const char *header) {
    size_t size = 0;
    for (int i = 0; i < SIZE_BYTES && header[SIZE_AT + i] >= '0' && header[SIZE_AT + i] <= '7'; i++)
        size = size * 8 + (size_t)(header[SIZE_AT + i] - '0');
    return size;
}

/* Where the entry after `at` begins, or 0 if the archive is cut off. */
static size_t entry_after(size_t at) {
    size_t size = entry_size(whole.data + at);
    size_t next = at + BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
    return size <= whole.size && next <= whole.size ? next : 0;
}

/* Keeps the archive. False if its entries do not fit into its bytes. */
bool archive_is_sound(struct bytes archive) {
    whole = archive;
    for (size_t at = 0; at + BLOCK <= whole.size && whole.data[at];) {
        at = entry_after(at);
        if (!at) return false;
    }
    return archive_find("boot.env").data && archive_find("argv").data;
}

struct bytes archive_find(const char *name) {
    for (size_t at = 0; at + BLOCK <= whole.size && whole.data[at]; at = entry_after(at)) {
        const char *header = whole.data + at;
        char type = header[TYPE_AT];
        if ((type == '0' || type == 0) && strncmp(header, name, NAME_BYTES) == 0)
            return (struct bytes){whole.data + at + BLOCK, entry_size(header)};
    }
    return (struct bytes){0};
}

/* The value of a KEY=VALUE line of boot.env. Taken as it is: nothing is quoted and nothing expands. */
bool boot_value(const char *key, char *value, size_t size) {
    struct bytes file = archive_find("boot.env");
    size_t key_size = strlen(key);
    value[0] = 0;
    for (char *line = file.data, *stop = file.data + file.size; line && line < stop;) {
        char *line_end = memchr(line, '\n', (size_t)(stop - line));
        if (!line_end) line_end = stop;
        size_t line_size = (size_t)(line_end - line);
        if (line_size > key_size && line[key_size] == '=' && memcmp(line, key, key_size) == 0) {
            size_t value_size = line_size - key_size - 1;
            if (value_size >= size) return false;
            memcpy(value, line + key_size + 1, value_size);
            value[value_size] = 0;
            return value_size > 0;
        }
        line = line_end + 1;
    }
    return false;
}

/* The NUL-ended records of an entry as a NULL-ended array, or NULL if there are too many. */
char **archive_records(const char *name) {
    struct bytes file = archive_find(name);
    char **records = calloc(ARGUMENTS_MAX + 1, sizeof *records);
    size_t count = 0;
    if (!records) return NULL;
    for (size_t at = 0; at < file.size; count++) {
        if (count == ARGUMENTS_MAX) return NULL;
        records[count] = strndup(file.data + at, file.size - at);
        if (!records[count]) return NULL;
        at += strlen(records[count]) + 1;
    }
    return records;
}

/* Nothing of it stays in memory once the process runs. */
void archive_wipe(void) {
    if (whole.data) explicit_bzero(whole.data, whole.size);
    free(whole.data);
    whole = (struct bytes){0};
}
