// SPDX-License-Identifier: GPL-2.0
/*
 * Where the memory is.
 *
 * DAMON's vaddr drops the two biggest gaps between a process's mappings. So that it watches our
 * regions and little else, the mappings are kept in three groups: this program with its heap; the
 * regions, which end one pattern gap below the lowest thing that the kernel put there itself (vvar,
 * vdso); the stack. The gap below the regions is most of the address space. The one above must be
 * bigger than the pattern's gaps: a large stack limit makes the kernel leave it, and it looks at
 * the limit when a program is executed, so the engine executes itself again. It also asks for
 * addresses that are the same in each run. Where either is forbidden, addresses are random, and the
 * gap is whatever it is; what DAMON will watch is printed in any case.
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
#define STACK_GAP    ((rlim_t)1 << 40)
#define HIGH_HALF    ((uint64_t)1 << 63) /* [vsyscall] is listed up there, but is no mapping */
#define MIB	     ((uint64_t)1 << 20)
#define MAX_MAPPINGS 4096

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
	execv("/proc/self/exe", argv); /* without /proc we go on as we are */
}

struct mapping {
	uint64_t start, end;
	bool stack;
};

static struct mapping mappings[MAX_MAPPINGS];

/* All mappings of this process, ascending. */
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
		if (mapping->start >= HIGH_HALF)
			continue;
		mapping->stack = strstr(line, "[stack]");
		if (++count == MAX_MAPPINGS)
			die(EXIT_CANNOT, "this process has too many mappings");
	}
	fclose(maps);
	return count;
}

/* The lowest address in use above the heap, or where the kernel would map next if there is none. */
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
	probe = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (probe == MAP_FAILED)
		die(EXIT_CANNOT, "a page cannot be mapped: %s", strerror(errno));
	munmap(probe, PAGE_BYTES);
	return (uintptr_t)probe + PAGE_BYTES;
}

static void map_region(struct region *region)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
	void *wanted = (void *)(uintptr_t)region->start;
	void *got = mmap(wanted, region->size, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (got == MAP_FAILED)
		die(EXIT_CANNOT,
		    "region %s (%" PRIu64 " MiB) cannot be mapped at %p: %s; make it smaller",
		    region->name, region->size / MIB, wanted, strerror(errno));
	if (got != wanted)
		die(EXIT_CANNOT,
		    "region %s was mapped at %p instead of %p; a newer kernel is needed",
		    region->name, got, wanted);
	if (region->hugepage == HUGEPAGE_YES && madvise(got, region->size, MADV_HUGEPAGE))
		die(EXIT_CANNOT,
		    "region %s wants huge pages, but madvise(MADV_HUGEPAGE) failed: %s",
		    region->name, strerror(errno));
	/* A kernel that knows no huge pages refuses this, and does what was asked. */
	if (region->hugepage == HUGEPAGE_NO)
		madvise(got, region->size, MADV_NOHUGEPAGE);
}

/* Bytes that the pattern will occupy: what is populated, and what its accesses will fault in. */
static uint64_t needed_bytes(const struct program *program)
{
	uint64_t needed = 0;

	for (size_t i = 0; i < program->nr_regions; i++) {
		const struct region *region = &program->regions[i];
		uint64_t faulted = 0;

		for (size_t p = 0; p < program->nr_phases; p++) {
			for (size_t t = 0; t < program->phases[p].nr_terms; t++) {
				const struct term *term = &program->phases[p].terms[t];

				if (term->region == region)
					faulted += (term->end - term->start) * term->islands;
			}
		}
		if (region->populate || faulted > region->size)
			faulted = region->size;
		needed += faulted;
	}
	return needed;
}

static void refuse_without_memory(const struct program *program)
{
	uint64_t needed = needed_bytes(program), available_kib = UINT64_MAX;
	FILE *meminfo = fopen("/proc/meminfo", "re");
	char line[256];

	if (!meminfo)
		return;
	while (fgets(line, sizeof(line), meminfo)) {
		if (sscanf(line, "MemAvailable: %" SCNu64, &available_kib) == 1)
			break;
	}
	fclose(meminfo);
	if (available_kib != UINT64_MAX && needed / 1024 > available_kib)
		die(EXIT_CANNOT,
		    "the pattern needs %" PRIu64 " MiB of memory, and %" PRIu64
		    " MiB are available: "
		    "use a smaller pattern, or a machine with more memory",
		    needed / MIB, available_kib / 1024);
}

static void populate(const struct region *region)
{
	volatile uint8_t *bytes = (uint8_t *)(uintptr_t)region->start;

	/* Reports a lack of memory, where a store would be killed; older kernels do not have it. */
	if (madvise((void *)bytes, region->size, MADV_POPULATE_WRITE) && errno != EINVAL)
		die(EXIT_CANNOT, "region %s (%" PRIu64 " MiB) cannot be populated: %s",
		    region->name, region->size / MIB, strerror(errno));
	for (uint64_t offset = 0; offset < region->size; offset += PAGE_BYTES)
		bytes[offset] = 1;
}

/*
 * New pages wait in a batch of the CPU that faulted them in, up to 31 of them, before they are on
 * an LRU list. DAMON cannot make a waiting page old: it would read as accessed until something
 * else drains the batch, though nobody touches it. We may have moved between CPUs while populating,
 * so the batch of each CPU that we may run on is drained: madvise(MADV_COLD) begins with that.
 */
static void drain_batches(void)
{
	void *page =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu_set_t allowed, one;

	if (page == MAP_FAILED)
		die(EXIT_CANNOT, "a page cannot be mapped: %s", strerror(errno));
	if (!sched_getaffinity(0, sizeof(allowed), &allowed)) {
		for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
			if (!CPU_ISSET(cpu, &allowed))
				continue;
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			if (!sched_setaffinity(0, sizeof(one), &one))
				madvise(page, PAGE_BYTES, MADV_COLD);
		}
		sched_setaffinity(0, sizeof(allowed), &allowed);
	}
	munmap(page, PAGE_BYTES);
}

void place_regions(struct program *program)
{
	uint64_t below = lowest_above_heap();

	refuse_without_memory(program);
	for (size_t i = program->nr_regions; i-- > 0;) {
		struct region *region = &program->regions[i];

		if (below <= program->gap || region->size >= below - program->gap)
			die(EXIT_CANNOT,
			    "region %s does not fit into the address space; make it smaller",
			    region->name);
		region->start = (below - program->gap - region->size) / REGION_ALIGN * REGION_ALIGN;
		map_region(region);
		below = region->start;
	}
	for (size_t i = 0; i < program->nr_regions; i++) {
		struct region *region = &program->regions[i];

		if (region->populate)
			populate(region);
		printf("region %s %" PRIx64 " %" PRIx64 "\n", region->name, region->start,
		       region->start + region->size);
	}
	drain_batches();
}

/* What DAMON's vaddr will watch: all but the two biggest gaps; of equal ones the lower counts as
 * bigger. */
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
