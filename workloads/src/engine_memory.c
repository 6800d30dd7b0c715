// SPDX-License-Identifier: GPL-2.0
/* A region's memory: map it, fill it, and apply its madvise(), mlock() and mempolicy settings. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"

#define MIB	     ((uint64_t)1 << 20)
#define TMPFS_MAGIC_ 0x01021994
#define MPOL_BIND_   2
#define NODES	     64
#define FS_CREATE    6 /* FSCONFIG_CMD_CREATE */

const char *const memory_names[] = { "anonymous", "file", "shmem", "hugetlb", "heap", NULL };

/* Makes an unnamed file in a directory that is not on tmpfs, where it would be shmem. */
static int temporary_file(const char *directory)
{
	struct statfs about;
	char name[LINE_LEN + 32];
	int fd;

	if (statfs(directory, &about) || about.f_type == TMPFS_MAGIC_)
		return -1;
	fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	snprintf(name, sizeof(name), "%s/damon-tests-XXXXXX", directory);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

/*
 * Where every directory is on tmpfs, as in a bare guest: makes a file on a detached ramfs mount, so
 * that the machine does not change. Its pages are page cache, though never reclaimed. Needs
 * CAP_SYS_ADMIN.
 */
static int detached_file(void)
{
	int context = syscall(SYS_fsopen, "ramfs", 1), mount = -1, fd = -1;

	if (context < 0)
		return -1;
	if (!syscall(SYS_fsconfig, context, FS_CREATE, NULL, NULL, 0))
		mount = syscall(SYS_fsmount, context, 1, 0);
	if (mount >= 0)
		fd = openat(mount, "file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (mount >= 0)
		close(mount);
	close(context);
	return fd;
}

static int open_file(const struct region *region)
{
	int fd;

	char beside[LINE_LEN];
	const char *const directories[] = { beside, "/var/tmp", "/tmp", "/" };

	strcpy(beside, program.status_path);
	if (strrchr(beside, '/'))
		*strrchr(beside, '/') = '\0';
	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++) {
		fd = temporary_file(directories[i]);
		if (fd >= 0)
			return fd;
	}
	fd = detached_file();
	if (fd >= 0)
		return fd;
	die(EXIT_CANNOT,
	    "region %s is a file, and no temporary one can be made outside of tmpfs (tried %s, "
	    "/var/tmp, /tmp, / and a ramfs)",
	    region->name, beside);
}

/* Prepares what a region needs before it can be mapped. */
void open_region(struct region *region)
{
	if (region->has_same) {
		region->fd = program.regions[region->same_as].fd;
		return;
	}
	if (region->memory == MEMORY_FILE)
		region->fd = open_file(region);
	else if (region->memory == MEMORY_SHMEM)
		region->fd = memfd_create("damon-tests", MFD_CLOEXEC);
	else
		return;
	if (region->fd < 0 || ftruncate(region->fd, region->size))
		die(EXIT_CANNOT, "region %s: a file of %" PRIu64 " MiB cannot be made: %s",
		    region->name, region->size / MIB, strerror(errno));
}

static void advise(const struct region *region, void *place, size_t size)
{
	unsigned long nodes[NODES / (8 * sizeof(unsigned long))] = { 0 };

	if (region->hugepage == HUGEPAGE_YES && madvise(place, size, MADV_HUGEPAGE))
		die(EXIT_CANNOT,
		    "region %s wants huge pages, but madvise(MADV_HUGEPAGE) failed: %s",
		    region->name, strerror(errno));
	/* A kernel without huge pages refuses MADV_NOHUGEPAGE, and uses none anyway. */
	if (region->hugepage == HUGEPAGE_NO)
		madvise(place, size, MADV_NOHUGEPAGE);
	if (region->node >= 0) {
		nodes[region->node / (8 * sizeof(*nodes))] = 1UL
							     << region->node % (8 * sizeof(*nodes));
		if (syscall(SYS_mbind, place, size, MPOL_BIND_, nodes, NODES + 1, 0))
			die(EXIT_CANNOT,
			    "region %s wants NUMA node %" PRId64
			    ", but mbind() failed: %s; is there such a node, with memory?",
			    region->name, region->node, strerror(errno));
	}
	if (region->lock && syscall(SYS_mlock2, place, size, region->populate ? 0 : 1))
		die(EXIT_CANNOT,
		    "region %s cannot be locked: %s; more RLIMIT_MEMLOCK, or root, is needed",
		    region->name, strerror(errno));
}

static void *map_at(const struct region *region, void *wanted, size_t size, uint64_t offset)
{
	int flags = MAP_FIXED_NOREPLACE;

	if (region->fd >= 0)
		return mmap(wanted, size, PROT_READ | PROT_WRITE, flags | MAP_SHARED, region->fd,
			    offset);
	flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	/* Huge pages are reserved, so that a lack of them fails here and not at an access. */
	if (region->memory == MEMORY_HUGETLB)
		flags |= MAP_HUGETLB | __builtin_ctzll(huge_bytes) << MAP_HUGE_SHIFT;
	else
		flags |= MAP_NORESERVE;
	return mmap(wanted, size, PROT_READ | PROT_WRITE, flags, -1, 0);
}

/* Maps bytes [start, end) of a region. For a heap, brk() has done so already. */
void map_region(struct region *region, uint64_t start, uint64_t end)
{
	void *wanted = (void *)(uintptr_t)(region->start + start), *got = wanted;

	if (region->memory != MEMORY_HEAP)
		got = map_at(region, wanted, end - start, start);
	if (got == MAP_FAILED && region->memory == MEMORY_HUGETLB)
		die(EXIT_CANNOT,
		    "region %s needs %" PRIu64 " huge pages of %" PRIu64
		    " MiB: %s; reserve them in /proc/sys/vm/nr_hugepages",
		    region->name, (end - start) / huge_bytes, huge_bytes / MIB, strerror(errno));
	if (got == MAP_FAILED)
		die(EXIT_CANNOT,
		    "region %s (%" PRIu64 " MiB) cannot be mapped at %p: %s; make it smaller",
		    region->name, (end - start) / MIB, wanted, strerror(errno));
	if (got != wanted)
		die(EXIT_CANNOT,
		    "region %s was mapped at %p instead of %p; a newer kernel is needed",
		    region->name, got, wanted);
	advise(region, got, end - start);
}

void populate_region(struct region *region, uint64_t start, uint64_t end)
{
	volatile uint8_t *bytes = (uint8_t *)(uintptr_t)region->start;
	uint64_t step = region->memory == MEMORY_HUGETLB ? huge_bytes : page_bytes;

	/* Reports a lack of memory, where a store would be killed. Older kernels lack it. */
	if (madvise((void *)(bytes + start), end - start, MADV_POPULATE_WRITE) && errno != EINVAL)
		die(EXIT_CANNOT, "region %s (%" PRIu64 " MiB) cannot be populated: %s",
		    region->name, (end - start) / MIB, strerror(errno));
	for (uint64_t offset = start; offset < end; offset += step)
		bytes[offset] = 1;
}

/* Writes the initial content: as many of a file's bytes as fit. */
void fill_region(struct region *region)
{
	uint8_t *bytes = (uint8_t *)(uintptr_t)region->start;
	uint64_t done = 0;
	ssize_t got = 1;
	int fd;

	if (!strcmp(region->file, "-"))
		return;
	fd = open(region->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(EXIT_CANNOT, "the initial content of region %s, %s, cannot be opened: %s",
		    region->name, region->file, strerror(errno));
	while (done < region->mapped && got > 0) {
		got = read(fd, bytes + done, region->mapped - done);
		done += got > 0 ? got : 0;
	}
	if (got < 0)
		die(EXIT_CANNOT, "%s cannot be read: %s", region->file, strerror(errno));
	close(fd);
}

/* Returns how many bytes a region will occupy: populated, or faulted in by accesses. */
static uint64_t needed_bytes(const struct region *region)
{
	uint64_t faulted = 0;

	if (region->memory == MEMORY_HUGETLB) /* reserved separately, and refused separately */
		return 0;
	for (size_t p = 0; p < program.nr_phases; p++) {
		for (size_t t = 0; t < program.phases[p].nr_terms; t++) {
			const struct term *term = &program.phases[p].terms[t];

			if (term->region == region)
				faulted += (term->end - term->start) * term->islands +
					   term->drift * (term->drift_positions - 1);
		}
	}
	if (faulted > region->size)
		faulted = region->size;
	if (region->populate && region->mapped > faulted)
		faulted = region->mapped;
	return faulted;
}

void refuse_without_memory(void)
{
	uint64_t needed = 0, available_kib = UINT64_MAX;
	FILE *meminfo = fopen("/proc/meminfo", "re");
	char line[256];

	if (!meminfo)
		return;
	for (size_t i = 0; i < program.nr_regions; i++)
		needed += needed_bytes(&program.regions[i]);
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

/*
 * Pages that were just faulted in wait in a per-CPU batch before they are on an LRU list, and DAMON
 * does not clear the accessed bits of pages off the LRU lists: populated memory would look accessed
 * until other pages fill the batch. madvise(MADV_COLD) first drains the batches of its CPU. Here it
 * does nothing else, because its page was never touched: no page, translation or statistic of the
 * pattern's memory changes.
 */
static void *cold_page;

void prepare_drain(void)
{
	cold_page = own_area(page_bytes, -1);
}

static void drain_here(void)
{
	madvise(cold_page, page_bytes, MADV_COLD); /* kernels before 5.4 lack it */
}

/* ``all_cpus``: drain every CPU that this thread may have run on. */
void drain_lru(bool all_cpus)
{
	cpu_set_t allowed, one;

	drain_here();
	if (!all_cpus || sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (CPU_ISSET(cpu, &allowed) && !sched_setaffinity(0, sizeof(one), &one))
			drain_here();
	}
	sched_setaffinity(0, sizeof(allowed), &allowed);
}
