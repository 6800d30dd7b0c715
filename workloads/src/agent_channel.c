// SPDX-License-Identifier: GPL-2.0
/* The byte channel to the host: find frames in its bytes, also after stray bytes. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT_CHUNK   (64u << 10)
#define INPUT_AT_ONCE (1u << 20) /* bounded, so that other work is not delayed */
#define STALL_MS      100	 /* after this, a stalled frame may contain a new client's hello */
#define RETRY_MS      10	 /* a port does not report when a host connects */

static enum channel_kind kind;
static int listen_fd = -1;
static bool attached; /* a host is connected, as far as we know */
static struct buf in;
static int64_t last_input_ms;
static int fd = -1;

static void attach(int opened)
{
	fd = opened;
	attached = true;
	output_attach(fd);
}

void channel_init(enum channel_kind k, int opened)
{
	kind = k;
	if (kind == CHANNEL_LISTEN)
		listen_fd = opened;
	else
		attach(opened);
}

void channel_fail(const char *text)
{
	struct request r = { .session = session_now() };
	struct buf b = { 0 };

	if (!r.session)
		return;
	frame_begin(&b);
	buf_str(&b, text);
	send_frame(&b, &r, OP_ERROR);
	say("session ended: %s", text);
	session_end();
}

/* --- input ------------------------------------------------------------------------------------ */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Handles a frame at the start of data. Returns how many bytes to drop; 0: wait for more. */
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
 * When a client dies in the middle of a frame, we wait for the rest of it, and take the next
 * client's hello for that rest. So when a frame stalls, look for a hello inside its bytes.
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
	if (session_now())
		session_end();
	buf_free(&in);
	attached = false;
	output_attach(-1);
	if (kind != CHANNEL_PORT)
		close(fd);
}

static void accept_client(void)
{
	int client = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client >= 0)
		attach(client);
}

/* Reads what is available. Returns false when the other end has closed. */
static bool handle_input(void)
{
	size_t total = 0;
	ssize_t n;

	do {
		n = receive();
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		if (!attached)
			attach(fd); /* the host has reconnected to the port */
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
	return output_idle() ? POLLIN : POLLIN | POLLOUT;
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
		output_flush();
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
