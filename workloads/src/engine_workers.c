// SPDX-License-Identifier: GPL-2.0
/*
 * Several threads and processes. Each thread with terms is a worker; the first is the target's main
 * thread. Other processes are forked when everything is mapped and nothing is populated yet, so
 * they have the same mappings at the same addresses, and share only memory that a file or shmem
 * backs. Each reports with a byte in a pipe that it has started. All wait for a common start and a
 * common stop, each a byte in a pipe that is never read, so that every worker sees it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"

#define STACK_BYTES  ((size_t)128 << 10)
#define NSEC_PER_SEC 1000000000ULL
#define START_NS     (30 * NSEC_PER_SEC)

static int here_pipe[2], go_pipe[2], stop_pipe[2];
static int fd_of_board = -1;
static pthread_t threads[MAX_WORKERS];
static bool started[MAX_WORKERS];

static struct worker *find_worker(uint64_t process, uint64_t thread)
{
	for (uint64_t i = 0; i < board->nr_workers; i++) {
		if (board->workers[i].process == process && board->workers[i].thread == thread)
			return &board->workers[i];
	}
	return NULL;
}

static void init_lock(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t shared;

	pthread_mutexattr_init(&shared);
	pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&shared, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &shared);
}

/*
 * A single worker needs no lock. A process may be killed while it holds the lock: the parent
 * reports that when it waits for the process; here, it must not block the others forever.
 */
void lock(pthread_mutex_t *mutex)
{
	if (board->nr_workers > 1 && pthread_mutex_lock(mutex) == EOWNERDEAD)
		pthread_mutex_consistent(mutex);
}

void unlock(pthread_mutex_t *mutex)
{
	if (board->nr_workers > 1)
		pthread_mutex_unlock(mutex);
}

static void add_worker(uint64_t process, uint64_t thread)
{
	struct worker *worker;

	if (find_worker(process, thread))
		return;
	if (board->nr_workers == MAX_WORKERS)
		die(EXIT_BAD_PROGRAM, "more than %d threads", MAX_WORKERS);
	worker = &board->workers[board->nr_workers++];
	worker->process = process;
	worker->thread = thread;
	init_lock(&worker->lock);
}

int board_fd(void)
{
	return fd_of_board;
}

/* Attaches the board from before the exec, or makes a new board. */
void prepare_board(void)
{
	const char *old = getenv("DAMON_TESTS_ENGINE_BOARD");
	size_t size, nr_counts = program.nr_phases;
	struct counts *next;

	for (size_t p = 0; p < program.nr_phases; p++)
		nr_counts += program.phases[p].nr_terms;
	size = sizeof(*board) + nr_counts * sizeof(*board->counts);
	fd_of_board = resumed && old ? atoi(old) : memfd_create("damon-tests-board", MFD_CLOEXEC);
	if (fd_of_board < 0 || (!resumed && ftruncate(fd_of_board, size)))
		die(EXIT_CANNOT, "no memory for the engine's books: %s", strerror(errno));
	board = own_area(size, fd_of_board);
	next = board->counts;
	for (size_t p = 0; p < program.nr_phases; p++) {
		struct phase *phase = &program.phases[p];

		phase->turns = next++;
		for (size_t t = 0; t < phase->nr_terms; t++)
			phase->terms[t].counts = next++;
	}
	if (resumed)
		return;
	board->nr_counts = nr_counts;
	init_lock(&board->lock);
	add_worker(0, 0);
}

void prepare_workers(void)
{
	if (resumed)
		return;
	for (size_t p = 0; p < program.nr_phases; p++) {
		for (size_t t = 0; t < program.phases[p].nr_terms; t++) {
			const struct term *term = &program.phases[p].terms[t];

			add_worker(term->process, 0);
			add_worker(term->process, term->thread);
		}
	}
	if (pipe2(here_pipe, O_CLOEXEC) || pipe2(go_pipe, O_CLOEXEC) || pipe2(stop_pipe, O_CLOEXEC))
		die(EXIT_CANNOT, "no pipe: %s", strerror(errno));
}

