// SPDX-License-Identifier: GPL-2.0
/*
 * Files that keep growing (trace_pipe, kmsg): a thread reads each, and its data is sent as a
 * stream.
 *
 * The thread blocks in read, not in poll: poll on the trace_pipe of one CPU waits until a part of
 * the buffer is full (buffer_percent), and some files have no poll. A signal interrupts the read
 * when the stream is closed. While the channel has no room, the file is not read, so that the
 * kernel's own buffer fills, and the kernel counts what it loses.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STACK	   (64u << 10)
#define CHUNK	   (32u << 10)
#define RECORD	   (8u << 10) /* room that the kernel needs for a record of kmsg or trace_pipe */
#define IDLE_US	   20000      /* how soon to read again at the end of a file */
#define LAST_READS 256	      /* a file may grow faster than we read */
#define GATHER_US  2000	      /* events come in bursts: wake up once per burst, not per event */

struct follow {
	struct follow *next;
	struct request request; /* the OP_FOLLOW, whose id names the stream */
	pthread_t thread;
	atomic_bool stop;
	atomic_bool finished;
	char *path;
	int fd;
	size_t len;
	uint64_t lost; /* not reported yet */
	uint8_t data[CHUNK];
};

static struct follow *follows;

static bool stopped(const struct follow *f)
{
	return atomic_load(&f->stop) || request_stale(&f->request);
}

static void send_lost(struct follow *f)
{
	struct buf b = { 0 };

	if (!f->lost)
		return;
	frame_begin(&b);
	buf_u64(&b, f->lost);
	if (b.failed)
		return; /* next time */
	f->lost = 0;
	send_frame(&b, &f->request, OP_LOST);
}

static void send_data(struct follow *f)
{
	struct buf b = { 0 };

	if (f->len) {
		output_wait_room(f->request.session, &f->stop);
		frame_begin(&b);
		buf_u8(&b, STREAM_FILE);
		buf_put(&b, f->data, f->len);
		if (b.failed)
			f->lost += f->len;
		send_frame(&b, &f->request, OP_STREAM);
	}
	f->len = 0;
	send_lost(f);
}

static void send_end(struct follow *f, int error)
{
	struct buf b = { 0 };

	frame_begin(&b);
	buf_u8(&b, STREAM_FILE);
	buf_i32(&b, error);
	send_frame(&b, &f->request, OP_STREAM_END);
}

/* Reads once into the rest of the chunk. As read(2), but returns -errno. */
static ssize_t read_some(struct follow *f, bool wait)
{
	ssize_t n;

	fcntl(f->fd, F_SETFL, wait ? 0 : O_NONBLOCK);
	n = read(f->fd, f->data + f->len, sizeof(f->data) - f->len);
	if (n < 0)
		return -errno;
	f->len += (size_t)n;
	return n;
}

/* Reads what is available now. Returns the result of the last read. */
static ssize_t gather(struct follow *f)
{
	ssize_t n;

	do {
		if (sizeof(f->data) - f->len < RECORD)
			send_data(f);
		n = read_some(f, false);
		if (n == -EPIPE) { /* kmsg: records were overwritten, of unknown size */
			f->lost++;
			n = 1;
		}
	} while (n > 0 && !stopped(f));
	send_data(f);
	return n;
}

static void deliver(struct follow *f)
{
	ssize_t n;

	while (!stopped(f)) {
		n = gather(f);
		if (n == 0)
			usleep(IDLE_US);
		else if (n == -EAGAIN && (n = read_some(f, true)) > 0)
			usleep(GATHER_US);
		if (n == -EPIPE)
			f->lost++;
		else if (n < 0 && n != -EINTR && n != -EAGAIN) {
			send_end(f, (int)-n);
			return;
		}
	}
	/* Closed: still deliver what is available. */
	for (int i = 0; i < LAST_READS; i++) {
		n = read_some(f, false);
		if (sizeof(f->data) - f->len < RECORD)
			send_data(f);
		if (n <= 0 && n != -EINTR)
			break;
	}
	send_data(f);
	send_end(f, 0);
}

static void *follow_main(void *argument)
{
	struct follow *f = argument;

	/* O_NONBLOCK: opening a FIFO without a writer must not block. */
	do
		f->fd = open(f->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	while (f->fd < 0 && errno == EINTR && !stopped(f));
	reply_errno(&f->request, f->fd < 0 ? errno : 0);
	if (f->fd >= 0) {
		deliver(f);
		close(f->fd);
	}
	atomic_store(&f->finished, true);
	wake_main();
	return NULL;
}

static void free_follow(struct follow *f)
{
	free(f->path);
	free(f);
}

void follow_start(const struct request *r, struct reader *in)
{
	const char *path = read_str(in);
	struct follow *f = in->bad ? NULL : calloc(1, sizeof(*f));
	pthread_attr_t attr;
	int error;

	if (!f || !(f->path = strdup(path))) {
		reply_errno(r, in->bad ? EBADMSG : ENOMEM);
		free(f);
		return;
	}
	f->request = *r;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	error = pthread_create(&f->thread, &attr, follow_main, f);
	pthread_attr_destroy(&attr);
	if (error) {
		free_follow(f);
		reply_errno(r, error);
		return;
	}
	f->next = follows;
	follows = f;
}

void follow_stop(const struct request *r, struct reader *in)
{
	uint32_t id = read_u32(in);

	for (struct follow *f = follows; f; f = f->next)
		if (f->request.id == id && f->request.session == r->session)
			atomic_store(&f->stop, true);
	reply_errno(r, in->bad ? EBADMSG : 0);
}

bool follow_tick(void)
{
	struct follow **at = &follows, *f;
	bool some = false;

	while ((f = *at)) {
		if (atomic_load(&f->finished)) {
			*at = f->next;
			pthread_join(f->thread, NULL);
			free_follow(f);
			continue;
		}
		/* Repeat: a signal that arrives just before the read does not interrupt it. */
		if (stopped(f)) {
			pthread_kill(f->thread, SIGUSR1);
			some = true;
		}
		at = &f->next;
	}
	return some;
}

void follow_session_end(void)
{
	for (struct follow *f = follows; f; f = f->next)
		atomic_store(&f->stop, true);
}
