// SPDX-License-Identifier: GPL-2.0
/*
 * Start processes, write their stdin, read their output, reap them. Only the main thread runs this
 * code, so there are no locks, and a pid is signalled only before it is reaped.
 *
 * While the channel has no room for a process's output, it is not read: the process blocks on its
 * pipe.
 */
#define _GNU_SOURCE
#include "agent_procs.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_CHUNK (32u << 10)
#define MAX_STRINGS  65536

/* Data for a stdin; the reply is sent when all of it is in the pipe. */
struct feed {
	struct feed *next;
	struct request request;
	size_t len;
	size_t sent;
	uint8_t data[];
};

struct proc {
	struct proc *next;
	struct request request; /* the OP_SPAWN, whose id names the process */
	pid_t pid;
	bool ended; /* reaped: pid may belong to another process by now */
	int wait_status;
	bool reported;	   /* its exit has been sent to the host */
	int fds[FD_COUNT]; /* our ends; -1: closed */
	struct feed *feeds;
	bool close_stdin; /* once the queued data is written */
};

static struct proc *procs;

/* --- start -------------------------------------------------------------------------------------
 */

/* Returns a NULL terminated array of strings in the payload; NULL: no memory, or malformed. */
static char **read_strings(struct reader *in)
{
	uint32_t n = read_u32(in);
	char **strings;

	if (n > MAX_STRINGS)
		in->bad = true;
	if (in->bad)
		return NULL;
	strings = calloc(n + 1, sizeof(*strings));
	for (uint32_t i = 0; strings && i < n; i++)
		strings[i] = (char *)read_str(in);
	return strings;
}

void procs_spawn(const struct request *r, struct reader *in)
{
	char **argv = read_strings(in);
	char **envp = read_strings(in);
	const char *cwd = read_str(in);
	struct proc *p = NULL;
	int error = 0;

	if (in->bad || (argv && !argv[0]))
		error = EBADMSG;
	else if (!argv || !envp || !(p = calloc(1, sizeof(*p))))
		error = ENOMEM;
	else
		error = spawn_start(&p->pid, p->fds, argv, envp, cwd);
	free(argv);
	free(envp);
	if (error) {
		free(p);
		reply_errno(r, error);
		return;
	}
	p->request = *r;
	p->next = procs;
	procs = p;
	/* handle_status() replies once exec has succeeded or failed. */
}

/* The pipe closes when exec succeeds, and delivers an errno when it fails. */
static void handle_status(struct proc *p)
{
	struct buf b = { 0 };
	int error = 0;
	ssize_t n = read(p->fds[FD_STATUS], &error, sizeof(error));

	if (n < 0)
		return;
	close(p->fds[FD_STATUS]);
	p->fds[FD_STATUS] = -1;
	if (n == sizeof(error)) {
		p->reported = true; /* the host never knew this process */
		reply_errno(&p->request, error);
		return;
	}
	reply_begin(&b);
	buf_u32(&b, (uint32_t)p->pid);
	reply_end(&b, &p->request);
}

/* --- streams ---------------------------------------------------------------------------------- */

static void end_stream(struct proc *p, int which)
{
	struct buf b = { 0 };

	close(p->fds[which]);
	p->fds[which] = -1;
	frame_begin(&b);
	buf_u8(&b, (uint8_t)which);
	buf_i32(&b, 0);
	send_frame(&b, &p->request, OP_STREAM_END);
}

/* Returns false when there is no data now, or at the end. */
static bool handle_output(struct proc *p, int which)
{
	/* Do not read into the frame: queued frames must be no larger than their data. */
	static uint8_t chunk[OUTPUT_CHUNK];
	struct buf b = { 0 };
	ssize_t n;

	if (p->fds[which] < 0)
		return false;
	n = read(p->fds[which], chunk, sizeof(chunk));
	if (n > 0) {
		frame_begin(&b);
		buf_u8(&b, (uint8_t)which);
		buf_put(&b, chunk, (size_t)n);
		send_frame(&b, &p->request, OP_STREAM);
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		end_stream(p, which);
	return false;
}

static void pop_feed(struct proc *p, int error)
{
	struct feed *f = p->feeds;

	reply_errno(&f->request, error);
	p->feeds = f->next;
	free(f);
}

static void handle_stdin(struct proc *p)
{
	struct feed *f;
	ssize_t n;

	while ((f = p->feeds) && p->fds[FD_STDIN] >= 0) {
		n = write(p->fds[FD_STDIN], f->data + f->sent, f->len - f->sent);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			pop_feed(p, errno);
			continue;
		}
		f->sent += (size_t)n;
		if (f->sent == f->len)
			pop_feed(p, 0);
	}
	if (p->close_stdin && p->fds[FD_STDIN] >= 0) {
		close(p->fds[FD_STDIN]);
		p->fds[FD_STDIN] = -1;
	}
}

static struct proc *find(const struct request *r, uint32_t id)
{
	struct proc *p;