static bool wait_for(int fd, uint64_t until_ns)
{
	struct pollfd in = { .fd = fd, .events = POLLIN };
	uint64_t now = now_ns(), left = until_ns > now ? until_ns - now : 0;
	struct timespec timeout = { left / NSEC_PER_SEC, left % NSEC_PER_SEC };

	return ppoll(&in, 1, until_ns == UINT64_MAX ? NULL : &timeout, NULL) > 0;
}

/* The wait of workers other than the first. Returns false to stop. */
bool wait_with_stop(uint64_t until_ns)
{
	do {
		if (wait_for(stop_pipe[0], until_ns))
			return false;
	} while (now_ns() < until_ns);
	return true;
}

static void send_byte(int fd)
{
	if (write(fd, "", 1) != 1)
		die(EXIT_BROKEN, "a pipe is broken: %s", strerror(errno));
}

/* Waits until all workers of all processes have started. */
void wait_for_workers(void)
{
	char byte;

	for (uint64_t i = 1; i < board->nr_workers; i++) {
		if (!wait_for(here_pipe[0], now_ns() + START_NS) ||
		    read(here_pipe[0], &byte, 1) != 1)
			die(EXIT_BROKEN, "not all threads and processes have started in time");
	}
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct pollfd in[2] = { { .fd = go_pipe[0], .events = POLLIN },
				{ .fd = stop_pipe[0], .events = POLLIN } };

	send_byte(here_pipe[1]);
	while (poll(in, 2, -1) <= 0)
		;
	if (in[0].revents)
		run(worker, board->go_ns);
	if (slice_bits)
		end_slice(worker, now_ns());
	return NULL;
}

void start_threads(uint64_t process)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	for (uint64_t i = 0; i < board->nr_workers; i++) {
		struct worker *worker = &board->workers[i];

		if (worker->process != process || !worker->thread)
			continue;
		/* A stack that pthread_create() maps would lie among the regions. */
		pthread_attr_setstack(&attributes, own_area(STACK_BYTES, -1), STACK_BYTES);
		if (pthread_create(&threads[i], &attributes, work, worker))
			die(EXIT_CANNOT, "no more threads can be started");
		started[i] = true;
	}
}

static void join_threads(void)
{
	for (uint64_t i = 0; i < MAX_WORKERS; i++) {
		if (started[i])
			pthread_join(threads[i], NULL);
	}
}

/* Runs a process other than the target. The target alone talks to the harness. */
static _Noreturn void live(struct worker *worker, pid_t parent)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_BROKEN);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	start_threads(worker->process);
	work(worker);
	join_threads();
	_exit(0);
}

void start_processes(void)
{
	pid_t parent = getpid();

	fflush(stdout);
	for (uint64_t i = 0; i < board->nr_workers; i++) {
		struct worker *worker = &board->workers[i];
		pid_t pid;

		if (!worker->process || worker->thread)
			continue;
		pid = fork(); /* the board is shared: only one of the two may write the pid */
		if (pid < 0)
			die(EXIT_CANNOT, "no more processes can be started: %s", strerror(errno));
		if (!pid)
			live(worker, parent);
		worker->pid = pid;
		printf("process %d %d\n", (int)worker->process, worker->pid);
	}
}

void let_go(uint64_t go_ns)
{
	board->go_ns = go_ns;
	if (board->nr_workers > 1)
		send_byte(go_pipe[1]);
}

void end_workers(void)
{
	int status;

	if (board->nr_workers == 1)
		return;
	send_byte(stop_pipe[1]);
	join_threads();
	for (uint64_t i = 0; i < board->nr_workers; i++) {
		const struct worker *worker = &board->workers[i];

		if (!worker->pid)
			continue;
		if (waitpid(worker->pid, &status, 0) != worker->pid || status)
			die(EXIT_BROKEN, "process %d ended badly, with status %#x",
			    (int)worker->process, status);
	}
}
