// SPDX-License-Identifier: GPL-2.0
/*
 * File operations, batched in frames.
 *
 * An operation is: u8 kind, u8 create, u32 mode, u64 offset, u64 size, str path, bytes data.
 * Its result is an i32 errno, and when that is 0:
 *	read: u8 1 if complete, bytes		write: u64 count
 *	list, walk, stat: entries, each: u8 1, str path, u32 mode, u8 is_dir,
 *		u8 0 nothing | 1 value, bytes | 2 i32 errno; after the last: u8 0
 * ECANCELED: not tried, because an earlier operation failed.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK  (64u << 10)
#define READ_LIMIT  (4u << 20)	/* of a file per operation; the host asks for the rest */
#define VALUE_LIMIT (1u << 20)	/* of a file in a walk */
#define REPLY_LIMIT (12u << 20) /* of a batch */
#define PATH_LIMIT  4096

struct operation {
	uint8_t kind;
	bool create;
	mode_t mode;
	uint64_t offset;
	uint64_t size;
	const char *path;
	const uint8_t *data;
	size_t data_len;
};

enum entry_value { VALUE_NONE = 0, VALUE_TEXT = 1, VALUE_ERROR = 2 };

static void parse_operation(struct reader *in, struct operation *op)
{
	op->kind = read_u8(in);
	op->create = read_u8(in);
	op->mode = read_u32(in);
	op->offset = read_u64(in);
	op->size = read_u64(in);
	op->path = read_str(in);
	op->data = read_bytes(in, &op->data_len);
}

/*
 * Repeat system calls that a signal interrupted, unless the session is over: then the signal came
 * from jobs_kick().
 */
static bool again(const struct request *r)
{
	return errno == EINTR && !request_stale(r);
}

static int open_file(const struct request *r, int dir, const char *path, int flags, mode_t mode)
{
	int fd;

	do
		fd = openat(dir, path, flags | O_CLOEXEC | O_NOCTTY, mode);
	while (fd < 0 && again(r));
	return fd;
}

/* Appends up to limit bytes. Returns 1 at the end of the file, 0 if there may be more, else -errno.
 */
static int read_into(const struct request *r, int fd, struct buf *out, uint64_t limit)
{
	uint64_t done = 0;
	uint8_t *to;
	size_t want;
	ssize_t n;

	while (done < limit) {
		want = limit - done < READ_CHUNK ? (size_t)(limit - done) : READ_CHUNK;
		to = buf_room(out, want);
		if (!to)
			return -ENOMEM;
		n = read(fd, to, want);
		if (n < 0 && again(r))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 1;
		out->len += (size_t)n;
		done += (uint64_t)n;
	}
	return 0;
}

static uint64_t limit_of_read(const struct operation *op, const struct buf *out)
{
	uint64_t limit = out->len < REPLY_LIMIT ? REPLY_LIMIT - out->len : 0;

	if (limit > READ_LIMIT)
		limit = READ_LIMIT;
	return op->size && op->size < limit ? op->size : limit;
}

static int do_read(const struct request *r, const struct operation *op, struct buf *out)
{
	uint64_t limit = limit_of_read(op, out);
	int fd, all = 0;
	size_t start;

	fd = open_file(r, AT_FDCWD, op->path, O_RDONLY, 0);
	if (fd < 0)
		return errno;
	if (op->offset && lseek(fd, (off_t)op->offset, SEEK_SET) < 0)
		all = -errno;
	buf_i32(out, 0);
	buf_u8(out, 0);
	start = out->len;
	buf_u32(out, 0);
	if (!all)
		all = read_into(r, fd, out, limit);
	close(fd);
	if (all < 0)
		return -all;
	if (op->size && out->len - start - 4 == op->size)
		all = 1;
	if (!out->failed)
		out->data[start - 1] = (uint8_t)all;
	buf_set_u32(out, start, (uint32_t)(out->len - start - 4));
	return 0;
}

static int do_write(const struct request *r, const struct operation *op, struct buf *out)
{
	int flags = O_WRONLY;
	ssize_t n;
	int fd, error;

	if (op->create)
		flags |= O_CREAT | (op->offset ? 0 : O_TRUNC);
	fd = open_file(r, AT_FDCWD, op->path, flags, op->mode);
	if (fd < 0)
		return errno;
	do {
		n = op->offset ? pwrite(fd, op->data, op->data_len, (off_t)op->offset)
			       : write(fd, op->data, op->data_len);
	} while (n < 0 && again(r));
	error = n < 0 ? errno : 0;
	close(fd);
	if (error)
		return error;
	buf_i32(out, 0);
	buf_u64(out, (uint64_t)n);
	return 0;
}

/* --- directories ------------------------------------------------------------------------------ */

static void put_entry(struct buf *out, const char *path, const struct stat *st)
{
	buf_u8(out, 1);
	buf_str(out, path);
	buf_u32(out, st->st_mode & 07777);
	buf_u8(out, S_ISDIR(st->st_mode));
}

/* For a link, describe its target, or the link itself if it dangles. */
static int stat_entry(int dir, const char *name, struct stat *st, bool *link)
{
	if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW))
		return errno;
	*link = S_ISLNK(st->st_mode);
	if (*link) {
		struct stat target;

		if (!fstatat(dir, name, &target, 0))
			*st = target;
	}
	return 0;
}

static void put_value(const struct request *r, int dir, const char *name, mode_t mode,
		      struct buf *out)
{
	size_t start = out->len;
	int fd, result;