	for (p = procs; p; p = p->next)
		if (p->request.id == id && p->request.session == r->session)
			return p;
	return NULL;
}

void procs_stdin(const struct request *r, struct reader *in)
{
	struct proc *p = find(r, read_u32(in));
	struct feed *f, **end;
	const uint8_t *data;
	size_t len;

	data = read_bytes(in, &len);
	if (in->bad || !p || p->fds[FD_STDIN] < 0 || p->close_stdin) {
		reply_errno(r, in->bad ? EBADMSG : EPIPE);
		return;
	}
	f = malloc(sizeof(*f) + len);
	if (!f) {
		reply_errno(r, ENOMEM);
		return;
	}
	*f = (struct feed){ .request = *r, .len = len };
	memcpy(f->data, data, len);
	for (end = &p->feeds; *end;)
		end = &(*end)->next;
	*end = f;
	handle_stdin(p);
}

void procs_close_stdin(const struct request *r, struct reader *in)
{
	struct proc *p = find(r, read_u32(in));

	if (p) {
		p->close_stdin = true;
		handle_stdin(p);
	}
	reply_errno(r, in->bad ? EBADMSG : 0);
}

void procs_kill(const struct request *r, struct reader *in)
{
	struct proc *p = find(r, read_u32(in));
	int sig = (int)read_u32(in);
	int error = 0;

	if (in->bad)
		error = EBADMSG;
	else if (p && !p->ended && kill(p->pid, sig))
		error = errno;
	reply_errno(r, error);
}

/* --- exit ------------------------------------------------------------------------------------- */

static void tell_exit(struct proc *p)
{
	struct buf b = { 0 };
	int status = p->wait_status;

	p->reported = true;
	frame_begin(&b);
	buf_i32(&b, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	buf_i32(&b, WIFSIGNALED(status) ? WTERMSIG(status) : -1);
	send_frame(&b, &p->request, OP_EXIT);
}

static void ended(struct proc *p, int status)
{
	p->ended = true;
	p->wait_status = status;
	if (p->fds[FD_STATUS] >= 0)
		handle_status(p);
	/* Send its output before its exit: at most what two pipes hold. */
	for (int which = FD_STDOUT; which <= FD_STDERR; which++)
		for (size_t n = 0; n < 64 && handle_output(p, which); n++)
			;
	if (!p->reported)
		tell_exit(p);
}

static void free_proc(struct proc *p)
{
	while (p->feeds)
		pop_feed(p, EPIPE);
	close_all(p->fds);
	free(p);
}

/* Free the processes that have exited and whose output is complete. */
static void sweep(void)
{
	struct proc **at = &procs, *p;

	while ((p = *at)) {
		if (!p->ended || p->fds[FD_STDOUT] >= 0 || p->fds[FD_STDERR] >= 0) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		free_proc(p);
	}
}

void procs_reap(void)
{
	struct proc *p;
	int status;
	pid_t pid;

	/* As pid 1, we also inherit orphans that we did not start. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (p = procs; p && (p->ended || p->pid != pid); p = p->next)
			;
		if (p)
			ended(p, status);
	}
	sweep();
}

void procs_session_end(void)
{
	struct proc *p;

	for (p = procs; p; p = p->next) {
		if (!p->ended)
			kill(-p->pid, SIGKILL);
		if (!p->ended)
			kill(p->pid,
			     SIGKILL); /* before its setsid() there is no such process group */
		while (p->feeds)
			pop_feed(p, EPIPE);
		close_all(p->fds);
	}
	sweep();
}

/* --- polling ---------------------------------------------------------------------------------- */

size_t procs_poll_count(void)
{
	size_t n = 0;

	for (struct proc *p = procs; p; p = p->next)
		n += FD_COUNT;
	return n;
}

size_t procs_poll_fill(struct pollfd *fds)
{
	bool room = output_has_room();
	size_t n = 0;

	for (struct proc *p = procs; p; p = p->next) {
		fds[n++] = (struct pollfd){ p->feeds ? p->fds[FD_STDIN] : -1, POLLOUT, 0 };
		fds[n++] = (struct pollfd){ room ? p->fds[FD_STDOUT] : -1, POLLIN, 0 };
		fds[n++] = (struct pollfd){ room ? p->fds[FD_STDERR] : -1, POLLIN, 0 };
		fds[n++] = (struct pollfd){ p->fds[FD_STATUS], POLLIN, 0 };
	}
	return n;
}

/* The list is the same as when fds were filled: it changes only below. */
void procs_poll_handle(const struct pollfd *fds, size_t count)
{
	struct proc *p = procs;

	for (size_t n = 0; p && n + FD_COUNT <= count; n += FD_COUNT, p = p->next) {
		if (fds[n + FD_STATUS].revents)
			handle_status(p);
		if (fds[n + FD_STDIN].revents)
			handle_stdin(p);
		if (fds[n + FD_STDOUT].revents)
			handle_output(p, FD_STDOUT);
		if (fds[n + FD_STDERR].revents)
			handle_output(p, FD_STDERR);
	}
	sweep();
}
