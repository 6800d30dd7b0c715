// SPDX-License-Identifier: GPL-2.0
/* The byte channel to the host: frames in, frames out, and finding the beat again after stray
 * bytes. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT_CHUNK   (64u << 10)
#define INPUT_AT_ONCE (1u << 20)   /* so that other work gets its turn */
#define STREAM_ROOM   (256u << 10) /* replies never wait behind more stream data than this */
#define STALL_MS      100 /* a frame that stops coming: perhaps a new client's hello is in it */
#define RETRY_MS      10  /* a port without a host tells nothing when one comes */

struct out {
	struct out *next;
	uint8_t *data;
	size_t len;
	size_t sent;
};

static enum channel_kind kind;
static int listen_fd = -1;
static bool attached; /* there is somebody at the other end, as far as we know */
static struct buf in;
static int64_t last_input_ms;

/* Below: shared with the worker threads. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t room = PTHREAD_COND_INITIALIZER;
static int fd = -1;
static struct out *queue;
static struct out **queue_end = &queue;
static size_t queued;
static atomic_uint session;
static uint32_t sessions;

void channel_init(enum channel_kind k, int opened)
{
	kind = k;
	if (kind == CHANNEL_LISTEN) {
		listen_fd = opened;
	} else {
		fd = opened;
		attached = true;
	}
}

uint32_t channel_session(void)
{
	return atomic_load(&session);
}

bool request_stale(const struct request *r)
{
	return r->session != atomic_load(&session);
}

/* Called with the lock held. A frame half sent is cut off: the other end looks for the next magic.
 */
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

void channel_session_begin(void)
{
	pthread_mutex_lock(&lock);
	drop_queue();
	atomic_store(&session, ++sessions);
	pthread_mutex_unlock(&lock);
}

void channel_session_end(void)
{
	pthread_mutex_lock(&lock);
	atomic_store(&session, 0);
	pthread_cond_broadcast(&room);
	pthread_mutex_unlock(&lock);
}

/* --- output ----------------------------------------------------------------------------------- */

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
		if (n < 0) { /* the reading side will notice */
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

/* Called with the lock held; takes the buffer over. */
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

void channel_fail(const char *text)
{
	struct request r = { .session = channel_session() };
	struct buf b = { 0 };

	if (!r.session)
		return;
	frame_begin(&b);
	buf_str(&b, text);
	send_frame(&b, &r, OP_ERROR);
	say("session ended: %s", text);
	session_end();
}

bool channel_idle(void)
{
	bool idle;

	pthread_mutex_lock(&lock);
	idle = !queue;
	pthread_mutex_unlock(&lock);
	return idle;
}

bool channel_has_room(void)
{
	bool has;

	pthread_mutex_lock(&lock);
	has = queued < STREAM_ROOM;
	pthread_mutex_unlock(&lock);
	return has;
}

void channel_wait_room(uint32_t of_session, const atomic_bool *stop)
{
	struct timespec until;

	pthread_mutex_lock(&lock);
	while (queued >= STREAM_ROOM && of_session == atomic_load(&session) && !atomic_load(stop)) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 1; /* nobody signals when stop is set */
		pthread_cond_timedwait(&room, &lock, &until);
	}
	pthread_mutex_unlock(&lock);
}

/* --- input ------------------------------------------------------------------------------------ */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* How many bytes of data to leave behind; 0: more must come first. */
static size_t take_frame(const uint8_t *data, size_t len)
{
	const uint8_t *next;
	struct header h;

	if (len < WIRE_HEADER)
		return 0;
	if (!header_parse(data, &h)) {
		channel_fail("bytes that are no frame");
		next = memchr(data + 1, WIRE_MAGIC & 0xff, len - 1);
		return next ? (size_t)(next - data) : len;
	}
	if (h.length > WIRE_MAX_PAYLOAD) {
		channel_fail("a frame longer than allowed");
		return WIRE_HEADER;
	}
	if (len - WIRE_HEADER < h.length)
		return 0;
	dispatch(&h, data + WIRE_HEADER);
	return WIRE_HEADER + h.length;
}

static void drop_input(size_t len)
{
	in.len -= len;
	memmove(in.data, in.data + len, in.len);
	if (!in.len && in.cap > INPUT_CHUNK)
		buf_free(&in);
}

static void take_frames(void)
{
	size_t done = 0, n;

	while (done < in.len && (n = take_frame(in.data + done, in.len - done)))
		done += n;
	if (done)
		drop_input(done);
}

/*
 * A client that died in the middle of a frame leaves us waiting for the rest, into which the next
 * client's hello falls. So when a frame stalls, look for a hello inside what came.
 */
static void resync(void)
{
	const uint8_t *at = in.data, *end = in.data + in.len;
	struct header h;

	while ((at = memchr(at + 1, WIRE_MAGIC & 0xff, (size_t)(end - at - 1))) &&
	       end - at >= WIRE_HEADER) {
		if (!header_parse(at, &h) || h.op != OP_HELLO || h.length > 64 ||
		    (size_t)(end - at) < WIRE_HEADER + h.length)
			continue;
		drop_input((size_t)(at - in.data));
		take_frames();
		return;
	}
}

static ssize_t receive(void)
{
	uint8_t *to = buf_room(&in, INPUT_CHUNK);
	ssize_t n;

	if (!to) {
		buf_free(&in);
		channel_fail("no memory for a frame");
		errno = EAGAIN;
		return -1;
	}
	n = read(fd, to, INPUT_CHUNK);
	if (n > 0)
		in.len += (size_t)n;
	return n;
}

static void detach(void)
{
	if (channel_session())
		session_end();
	buf_free(&in);
	attached = false;
	pthread_mutex_lock(&lock);
	drop_queue();
	if (kind != CHANNEL_PORT) {
		close(fd);
		fd = -1;
	}
	pthread_mutex_unlock(&lock);
}

static void accept_client(void)
{
	int client = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client < 0)
		return;
	pthread_mutex_lock(&lock);
	fd = client;
	pthread_mutex_unlock(&lock);
	attached = true;
}

/* Read what is there. False: the other end has gone. */
static bool handle_input(void)
{
	size_t total = 0;
	ssize_t n;

	do {
		n = receive();
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		attached = true;
		if (n < 0)
			return true;
		last_input_ms = now_ms();
		total += (size_t)n;
		take_frames();
	} while (in.len && total < INPUT_AT_ONCE);
	return true;
}

int channel_fd(void)
{
	if (!attached)
		return kind == CHANNEL_LISTEN ? listen_fd : -1;
	return fd;
}

short channel_events(void)
{
	return channel_idle() ? POLLIN : POLLIN | POLLOUT;
}

int channel_timeout_ms(void)
{
	if (!attached && kind == CHANNEL_PORT)
		return RETRY_MS;
	return in.len ? STALL_MS : -1;
}

bool channel_handle(short revents)
{
	if (kind == CHANNEL_LISTEN && !attached) {
		if (revents)
			accept_client();
		return true;
	}
	if (revents & POLLOUT) {
		pthread_mutex_lock(&lock);
		flush_queue();
		pthread_mutex_unlock(&lock);
	}
	if (!revents && attached) {
		if (in.len && now_ms() - last_input_ms >= STALL_MS)
			resync();
		return true;
	}
	if (revents == POLLOUT)
		return true;
	if (handle_input())
		return true;
	detach();
	return kind != CHANNEL_FD;
}