	/* Root could open it, but a driver may do anything on a read of a write-only
	 * file. */
	if (!(mode & 0444)) {
		buf_u8(out, VALUE_ERROR);
		buf_i32(out, EACCES);
		return;
	}
	buf_u8(out, VALUE_TEXT);
	buf_u32(out, 0);
	fd = open_file(r, dir, name, O_RDONLY | O_NONBLOCK, 0);
	result = fd < 0 ? -errno : read_into(r, fd, out, VALUE_LIMIT);
	if (fd >= 0)
		close(fd);
	if (result == 1) {
		buf_set_u32(out, start + 1, (uint32_t)(out->len - start - 5));
		return;
	}
	out->len = start;
	buf_u8(out, VALUE_ERROR);
	buf_i32(out, result ? -result : EFBIG);
}

struct walk {
	const struct request *r;
	struct buf *out;
	bool deep;
	size_t prefix; /* length of the directory part of path, with its slash */
	char path[PATH_LIMIT];
};

static int walk_directory(struct walk *w, int dir);

/* Enters the directory called name; a vanished or unreadable directory counts as empty. */
static void walk_below(struct walk *w, int parent, const char *name, size_t name_len)
{
	size_t prefix = w->prefix;
	int dir;

	if (prefix + name_len + 2 > sizeof(w->path))
		return;
	dir = open_file(w->r, parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (dir < 0)
		return;
	w->path[prefix + name_len] = '/';
	w->prefix = prefix + name_len + 1;
	walk_directory(w, dir);
	w->prefix = prefix;
}

static void walk_entry(struct walk *w, int dir, const char *name)
{
	size_t name_len = strlen(name);
	struct stat st;
	bool link;

	if (!strcmp(name, ".") || !strcmp(name, "..") ||
	    w->prefix + name_len + 1 > sizeof(w->path) || stat_entry(dir, name, &st, &link))
		return;
	memcpy(w->path + w->prefix, name, name_len + 1);
	put_entry(w->out, w->path, &st);
	if (w->deep && !S_ISDIR(st.st_mode))
		put_value(w->r, dir, name, st.st_mode, w->out);
	else
		buf_u8(w->out, VALUE_NONE);
	/* List links to directories, but do not follow them: sysfs has cycles. */
	if (w->deep && S_ISDIR(st.st_mode) && !link)
		walk_below(w, dir, name, name_len);
}

/* Takes over the descriptor. */
static int walk_directory(struct walk *w, int dir)
{
	DIR *d = fdopendir(dir);
	struct dirent *e;
	int error;

	if (!d) {
		error = errno;
		close(dir);
		return error;
	}
	for (errno = 0; (e = readdir(d)); errno = 0) {
		if (request_stale(w->r) || w->out->len > REPLY_LIMIT)
			break;
		walk_entry(w, dir, e->d_name);
	}
	error = e ? 0 : errno;
	closedir(d);
	return error;
}

static int do_list(const struct request *r, const struct operation *op, struct buf *out)
{
	struct walk *w;
	int dir, error;

	dir = open_file(r, AT_FDCWD, op->path, O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		return errno;
	w = calloc(1, sizeof(*w));
	if (!w) {
		close(dir);
		return ENOMEM;
	}
	w->r = r;
	w->out = out;
	w->deep = op->kind == FILE_WALK;
	buf_i32(out, 0);
	error = walk_directory(w, dir);
	buf_u8(out, 0);
	free(w);
	if (!error && out->len > REPLY_LIMIT)
		error = EMSGSIZE;
	return error;
}

static int do_stat(const struct operation *op, struct buf *out)
{
	struct stat st;
	bool link;
	int error = stat_entry(AT_FDCWD, op->path, &st, &link);

	if (error)
		return error;
	buf_i32(out, 0);
	put_entry(out, op->path, &st);
	buf_u8(out, VALUE_NONE);
	buf_u8(out, 0);
	return 0;
}

static int done(int result, struct buf *out)
{
	if (result)
		return errno;
	buf_i32(out, 0);
	return 0;
}

static int do_operation(const struct request *r, const struct operation *op, struct buf *out)
{
	switch (op->kind) {
	case FILE_READ:
		return do_read(r, op, out);
	case FILE_WRITE:
		return do_write(r, op, out);
	case FILE_LIST:
	case FILE_WALK:
		return do_list(r, op, out);
	case FILE_STAT:
		return do_stat(op, out);
	case FILE_MKDIR:
		return done(mkdir(op->path, op->mode), out);
	case FILE_RMDIR:
		return done(rmdir(op->path), out);
	case FILE_UNLINK:
		return done(unlink(op->path), out);
	}
	return EOPNOTSUPP;
}

void files_batch(const struct request *r, struct reader *in)
{
	bool stop_on_error = read_u8(in), stopped = false;
	uint32_t count = read_u32(in);
	struct buf out = { 0 };
	struct operation op;
	size_t start;
	int error;

	reply_begin(&out);
	for (uint32_t i = 0; i < count && !in->bad && !request_stale(r); i++) {
		parse_operation(in, &op);
		if (in->bad)
			break;
		start = out.len;
		error = stopped ? ECANCELED : do_operation(r, &op, &out);
		if (error) {
			out.len = start; /* drop the partial result of a failed operation */
			buf_i32(&out, error);
			stopped = stop_on_error;
		}
	}
	if (in->bad || in->at != in->end) {
		buf_free(&out);
		reply_errno(r, EBADMSG);
		return;
	}
	reply_end(&out, r);
}
