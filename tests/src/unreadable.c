/* A disk that cannot read one part of one file: UNREADABLE=FILE:FROM:TO. What lies in front of it is read as ever, as the
 * kernel does. Loaded before the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static struct stat bad;
static off_t from, to;
static int is_set;

__attribute__((constructor)) static void begin(void) {
  const char *said = getenv("UNREADABLE");
  char *path = said ? strdup(said) : NULL;
  char *last = path ? strrchr(path, ':') : NULL;
  if (!last) return;
  to = atoll(last + 1);
  *last = 0;
  char *first = strrchr(path, ':');
  if (!first) return;
  from = atoll(first + 1);
  *first = 0;
  is_set = stat(path, &bad) == 0;
}

/* How many of so many bytes can be read there; -1: none, and errno says why. */
static ssize_t readable(int fd, size_t wanted, off_t at) {
  struct stat it;
  int saved = errno;
  int other = !is_set || fstat(fd, &it) != 0 || it.st_ino != bad.st_ino || it.st_dev != bad.st_dev;
  errno = saved;
  if (other || at >= to || at + (off_t)wanted <= from || wanted == 0) return wanted;
  if (at < from) return from - at;
  errno = EIO;
  return -1;
}

static off_t here(int fd) {
  int saved = errno;
  off_t at = lseek(fd, 0, SEEK_CUR);
  errno = saved;
  return at;
}

ssize_t read(int fd, void *to_where, size_t wanted) {
  static ssize_t (*next)(int, void *, size_t);
  if (!next) next = dlsym(RTLD_NEXT, "read");
  ssize_t may = is_set ? readable(fd, wanted, here(fd)) : (ssize_t)wanted;
  return may < 0 ? may : next(fd, to_where, may);
}

ssize_t readv(int fd, const struct iovec *parts, int count) {
  static ssize_t (*next)(int, const struct iovec *, int);
  if (!next) next = dlsym(RTLD_NEXT, "readv");
  if (!is_set || count == 0) return next(fd, parts, count);
  ssize_t may = readable(fd, parts[0].iov_len, here(fd));
  if (may < 0) return may;
  struct iovec first = {parts[0].iov_base, may};
  return next(fd, &first, 1);
}

ssize_t pread64(int fd, void *to_where, size_t wanted, off_t at) {
  static ssize_t (*next)(int, void *, size_t, off_t);
  if (!next) next = dlsym(RTLD_NEXT, "pread64");
  ssize_t may = readable(fd, wanted, at);
  return may < 0 ? may : next(fd, to_where, may, at);
}

ssize_t pread(int fd, void *to_where, size_t wanted, off_t at) { return pread64(fd, to_where, wanted, at); }
