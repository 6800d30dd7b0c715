// SPDX-License-Identifier: GPL-2.0
/*
 * The workload engine's dialogue with the harness.
 *
 * stdin   a program (engine_program.c), then commands: "go" starts the first phase, "sync" brings
 *	   the published files up to date, "stop" (or the end of stdin, SIGTERM, SIGINT) ends
 * stdout  "visibility ...", "memcg PATH", "process NUMBER PID" for each that is not the target,
 *	   "region NAME START END" for each, "vaddr START END" (what vaddr will monitor), "ready
 * PID"; then an answer to each command: "went NS", "synced NS", "stopped NS". Addresses are
 *	   hexadecimal, times are CLOCK_MONOTONIC
 * stderr  one sentence before exit code 2 (the program is wrong) or 3 (this machine cannot do it)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
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

#include "engine_draw.h"

#define NSEC_PER_SEC 1000000000ULL

static volatile sig_atomic_t signalled;
static sigset_t unblocked; /* while waiting */
struct program program;
struct board *board;
bool resumed;
uint64_t page_bytes, huge_bytes;
unsigned int page_shift;

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

void sleep_until(uint64_t until_ns)
{
	struct timespec until = { until_ns / NSEC_PER_SEC, until_ns % NSEC_PER_SEC };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

static void on_signal(int signal)
{
	(void)signal;
	signalled = 1;
}

/* Signals are unblocked only while we wait, so that none is lost between a check and a wait. */
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
		publish_status();
		answer("synced");
	} else {
		die(EXIT_BAD_PROGRAM, "unknown command \"%.40s\"; go, sync and stop are known",
		    line);
	}
	return true;
}

/* Returns whether stdin has data (or has ended) before a time. */
static bool stdin_ready(uint64_t until_ns)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	uint64_t now = now_ns(), left = until_ns > now ? until_ns - now : 0;
	struct timespec timeout = { left / NSEC_PER_SEC, left % NSEC_PER_SEC };

	return ppoll(&in, 1, until_ns == UINT64_MAX ? NULL : &timeout, &unblocked) > 0;
}

bool wait_until(struct worker *worker, uint64_t until_ns)
{
	char line[LINE_LEN];

	if (worker != &board->workers[0])
		return wait_with_stop(until_ns);
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

/* Waits for the first command. Returns false to stop. */
static bool wait_for_go(void)
{
	char line[LINE_LEN];

	for (;;) {
		/* Commands that arrived with the program are in our buffer already. */
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

/* --draw SEED PHASE TERM PASS TOUCHES SLOTS, --way SEED REGION START SLOTS: for tests. */
static int draw(int argc, char **argv)
{
	uint64_t numbers[6] = { 0 }, key;
	bool chase = !strcmp(argv[1], "--way");
	uint64_t count, slots, second = 0;

	for (int i = 2; i < argc && i < 8; i++)
		numbers[i - 2] = strtoull(argv[i], NULL, 10);
	key = pass_key(numbers[0], numbers[1], numbers[2], numbers[3]);
	count = chase ? numbers[3] : numbers[4];
	slots = chase ? numbers[3] : numbers[5];
	for (uint64_t i = 0; i < count; i++) {
		if (chase)
			printf("%" PRIu64 "\n", way(key, slots, i));
		else if (i % 2)
			printf("%" PRIu64 "\n", second);
		else
			printf("%" PRIu64 "\n", draw_slots(&key, slots, &second));
	}
	return 0;
}

/* After our own exec: read the program from the copy that we kept. */
static void look_back(void)
{
	const char *text = getenv("DAMON_TESTS_ENGINE_RESUME");

	if (!text)
		return;
	resumed = true;
	read_from(atoi(text));
}

static void prepare_memory(void)
{
	enter_memcg();
	place_regions();
	if (resumed)
		return;
	start_processes();
	for (size_t i = 0; i < program.nr_regions; i++) {
		struct region *region = &program.regions[i];

		if (region->populate && region->mapped)
			populate_region(region, 0, region->mapped);
		fill_region(region);
	}
	write_pointers();
	drain_lru(true);
}

static void print_ready(void)
{
	for (size_t i = 0; i < program.nr_regions; i++) {
		const struct region *region = &program.regions[i];

		printf("region %s %" PRIx64 " %" PRIx64 "\n", region->name, region->start,
		       region->start + region->size);
	}
	print_vaddr();
	publish_state("ready");
	printf("ready %d\n", getpid());
	fflush(stdout);
}

static void perform(void)
{
	uint64_t go_ns;

	if (resumed) {
		read_from(STDIN_FILENO);
		go_ns = board->go_ns;
	} else {
		start_threads(0);
		wait_for_workers();
		print_ready();
		if (!wait_for_go())
			return;
		go_ns = now_ns();
		publish_go(go_ns);
		let_go(go_ns);
		printf("went %" PRIu64 "\n", go_ns);
		fflush(stdout);
	}
	run(&board->workers[0], go_ns);
}

static void measure_pages(void)
{
	page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	page_shift = (unsigned int)__builtin_ctzll(page_bytes);
	huge_bytes = page_bytes / sizeof(uint64_t) * page_bytes;
}

int main(int argc, char **argv)
{
	measure_pages();
	if (argc == 3 && !strcmp(argv[1], "--idle"))
		return idle(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "--tidy"))
		return tidy(argv[2], argv[3]);
	if ((argc == 8 && !strcmp(argv[1], "--draw")) || (argc == 6 && !strcmp(argv[1], "--way")))
		return draw(argc, argv);
	if (argc != 1)
		die(EXIT_BAD_PROGRAM,
		    "takes its program on stdin, and no arguments but --draw SEED "
		    "PHASE TERM PASS TOUCHES SLOTS and --way SEED REGION START SLOTS");
	place_again(argv);
	prepare_signals();
	prctl(PR_SET_TIMERSLACK, 1);
	/* Keep large blocks on the heap, and the heap in one piece: a separate mapping would land
	 * among the regions. Never trim it: a region may be above it. */
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	look_back();
	read_program();
	prepare_board();
	prepare_workers();
	open_publication();
	prepare_drain();
	prepare_flush();
	prepare_memory();
	perform();
	end_workers();
	end_children();
	publish_stop(now_ns());
	publish_state("stopped");
	leave_memcg();
	answer("stopped");
	return 0;
}
