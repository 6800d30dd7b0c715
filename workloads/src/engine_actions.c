// SPDX-License-Identifier: GPL-2.0
/* Actions, done once in a phase: on mappings, and on processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"

#define MAX_CHILDREN 1024

static pid_t children[MAX_CHILDREN];
static size_t nr_children;

static void advise(const struct action *action, void *place, size_t size, int advice)
{
	if (madvise(place, size, advice))
		die(EXIT_CANNOT, "madvise(%d) of region %s failed: %s", advice,
		    action->region->name, strerror(errno));
}

static void resize(const struct action *action)
{
	struct region *region = action->region;
	void *place = (void *)(uintptr_t)region->start;

	if (action->deed == BRK) {
		if (brk((uint8_t *)place + action->end))
			die(EXIT_CANNOT, "brk() of region %s to %" PRIu64 " bytes failed: %s",
			    region->name, action->end, strerror(errno));
		if (action->end > region->mapped)
			map_region(region, region->mapped, action->end);
	} else if (mremap(place, region->mapped, action->end, 0) != place) {
		die(EXIT_CANNOT, "mremap() of region %s to %" PRIu64 " bytes failed: %s",
		    region->name, action->end, strerror(errno));
	}
	region->mapped = action->end;
}

/* mremap() and brk() need to know how much is mapped from the region's start. */
static void note_mapped(struct region *region, uint64_t start, uint64_t end, bool mapped)
{
	if (mapped && start <= region->mapped && end > region->mapped)
		region->mapped = end;
	if (!mapped && start < region->mapped)
		region->mapped = start;
}

static void change(const struct action *action)
{
	struct region *region = action->region;
	void *place = (void *)(uintptr_t)(region->start + action->start);
	size_t size = action->end - action->start;

	switch (action->deed) {
	case MMAP:
		map_region(region, action->start, action->end);
		note_mapped(region, action->start, action->end, true);
		if (action->populate)
			populate_region(region, action->start, action->end);
		break;
	case MUNMAP:
		if (munmap(place, size))
			die(EXIT_BROKEN, "munmap() of region %s failed: %s", region->name,
			    strerror(errno));
		note_mapped(region, action->start, action->end, false);
		break;
	case DONTNEED:
		advise(action, place, size, MADV_DONTNEED);
		break;
	case FREE:
		advise(action, place, size, MADV_FREE);
		break;
	case WILLNEED:
		advise(action, place, size, MADV_WILLNEED);
		break;
	case MSYNC:
		if (msync(place, size, MS_SYNC))
			die(EXIT_CANNOT, "msync() of region %s failed: %s", region->name,
			    strerror(errno));
		break;
	case MLOCK:
		if (mlock(place, size))
			die(EXIT_CANNOT, "mlock() of region %s failed: %s", region->name,
			    strerror(errno));
		break;
	case MUNLOCK:
		if (munlock(place, size))
			die(EXIT_CANNOT, "munlock() of region %s failed: %s", region->name,
			    strerror(errno));
		break;
	default:
		resize(action);
	}
}

static void bury_children(void)
{
	size_t alive = 0;

	for (size_t i = 0; i < nr_children; i++) {
		if (waitpid(children[i], NULL, WNOHANG) == 0)
			children[alive++] = children[i];
	}
	nr_children = alive;
}

/* "--idle NS": what a child executes. */
int idle(const char *nanoseconds)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sleep_until(now_ns() + strtoull(nanoseconds, NULL, 10));
	return 0;
}

static _Noreturn void live(const struct action *action, pid_t parent)
{
	char lifetime[32];
	char *const arguments[] = { "damon-tests-engine", "--idle", lifetime, NULL };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	snprintf(lifetime, sizeof(lifetime), "%" PRIu64, action->lifetime_ns);
	if (action->exec_children)
		execv("/proc/self/exe", arguments);
	sleep_until(now_ns() + action->lifetime_ns);
	_exit(0);
}

static void make_children(const struct action *action)
{
	pid_t parent = getpid();

	bury_children();
	for (uint64_t i = 0; i < action->children; i++) {
		pid_t child;

		if (nr_children == MAX_CHILDREN)
			die(EXIT_BROKEN, "more than %d children are alive", MAX_CHILDREN);
		child = fork();
		if (child < 0)
			die(EXIT_CANNOT, "fork() failed: %s", strerror(errno));
		if (!child)
			live(action, parent);
		children[nr_children++] = child;
	}
}

void end_children(void)
{
	for (size_t i = 0; i < nr_children; i++)
		kill(children[i], SIGKILL);
	for (size_t i = 0; i < nr_children; i++)
		waitpid(children[i], NULL, 0);
	nr_children = 0;
}

/*
 * Executes this program anew in the same process. The board has the counters and the position in
 * the pattern; the new program inherits it, with the program's text. Ends the children, because the
 * new program would not know them.
 */
static _Noreturn void execute_anew(void)
{
	char *const arguments[] = { "damon-tests-engine", NULL };
	char number[32];
	int text = program_text(), books = dup(board_fd());

	end_children();
	snprintf(number, sizeof(number), "%d", text);
	setenv("DAMON_TESTS_ENGINE_RESUME", number, 1);
	snprintf(number, sizeof(number), "%d", books);
	setenv("DAMON_TESTS_ENGINE_BOARD", number, 1);
	remember_memcg();
	execv("/proc/self/exe", arguments);
	die(EXIT_CANNOT, "exec of /proc/self/exe failed: %s", strerror(errno));
}

/* Does the next action of a phase, and records its time. */
void act(struct worker *worker, const struct phase *phase, uint64_t phase_start)
{
	size_t number = worker->next_action++;
	const struct action *action = &phase->actions[number];
	uint64_t start = now_ns(), due = phase_start + action->at_ns;

	if (start > due && start - due > worker->late_max_ns)
		set(&worker->late_max_ns, start - due);
	if (action->deed == EXEC) {
		log_pass(worker, phase->nr_terms + number, 0, start, start + 1);
		if (slice_bits)
			end_slice(worker, now_ns());
		publish_status();
		execute_anew();
	}
	if (action->deed == FORK)
		make_children(action);
	else
		change(action);
	drain_lru(action->populate || action->deed == MLOCK);
	if (slice_bits && (action->deed == MLOCK || (action->deed == MMAP && action->populate)))
		mark_span(action->region, action->start, action->end);
	log_pass(worker, phase->nr_terms + number, 0, start, now_ns());
}
