/* What a disk keeps when the power fails, at its worst: only what was made durable.
 *
 * Preloaded into a process, this library follows the regular files under the folder FOLDER and keeps of each, under DURABLE,
 * what a disk has that writes nothing before it is told to:
 *   - the bytes of a file, as they were at its last fsync or fdatasync, whatever it is called: they are in CONTENTS;
 *   - the names in a folder, as they were at the last fsync of the folder. A file that is synced brings its own name along
 *     where that is new, as journalling file systems do.
 * The process is then killed at any instant, and what is in DURABLE is what the next one finds.
 *
 * A copy is made whole, under another name, and put in place by rename: so DURABLE is right at every instant, and the
 * answer of fsync is given only when it is. What is mapped into memory (the index of SQLite's log) needs no care: SQLite
 * makes it anew.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static const char *folder, *durable, *contents;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static unsigned long drafts;

static void fail(const char *what) {
    fprintf(stderr, "power shim: %s: %s\n", what, strerror(errno));
    abort();
}

/* The path of an open file below FOLDER, or NULL where it is not one that is followed. */
static const char *name_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (!folder || !durable || !contents || length < 0) return NULL;
    path[length] = 0;
    size_t under = strlen(folder);
    if (strncmp(path, folder, under) != 0) return NULL;
    if (path[under] == 0) return "";
    return path[under] == '/' ? path + under + 1 : NULL;
}

/* Where the durable bytes of a file are, by what it is and not by its name. The number of a file that is gone is used
 * again, so its time of birth is a part of it. */
static void contents_of(const char *path, char found[PATH_MAX]) {
    struct statx about;
    if (statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &about) < 0) fail("statx");
    snprintf(found, PATH_MAX, "%s/%llu-%lld-%u", contents, (unsigned long long)about.stx_ino,
             (long long)about.stx_btime.tv_sec, about.stx_btime.tv_nsec);
}

/* Gives durable bytes a durable name, at once. */
static void name(const char *bytes, const char *as) {
    char draft[PATH_MAX], kept[PATH_MAX];
    snprintf(draft, sizeof draft, "%s/draft-%d-%lu", contents, (int)getpid(), drafts++);
    snprintf(kept, sizeof kept, "%s/%s", durable, as);
    if (link(bytes, draft) < 0 || rename(draft, kept) < 0) fail("name");
    /* Where both were the same file already, rename leaves the draft. */
    unlink(draft);
}

/* Copies a file, and puts the copy in place at once. */
static void keep(int fd, const char *as) {
    char draft[PATH_MAX], kept[PATH_MAX], self[64], bytes[1 << 16];
    snprintf(draft, sizeof draft, "%s/draft-%d-%lu", contents, (int)getpid(), drafts++);
    /* Another description of the file: the place of the first is not touched, and it may be open for writing alone. */
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    contents_of(self, kept);
    int from = open(self, O_RDONLY | O_CLOEXEC);
    int to = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from < 0 || to < 0) fail("open");
    off_t at = 0;
    ssize_t some;
    while ((some = pread(from, bytes, sizeof bytes, at)) > 0) {
        if (write(to, bytes, (size_t)some) != some) fail("write");
        at += some;
    }
    if (some < 0 || rename(draft, kept) < 0) fail("keep");
    close(from);
    close(to);
    name(kept, as);
}

__attribute__((constructor)) static void begin(void) {
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    folder = getenv("FOLDER");
    durable = getenv("DURABLE");
    contents = getenv("CONTENTS");
    if (!real_fsync || !real_fdatasync) fail("no libc below");
    if (!folder || !durable || !contents) return;
    /* What is there when it begins was there before the power came back: all of it is durable. */
    DIR *names = opendir(folder);
    if (!names) fail("opendir");
    for (struct dirent *entry; (entry = readdir(names));) {
        if (entry->d_type != DT_REG) continue;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) fail("open");
        keep(file, entry->d_name);
        close(file);
    }
    closedir(names);
}

/* The names become those of now, each with what is durable of its file: nothing, where that was never synced. */
static void keep_names(void) {
    char here[PATH_MAX], there[PATH_MAX];
    struct stat ignored;
    DIR *names = opendir(durable);
    if (!names) fail("opendir");
    for (struct dirent *entry; (entry = readdir(names));) {
        snprintf(here, sizeof here, "%s/%s", folder, entry->d_name);
        snprintf(there, sizeof there, "%s/%s", durable, entry->d_name);
        if (entry->d_type == DT_REG && stat(here, &ignored) < 0 && unlink(there) < 0) fail("unlink");
    }
    closedir(names);
    names = opendir(folder);
    if (!names) fail("opendir");
    for (struct dirent *entry; (entry = readdir(names));) {
        if (entry->d_type != DT_REG) continue;
        snprintf(here, sizeof here, "%s/%s", folder, entry->d_name);
        /* Gone in between: it is no name of now. */
        if (stat(here, &ignored) < 0) continue;
        contents_of(here, there);
        if (stat(there, &ignored) < 0) {
            int made = open(there, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            if (made < 0) fail("create");
            close(made);
        }
        name(there, entry->d_name);
    }
    closedir(names);
}

static int synced(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    struct stat about;
    int answer = real(fd);
    const char *name = answer == 0 ? name_of(fd, path) : NULL;
    if (!name) return answer;
    pthread_mutex_lock(&one_at_a_time);
    if (*name == 0) keep_names();
    else if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_nlink > 0) keep(fd, name);
    pthread_mutex_unlock(&one_at_a_time);
    return 0;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }
