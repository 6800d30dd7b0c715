// SPDX-License-Identifier: GPL-2.0
/*
 * The workload engine's dialogue.
 *
 * stdin   a program (engine_program.c), then commands: "go" starts the first phase, "sync" brings
 * the published files up to date, "stop" (or the end of stdin, SIGTERM, SIGINT) ends stdout
 * "region NAME START END" for each, "visibility ...", "vaddr START END" (what DAMON will watch),
 *	   "ready PID"; then an answer to each command: "went NS", "synced NS", "stopped NS".
 * Addresses are hexadecimal, times are CLOCK_MONOTONIC stderr  one sentence before exit code 2 (the
 * program is wrong) or 3 (this machine cannot do it)
 *
 * damon-tests-engine --draw SEED PHASE TERM PASS TOUCHES SLOTS prints the slots of a random pass.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define NSEC_PER_SEC 1000000000ULL

static volatile sig_atomic_t signalled;
static sigset_t unblocked; /* while waiting */
static struct worker worker;

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

void die(int code, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "damon-tests-engine: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(code);
}

void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		die(EXIT_CANNOT, "no memory: %zu times %zu bytes", count, size);
	return memory;
}

static void on_signal(int signal)
{
	(void)signal;
	signalled = 1;
}

/* Signals come only while we wait, so that none is missed between a look and a wait. */
static void prepare_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, &unblocked);
	sigdelset(&unblocked, SIGTERM);
	sigdelset(&unblocked, SIGINT);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void answer(const char *word)
{
	printf("%s %" PRIu64 "\n", word, now_ns());
	fflush(stdout);
}

/* False: stop. */
static bool obey(const char *line)
{
	if (!strcmp(line, "stop"))
		return false;
	if (!strcmp(line, "sync")) {
		publish_status(&worker);
		answer("synced");
	} else {
		die(EXIT_BAD_PROGRAM, "unknown command \"%.40s\"; go, sync and stop are known",
		    line);
	}
	return true;
}

/* Whether stdin has something (or has ended) before a time. */
static bool stdin_ready(uint64_t until_ns)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	uint64_t now = now_ns(), left = until_ns > now ? until_ns - now : 0;
	struct timespec timeout = { left / NSEC_PER_SEC, left % NSEC_PER_SEC };

	return ppoll(&in, 1, until_ns == UINT64_MAX ? NULL : &timeout, &unblocked) > 0;
}

bool wait_until(struct worker *waiting, uint64_t until_ns)
{
	char line[LINE_LEN];

	(void)waiting;
	do {
		if (stdin_ready(until_ns)) {
			if (!read_line(line, sizeof(line)))
				return false;
			do {
				if (!obey(line))
					return false;
			} while (next_line(line, sizeof(line)));
		}
		if (signalled)
			return false;
	} while (now_ns() < until_ns);
	return true;
}

/* Waits for the first command. False: stop. */
static bool wait_for_go(void)
{
	char line[LINE_LEN];

	for (;;) {
		/* What came along with the program has left stdin already. */
		if (!next_line(line, sizeof(line))) {
			bool ready = stdin_ready(UINT64_MAX);

			if (signalled)
				return false;
			if (!ready)
				continue;
			if (!read_line(line, sizeof(line)))
				return false;
		}
		if (!strcmp(line, "go"))
			return true;
		if (!obey(line))
			return false;
	}
}

static int draw(char **argv)
{
	uint64_t numbers[6], state;

	for (int i = 0; i < 6; i++)
		numbers[i] = strtoull(argv[i], NULL, 10);
	state = pass_key(numbers[0], numbers[1], numbers[2], numbers[3]);
	for (uint64_t i = 0; i < numbers[4]; i++)
		printf("%" PRIu64 "\n", draw_slot(&state, numbers[5]));
	return 0;
}

int main(int argc, char **argv)
{
	static struct program program;
	uint64_t go_ns;

	if (argc == 8 && !strcmp(argv[1], "--draw"))
		return draw(argv + 2);
	if (argc != 1)
		die(EXIT_BAD_PROGRAM,
		    "takes its program on stdin, and no arguments but --draw SEED "
		    "PHASE TERM PASS TOUCHES SLOTS");
	place_again(argv);
	prepare_signals();
	prctl(PR_SET_TIMERSLACK, 1);
	/* Large blocks on the heap too: a mapping of their own would land among the regions. */
	mallopt(M_MMAP_MAX, 0);
	read_program(&program);
	worker.program = &program;
	open_publication(&program);
	prepare_flush(&program);
	place_regions(&program);
	print_vaddr();
	publish_state(&worker, "ready");
	printf("ready %d\n", getpid());
	fflush(stdout);
	if (wait_for_go()) {
		go_ns = now_ns();
		publish_go(go_ns);
		printf("went %" PRIu64 "\n", go_ns);
		fflush(stdout);
		run(&worker, go_ns);
	}
	publish_stop(now_ns());
	publish_state(&worker, "stopped");
	answer("stopped");
	return 0;
}
