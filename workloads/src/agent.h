/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest agent's parts.
 *
 * The main thread owns the channel's input, the processes and the list of followed files. File
 * operations, which may block, run in worker threads; each followed file has its own thread.
 * Everything that they send carries the session of its request: a new hello begins a new session,
 * and the rest of older sessions is killed, closed and never sent.
 */
#ifndef AGENT_H
#define AGENT_H

#include "agent_wire.h"

#include <poll.h>
#include <stdatomic.h>

struct request {
	uint32_t session;
	uint32_t id;
	uint16_t op;
};

/* agent.c: handle a frame; end the session, and kill and close what it started. */
void dispatch(const struct header *h, const uint8_t *payload);
void session_end(void);
void wake_main(void);

/* agent_channel.c */
enum channel_kind {
	CHANNEL_FD,	/* an inherited socket: the agent ends when it is closed */
	CHANNEL_LISTEN, /* a listening Unix socket: serves a client at a time */
	CHANNEL_PORT,	/* a virtio-serial port or a serial line: the host may come and go */
};

void channel_init(enum channel_kind kind, int fd);
short channel_events(void);	     /* what to poll channel_fd() for */
int channel_fd(void);		     /* -1 while there is nothing to poll */
int channel_timeout_ms(void);	     /* when to call channel_handle() again, or -1 */
bool channel_handle(short revents);  /* false: closed for good */
void channel_fail(const char *text); /* report to the host, and end the session */

/* agent_output.c: from any thread */
uint32_t session_now(void); /* 0: none */
void session_begin(void);
void session_stop(void);
bool request_stale(const struct request *r); /* its session is over */
void output_attach(int fd);		     /* -1: no client, frames are dropped */
void output_flush(void);
bool output_idle(void);	    /* all frames are sent */
bool output_has_room(void); /* for streams; replies always have room */
void output_wait_room(uint32_t session, const atomic_bool *stop);

/* Take over the frame's buffer; send it if its session still lasts. */
void send_frame(struct buf *b, const struct request *r, uint16_t op);
void reply_begin(struct buf *b); /* with errno 0 */
void reply_end(struct buf *b, const struct request *r);
void reply_errno(const struct request *r, int error);

/* agent_steady.c: a processor that is busy while no request is to be answered; off unless started
 */
void steady_start(void);
void steady_asked(void);
void steady_answered(void);

/* agent_jobs.c: requests that may block */
void jobs_submit(const struct request *r, const uint8_t *payload, size_t len);
bool jobs_kick(
	void); /* interrupt requests of old sessions that still block; true while there are any */

/* agent_files.c, agent_system.c: in a worker; each replies */
void files_batch(const struct request *r, struct reader *in);
void system_request(const struct request *r, struct reader *in);
int system_load_module(const char *path, const char *parameters); /* errno */

/* agent_procs.c: main thread only */
void procs_spawn(const struct request *r, struct reader *in);
void procs_stdin(const struct request *r, struct reader *in);
void procs_close_stdin(const struct request *r, struct reader *in);
void procs_kill(const struct request *r, struct reader *in);
void procs_reap(void);
size_t procs_poll_count(void);
size_t procs_poll_fill(struct pollfd *fds);
void procs_poll_handle(const struct pollfd *fds, size_t count);
void procs_session_end(void);

/* agent_follow.c: main thread, but for the threads it starts */
void follow_start(const struct request *r, struct reader *in);
void follow_stop(const struct request *r, struct reader *in);
bool follow_tick(void); /* free ended threads, interrupt closed ones; true while there are any */
void follow_session_end(void);

/* agent_init.c: the work of pid 1 */
void init_machine(void);
enum channel_kind init_find_channel(int *fd);
bool init_wants_steady_time(void);
const char *init_log(void); /* what went wrong while booting */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
