// SPDX-License-Identifier: GPL-2.0
/*
 * The guest agent: does inside the guest what the harness, on the host, asks for.
 *
 * As pid 1, it is the guest's /init and serves on a virtio-serial port. In tests, it serves on a
 * socket. It trusts its host, and obeys it with all the privileges that it has.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define KICK_MS 10 /* how often blocked threads of old sessions are interrupted */

enum { POLL_CHANNEL, POLL_WAKE, POLL_CHILD, POLL_FIXED };

static int wake_fd = -1;
static int child_fd = -1;
static uint64_t session_nonce;

void wake_main(void)
{
	uint64_t one = 1;

	if (write(wake_fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: the counter is full, so it is awake already */
}

void session_end(void)
{
	session_stop();
	session_nonce = 0;
	procs_session_end();
	follow_session_end();
}

/*
 * A new client: kill and close what the last client left. The same hello again comes from the same
 * client, which did not wait. The reply: u64 nonce, u16 version, u32 pid, u32 page size, str kernel
 * release, str machine, str boot log; when versions differ: only EPROTONOSUPPORT, because the
 * header of the reply has our version.
 */
static void hello(struct request *r, const struct header *h, struct reader *in)
{
	uint64_t nonce = read_u64(in);
	struct utsname machine;
	struct buf b = { 0 };

	if (h->version != WIRE_VERSION || in->bad || !nonce) {
		reply_errno(r, in->bad || !nonce ? EBADMSG : EPROTONOSUPPORT);
		return;
	}
	if (nonce != session_nonce) {
		session_end();
		session_begin();
		session_nonce = nonce;
	}
	r->session = session_now();
	uname(&machine);
	reply_begin(&b);
	buf_u64(&b, nonce);
	buf_u16(&b, WIRE_VERSION);
	buf_u32(&b, (uint32_t)getpid());
	buf_u32(&b, (uint32_t)sysconf(_SC_PAGESIZE));
	buf_str(&b, machine.release);
	buf_str(&b, machine.machine);
	buf_str(&b, init_log());
	reply_end(&b, r);
}

static void clock_now(const struct request *r)
{
	struct buf b = { 0 };
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	reply_begin(&b);
	buf_u64(&b, (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
	reply_end(&b, r);
}

void dispatch(const struct header *h, const uint8_t *payload)
{
	struct request r = { .session = session_now(), .id = h->id, .op = h->op };
	struct reader in = { .at = payload, .end = payload + h->length };

	if (h->op == OP_HELLO) {
		hello(&r, h, &in);
		return;
	}
	if (h->version != WIRE_VERSION) {
		channel_fail("a frame of another version of the protocol");
		return;
	}
	steady_asked();
	if (!r.session) {
		reply_errno(&r, EPROTO); /* say hello first */
		return;
	}
	switch (h->op) {
	case OP_PING:
		reply_errno(&r, 0);
		break;
	case OP_CLOCK:
		clock_now(&r);
		break;
	case OP_SPAWN:
		procs_spawn(&r, &in);
		break;
	case OP_STDIN:
		procs_stdin(&r, &in);
		break;
	case OP_STDIN_CLOSE:
		procs_close_stdin(&r, &in);
		break;
	case OP_KILL:
		procs_kill(&r, &in);
		break;
	case OP_FOLLOW:
		follow_start(&r, &in);
		break;
	case OP_UNFOLLOW:
		follow_stop(&r, &in);
		break;
	default:
		jobs_submit(&r, payload, h->length); /* replies EOPNOTSUPP to an unknown op */
	}
}

/* --- the main loop ---------------------------------------------------------------------------- */

static void drain(int fd)
{
	uint8_t bytes[512];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
}

static int sooner(int a, int b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

/* Returns false when there is no memory for the list. */
static bool poll_list(struct pollfd **fds, size_t *capacity, size_t *count)
{
	size_t want = POLL_FIXED + procs_poll_count();

	if (want > *capacity) {
		struct pollfd *more = realloc(*fds, want * sizeof(*more));

		if (!more)
			return false;
		*fds = more;
		*capacity = want;
	}
	(*fds)[POLL_CHANNEL] = (struct pollfd){ channel_fd(), channel_events(), 0 };
	(*fds)[POLL_WAKE] = (struct pollfd){ wake_fd, POLLIN, 0 };
	(*fds)[POLL_CHILD] = (struct pollfd){ child_fd, POLLIN, 0 };
	*count = POLL_FIXED + procs_poll_fill(*fds + POLL_FIXED);
	return true;
}

static void serve(void)
{
	struct pollfd *fds = NULL;
	size_t capacity = 0, count = 0;
	bool kick_jobs, kick_follows;
	int timeout;

	for (;;) {
		kick_jobs = jobs_kick();
		kick_follows = follow_tick();
		timeout = sooner(channel_timeout_ms(), kick_jobs || kick_follows ? KICK_MS : -1);
		if (!poll_list(&fds, &capacity, &count)) {
			usleep(KICK_MS * 1000);
			continue;
		}
		if (poll(fds, count, timeout) < 0)
			continue;
		if (fds[POLL_WAKE].revents)
			drain(wake_fd);
		procs_poll_handle(fds + POLL_FIXED, count - POLL_FIXED);
		if (fds[POLL_CHILD].revents) {
			drain(child_fd);
			procs_reap();
		}
		if (!channel_handle(fds[POLL_CHANNEL].revents))
			break;
	}
	free(fds);
}

/* --- startup ---------------------------------------------------------------------------------- */

static void interrupted(int sig)
{
	(void)sig; /* exists only to make system calls return EINTR */
}

static void set_up_signals(void)
{
	struct sigaction on_usr1 = { .sa_handler = interrupted };
	sigset_t child;

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGUSR1, &on_usr1, NULL);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (child_fd < 0 || wake_fd < 0) {
		say("signalfd or eventfd: %s", strerror(errno));
		exit(1);
	}
}

static int listen_on(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8))
		return -1;
	return fd;
}

/* The kernel passes words of its command line to pid 1 as arguments: ignore them. */
static bool is_init(int argc, char **argv)
{
	return getpid() == 1 && !(argc == 3 && !strncmp(argv[1], "--", 2));
}

static enum channel_kind open_channel(int argc, char **argv, int *fd)
{
	if (argc == 3 && !strcmp(argv[1], "--fd")) {
		*fd = atoi(argv[2]);
		if (fcntl(*fd, F_SETFL, O_NONBLOCK) || fcntl(*fd, F_SETFD, FD_CLOEXEC)) {
			perror("damon-tests-agent: --fd");
			exit(2);
		}
		return CHANNEL_FD;
	}
	if (argc == 3 && !strcmp(argv[1], "--unix")) {
		*fd = listen_on(argv[2]);
		if (*fd < 0) {
			perror("damon-tests-agent: --unix");
			exit(2);
		}
		return CHANNEL_LISTEN;
	}
	fprintf(stderr, "usage: damon-tests-agent --fd N | --unix PATH\n"
			"As pid 1 it needs no arguments: it serves on the virtio port.\n");
	exit(2);
}

static void keep_memory_small(void)
{
#ifdef M_ARENA_MAX /* glibc */
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_MMAP_THRESHOLD, 1 << 17); /* give large blocks back when they are freed */
#endif
}

int main(int argc, char **argv)
{
	bool init = is_init(argc, argv);
	enum channel_kind kind;
	int fd;

	keep_memory_small();
	if (init)
		init_machine();
	set_up_signals();
	kind = init ? init_find_channel(&fd) : open_channel(argc, argv, &fd);
	channel_init(kind, fd);
	if (init && init_wants_steady_time())
		steady_start();
	serve();
	session_end();
	return 0;
}
