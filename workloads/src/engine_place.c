// SPDX-License-Identifier: GPL-2.0
/*
 * Place the memory in the address space.
 *
 * DAMON's vaddr drops the two biggest gaps between a process's mappings. So that it monitors our
 * regions and little else, the mappings are kept in three groups: this program with its heap; the
 * regions, which end one pattern gap below the lowest mapping that the kernel made itself (vvar,
 * vdso); the stack. The gap below the regions is most of the address space. The one above must be
 * bigger than the pattern's gaps. The kernel leaves such a gap for a large stack limit, and reads
 * the limit at exec, so the engine executes itself again. It also disables address randomization,
 * so that addresses are the same in each run. Where either is forbidden, addresses are random, and
 * the gap has any size; the engine prints in any case what DAMON will monitor.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine.h"

#define PLACED_ENV   "DAMON_TESTS_ENGINE_PLACED"
#define MIB	     ((uint64_t)1 << 20)
#define MAX_MAPPINGS 8192

/* What is listed at GATE or above is no mapping: [vsyscall] of x86-64, [vectors] of 32-bit Arm. */
#if UINTPTR_MAX > UINT32_MAX
#define STACK_GAP ((rlim_t)1 << 40)
#define GATE	  ((uint64_t)1 << 63)
#else
#define STACK_GAP ((rlim_t)1 << 30)
#define GATE	  ((uint64_t)0xffff0000)
#endif

void place_again(char **argv)
{
	struct rlimit limit;

	if (getenv(PLACED_ENV))
		return;
	if (setenv(PLACED_ENV, "1", 1))
		return;
	if (!getrlimit(RLIMIT_STACK, &limit) && limit.rlim_max >= STACK_GAP) {
		limit.rlim_cur = STACK_GAP;
		setrlimit(RLIMIT_STACK, &limit);
	}
	personality(ADDR_NO_RANDOMIZE);
	execv("/proc/self/exe", argv); /* without /proc, do not execute again */
}

struct mapping {
	uint64_t start, end;
	bool stack;
};

static struct mapping mappings[MAX_MAPPINGS];

/* Reads all mappings of this process, ascending. */
static size_t read_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[LINE_LEN];
	size_t count = 0;

	if (!maps)
		die(EXIT_CANNOT, "/proc/self/maps cannot be read (%s): mount /proc",
		    strerror(errno));
	while (fgets(line, sizeof(line), maps)) {
		struct mapping *mapping = &mappings[count];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &mapping->start, &mapping->end) != 2)
			continue;
		if (mapping->start >= GATE)
			continue;
		mapping->stack = strstr(line, "[stack]");
		if (++count == MAX_MAPPINGS)
			die(EXIT_CANNOT, "this process has too many mappings");
	}
	fclose(maps);
	return count;
}

/* Returns the lowest address in use above the heap, or where the kernel would map next if there is
 * none. */
static uint64_t lowest_above_heap(void)
{
	uint64_t heap_end = (uintptr_t)sbrk(0);
	size_t count = read_mappings();
	void *probe;

	for (size_t i = 0; i < count; i++) {
		if (mappings[i].start >= heap_end && !mappings[i].stack)
			return mappings[i].start;
		if (mappings[i].stack)
			break;
	}
	probe = mmap(NULL, page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (probe == MAP_FAILED)
		die(EXIT_CANNOT, "a page cannot be mapped: %s", strerror(errno));
	munmap(probe, page_bytes);
	return (uintptr_t)probe + page_bytes;
}

/*
 * Maps memory for the engine itself, below its program and so outside of the pattern's memory that
 * DAMON monitors. ``fd``: the file to map, shared; -1: private memory.
 */
void *own_area(size_t size, int fd)
{
	extern char __executable_start;
	static uintptr_t below;
	int flags = MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
	void *area;

	if (!below)
		below = ((uintptr_t)&__executable_start & ~(uintptr_t)(page_bytes - 1)) - (1 << 16);
	size = (size + page_bytes - 1) / page_bytes * page_bytes;
	area = MAP_FAILED;
	if (size < below)
		area = mmap((void *)(below - size), size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (area == MAP_FAILED)
		die(EXIT_CANNOT,
		    "%zu bytes for the engine's own use cannot be mapped below it: use fewer "
		    "accesses, phases or threads",
		    size);
	below -= size;
	return area;
}

/*
 * Moves the program break up for a heap region. First takes the memory that malloc() may still
 * need: later the heap could grow only above the region.
 */
static void place_heap(struct region *region)
{
	size_t spare = ((size_t)4 << 20) + 256 * board->nr_counts;
	void *room = malloc(spare);
	uintptr_t start;

	if (!room)
		die(EXIT_CANNOT, "no memory for the engine's own heap");
	free(room);
	start = ((uintptr_t)sbrk(0) + huge_bytes - 1) / huge_bytes * huge_bytes;
	if (brk((void *)(uintptr_t)(start + region->mapped)))
		die(EXIT_CANNOT, "region %s: the heap cannot grow by %" PRIu64 " MiB: %s",
		    region->name, region->mapped / MIB, strerror(errno));
	region->start = start;
	map_region(region, 0, region->mapped);
}

static void choose_places(void)
{
	uint64_t below = lowest_above_heap(), gap;

	for (size_t i = program.nr_regions; i-- > 0;) {
		struct region *region = &program.regions[i];

		if (region->memory == MEMORY_HEAP)
			continue;
		gap = region->placed ? region->gap : program.gap;
		if (below <= gap || region->size >= below - gap)
			die(EXIT_CANNOT,
			    "region %s does not fit into the address space; make it smaller",
			    region->name);
		region->start = below - gap - region->size;
		if (!region->placed)
			region->start = region->start / huge_bytes * huge_bytes;
		below = region->start;
	}
}

/* After an exec, regions must be where they were; fail if they cannot. */
void place_regions(void)
{
	if (!resumed) {
		refuse_without_memory();
		choose_places();
	}
	for (size_t i = 0; i < program.nr_regions; i++) {
		struct region *region = &program.regions[i];

		if (resumed)
			region->start = board->region_starts[i];
		open_region(region);
		if (region->memory == MEMORY_HEAP)
			place_heap(region);
		else if (region->mapped)
			map_region(region, 0, region->mapped);
		if (resumed && region->start != board->region_starts[i])
			die(EXIT_BROKEN,
			    "the heap is elsewhere after an exec: addresses are random here");
		board->region_starts[i] = region->start;
	}
}

/* Prints what DAMON's vaddr will monitor: all but the two biggest gaps; of equal gaps, the lower
 * counts as bigger. */
void print_vaddr(void)
{
	size_t count = read_mappings(), first = 0, second = 0;
	uint64_t first_gap = 0, second_gap = 0;

	for (size_t i = 1; i < count; i++) {
		uint64_t gap = mappings[i].start - mappings[i - 1].end;

		if (gap > first_gap) {
			second_gap = first_gap;
			second = first;
			first_gap = gap;
			first = i;
		} else if (gap > second_gap) {
			second_gap = gap;
			second = i;
		}
	}
	if (!second_gap)
		return;
	if (first > second) {
		size_t swap = first;

		first = second;
		second = swap;
	}
	printf("vaddr %" PRIx64 " %" PRIx64 "\n", mappings[0].start, mappings[first - 1].end);
	printf("vaddr %" PRIx64 " %" PRIx64 "\n", mappings[first].start, mappings[second - 1].end);
	printf("vaddr %" PRIx64 " %" PRIx64 "\n", mappings[second].start, mappings[count - 1].end);
}
