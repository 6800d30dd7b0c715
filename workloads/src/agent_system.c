// SPDX-License-Identifier: GPL-2.0
/* Requests that concern the whole machine. Each may block, so all run in workers. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int do_mount(struct reader *in)
{
	const char *source = read_str(in);
	const char *target = read_str(in);
	const char *type = read_str(in);
	uint64_t flags = read_u64(in);
	const char *data = read_str(in);

	if (in->bad)
		return EBADMSG;
	return mount(source, target, type, flags, data) ? errno : 0;
}

int system_load_module(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return errno;
	if (syscall(SYS_finit_module, fd, parameters, 0))
		error = errno;
	close(fd);
	return error;
}

static int do_swapon(struct reader *in)
{
	const char *path = read_str(in);
	uint32_t flags = read_u32(in);

	if (in->bad)
		return EBADMSG;
	return swapon(path, (int)flags) ? errno : 0;
}

/* A restored guest has the random state of its snapshot: replace it. */
static int do_reseed(struct reader *in)
{
	struct rand_pool_info *info;
	const uint8_t *bytes;
	int fd, error = 0;
	size_t len;

	bytes = read_bytes(in, &len);
	if (in->bad || len > 4096)
		return EBADMSG;
	fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno;
	info = calloc(1, sizeof(*info) + len);
	if (!info) {
		close(fd);
		return ENOMEM;
	}
	info->entropy_count = (int)len * 8;
	info->buf_size = (int)len;
	memcpy(info->buf, bytes, len);
	if (ioctl(fd, RNDADDENTROPY, info) || ioctl(fd, RNDRESEEDCRNG))
		error = errno;
	free(info);
	close(fd);
	return error;
}

/* The host waits by the guest's clock, which may be faster or slower than its own. */
static int do_sleep(const struct request *r, struct reader *in)
{
	uint64_t until_ns = read_u64(in);
	struct timespec until = {
		.tv_sec = (time_t)(until_ns / 1000000000u),
		.tv_nsec = (long)(until_ns % 1000000000u),
	};
	int error;

	if (in->bad)
		return EBADMSG;
	do {
		error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	} while (error == EINTR && !request_stale(r));
	return error;
}

static int do_request(const struct request *r, struct reader *in)
{
	switch (r->op) {
	case OP_MOUNT:
		return do_mount(in);
	case OP_SWAPON:
		return do_swapon(in);
	case OP_RESEED:
		return do_reseed(in);
	case OP_SLEEP:
		return do_sleep(r, in);
	}
	return EOPNOTSUPP;
}

void system_request(const struct request *r, struct reader *in)
{
	if (request_stale(r))
		return;
	reply_errno(r, do_request(r, in));
}
