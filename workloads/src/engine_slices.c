// SPDX-License-Identifier: GPL-2.0
/*
 * The exact touched-page map of each slice of time, in a file that anyone may read meanwhile:
 *
 * slices  u64 start, u64 end, u64 number of the worker, then a bit for each page of the windows
 *	   (see status), set if touched
 *
 * Each worker has its own slices, consecutive and without gaps, and ends a slice only between two
 * passes, so that no worker waits for another and no slice ends within a pass. What a process
 * touched is the union of the slices of all its workers.
 */
#include <string.h>

#include "engine.h"

#define HEAD_WORDS 3

static size_t bits_bytes; /* of a slice */

size_t slice_bytes(void)
{
	return bits_bytes;
}

/* Allocates for all workers before they exist: later the heap may have no room to grow. */
void prepare_slices(void)
{
	uint64_t bits = 0;
	size_t map_bytes = prepare_marks();

	for (size_t i = 0; i < program.nr_regions; i++) {
		struct region *region = &program.regions[i];

		region->window_bit = bits;
		bits += (region->window_pages + 63) / 64 * 64;
	}
	bits_bytes = bits / 8;
	for (uint64_t i = 0; i < board->nr_workers; i++) {
		struct worker *worker = &board->workers[i];

		worker->slice = allocate(HEAD_WORDS + bits / 64, sizeof(*worker->slice));
		worker->page_map = map_bytes ? allocate(map_bytes, 1) : NULL;
	}
}

/* Makes this thread the worker; its first slice starts at ``start_ns``. */
void begin_slices(struct worker *worker, uint64_t start_ns)
{
	if (!*program.slices_path)
		return;
	worker->slice_start = start_ns;
	mark_into(worker->slice + HEAD_WORDS, worker->page_map);
}

uint64_t slice_end_ns(const struct worker *worker)
{
	return worker->slice_start + program.slice_ns;
}

void end_slice(struct worker *worker, uint64_t at_ns)
{
	size_t size = HEAD_WORDS * sizeof(*worker->slice) + bits_bytes;

	worker->slice[0] = worker->slice_start;
	worker->slice[1] = at_ns;
	worker->slice[2] = worker - board->workers;
	write_slice(worker->slice, size);
	memset(worker->slice + HEAD_WORDS, 0, bits_bytes);
	worker->slice_start = at_ns;
}
