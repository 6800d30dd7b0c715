// SPDX-License-Identifier: GPL-2.0
/* The queue of frames to the host, from any thread, and the session that they belong to. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STREAM_ROOM (256u << 10) /* replies never wait for more stream data than this */

struct out {
	struct out *next;
	uint8_t *data;
	size_t len;
	size_t sent;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t room = PTHREAD_COND_INITIALIZER;
static int fd = -1; /* no client to send to */
static struct out *queue;
static struct out **queue_end = &queue;
static size_t queued;
static atomic_uint session;
static uint32_t sessions;

uint32_t session_now(void)
{
	return atomic_load(&session);
}

bool request_stale(const struct request *r)
{
	return r->session != atomic_load(&session);
}

/* Called with the lock held. Drops the rest of a partly sent frame: the other end resynchronizes on
 * the magic. */
static void drop_queue(void)
{
	struct out *o;

	while ((o = queue)) {
		queue = o->next;
		free(o->data);
		free(o);
	}
	queue_end = &queue;
	queued = 0;
	pthread_cond_broadcast(&room);
}

void session_begin(void)
{
	pthread_mutex_lock(&lock);
	drop_queue();
	atomic_store(&session, ++sessions);
	pthread_mutex_unlock(&lock);
}

void session_stop(void)
{
	pthread_mutex_lock(&lock);
	atomic_store(&session, 0);
	pthread_cond_broadcast(&room);
	pthread_mutex_unlock(&lock);
}

/* Called with the lock held. */
static void flush_queue(void)
{
	struct out *o;
	ssize_t n;

	while ((o = queue)) {
		n = write(fd, o->data + o->sent, o->len - o->sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) { /* the reading side will detect it */
			drop_queue();
			return;
		}
		o->sent += (size_t)n;
		queued -= (size_t)n;
		if (o->sent < o->len)
			continue;
		queue = o->next;
		if (!queue)
			queue_end = &queue;
		free(o->data);
		free(o);
	}
	if (queued < STREAM_ROOM)
		pthread_cond_broadcast(&room);
}

/* Called with the lock held; takes over the buffer. */
static void enqueue(struct buf *b)
{
	struct out *o = fd < 0 || b->failed ? NULL : calloc(1, sizeof(*o));

	if (!o) {
		buf_free(b);
		return;
	}
	o->data = b->data;
	o->len = b->len;
	memset(b, 0, sizeof(*b));
	*queue_end = o;
	queue_end = &o->next;
	queued += o->len;
	if (queue == o)
		flush_queue();
	if (queue)
		wake_main();
}

void send_frame(struct buf *b, const struct request *r, uint16_t op)
{
	frame_end(b, op, r->id);
	pthread_mutex_lock(&lock);
	if (request_stale(r))
		buf_free(b);
	else
		enqueue(b);
	pthread_mutex_unlock(&lock);
	if (op & OP_REPLY && r->op != OP_HELLO)
		steady_answered();
}

void reply_begin(struct buf *b)
{
	frame_begin(b);
	buf_i32(b, 0);
}

void reply_errno(const struct request *r, int error)
{
	struct buf b = { 0 };

	frame_begin(&b);
	buf_i32(&b, error);
	send_frame(&b, r, r->op | OP_REPLY);
}

void reply_end(struct buf *b, const struct request *r)
{
	if (b->failed) {
		buf_free(b);
		reply_errno(r, ENOMEM);
		return;
	}
	send_frame(b, r, r->op | OP_REPLY);
}

bool output_idle(void)
{
	bool idle;

	pthread_mutex_lock(&lock);
	idle = !queue;
	pthread_mutex_unlock(&lock);
	return idle;
}

bool output_has_room(void)
{
	bool has;

	pthread_mutex_lock(&lock);
	has = queued < STREAM_ROOM;
	pthread_mutex_unlock(&lock);
	return has;
}

void output_wait_room(uint32_t of_session, const atomic_bool *stop)
{
	struct timespec until;

	pthread_mutex_lock(&lock);
	while (queued >= STREAM_ROOM && of_session == atomic_load(&session) && !atomic_load(stop)) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 1; /* setting stop does not signal the condition */
		pthread_cond_timedwait(&room, &lock, &until);
	}
	pthread_mutex_unlock(&lock);
}

void output_flush(void)
{
	pthread_mutex_lock(&lock);
	flush_queue();
	pthread_mutex_unlock(&lock);
}

void output_attach(int opened)
{
	pthread_mutex_lock(&lock);
	drop_queue();
	fd = opened;
	pthread_mutex_unlock(&lock);
}
