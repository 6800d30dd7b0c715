// SPDX-License-Identifier: GPL-2.0
/*
 * What the engine tells about itself, in files that anybody may read while it runs:
 *
 * status  text: counters, "key value" a line, from "seq N" to "end N" (N equal: not torn)
 * phases  u64 start times of the phases begun so far, by running number; one more for the end
 *	   of the last when nothing follows
 * passes  struct pass_record, in time order
 * slices  u64 start, u64 end, then one bit for each page of the windows (see status), set if
 * touched
 *
 * All numbers are little-endian, as on every machine this runs on. Files are written, not
 * mapped: their pages would be hot memory of this very process. A file that is full, or
 * cannot be written, loses records; they are counted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

uint64_t *slice_bits;

static struct program *program;
static struct {
	int status, phases, passes, slices;
} fds = { -1, -1, -1, -1 };
static const char *state = "starting";
static uint64_t seq, go_time, stop_time;
static uint64_t nr_phases, phases_dropped;
static uint64_t passes_logged, passes_dropped, first_dropped_ns;
static uint64_t slices_logged, slices_dropped, slice_start, slices_bytes;
static uint64_t *slice_record; /* start, end, bits */
static size_t slice_bytes;

static int create(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		die(EXIT_BROKEN, "%s cannot be created: %s", path, strerror(errno));
	return fd;
}

static bool write_all(int fd, const void *data, size_t size)
{
	while (size) {
		ssize_t written = write(fd, data, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		data = (const char *)data + written;
		size -= written;
	}
	return true;
}

static void prepare_slices(void)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < program->nr_regions; i++) {
		struct region *region = &program->regions[i];

		region->window_bit = bits;
		bits += (region->window_pages + 63) / 64 * 64;
	}
	slice_bytes = bits / 8;
	slice_record = allocate(2 + bits / 64, sizeof(*slice_record));
	slice_bits = slice_record + 2;
	fds.slices = create(program->slices_path);
}

void open_publication(struct program *the_program)
{
	program = the_program;
	fds.status = create(program->status_path);
	fds.phases = create(program->phases_path);
	if (*program->passes_path)
		fds.passes = create(program->passes_path);
	if (*program->slices_path)
		prepare_slices();
}

static void print_status(FILE *out, const struct worker *worker)
{
	fprintf(out, "seq %" PRIu64 "\nstate %s\nnow_ns %" PRIu64 "\n", seq, state, now_ns());
	fprintf(out, "go_ns %" PRIu64 "\nstopped_ns %" PRIu64 "\n", go_time, stop_time);
	fprintf(out, "flushes %" PRIu64 "\nflush_ns %" PRIu64 "\n", worker->flushes,
		worker->flush_ns);
	fprintf(out, "late_max_ns %" PRIu64 "\n", worker->late_max_ns);
	fprintf(out, "phases %" PRIu64 "\nphases_dropped %" PRIu64 "\n", nr_phases, phases_dropped);
	fprintf(out, "passes_logged %" PRIu64 "\npasses_dropped %" PRIu64 "\n", passes_logged,
		passes_dropped);
	fprintf(out, "first_dropped_ns %" PRIu64 "\n", first_dropped_ns);
	fprintf(out, "slices_logged %" PRIu64 "\nslices_dropped %" PRIu64 "\n", slices_logged,
		slices_dropped);
	fprintf(out, "slice_bytes %zu\n", slice_bytes);
	for (size_t i = 0; slice_bits && i < program->nr_regions; i++) {
		const struct region *region = &program->regions[i];

		fprintf(out, "window %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", region->name,
			(region->start >> PAGE_SHIFT) + region->window_first, region->window_pages,
			region->window_bit);
	}
	for (size_t p = 0; p < program->nr_phases; p++) {
		for (size_t t = 0; t < program->phases[p].nr_terms; t++) {
			const struct term *term = &program->phases[p].terms[t];

			fprintf(out, "term %zu %zu %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", p, t,
				term->passes, term->accesses, term->missed);
		}
	}
	fprintf(out, "end %" PRIu64 "\n", seq);
}

void publish_status(struct worker *worker)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		die(EXIT_BROKEN, "no memory for the status");
	seq++;
	write_log(worker);
	print_status(out, worker);
	if (fclose(out))
		die(EXIT_BROKEN, "no memory for the status");
	/* Never shorter than before: numbers only grow, so nothing old is left behind its end. */
	if (pwrite(fds.status, text, size, 0) != (ssize_t)size)
		die(EXIT_BROKEN, "%s cannot be written: %s", program->status_path, strerror(errno));
	free(text);
}

void publish_state(struct worker *worker, const char *new_state)
{
	state = new_state;
	publish_status(worker);
}

void publish_phase(uint64_t start_ns)
{
	if (write_all(fds.phases, &start_ns, sizeof(start_ns)))
		nr_phases++;
	else
		phases_dropped++;
}

void publish_go(uint64_t go_ns)
{
	go_time = go_ns;
	slice_start = go_ns;
}

void publish_stop(uint64_t stop_ns)
{
	stop_time = stop_ns;
	if (slice_bits && go_time)
		end_slice(stop_ns);
}

void write_log(struct worker *worker)
{
	size_t count = worker->nr_logged;

	worker->nr_logged = 0;
	if (!count)
		return;
	/* Once something is lost, nothing more is logged: a log with a hole would look complete. */
	if (!passes_dropped && passes_logged + count <= program->max_passes &&
	    write_all(fds.passes, worker->log, count * sizeof(*worker->log))) {
		passes_logged += count;
		return;
	}
	if (!passes_dropped)
		first_dropped_ns = worker->log[0].start_ns;
	passes_dropped += count;
}

void log_pass(struct worker *worker, size_t term, uint64_t pass, uint64_t start_ns, uint64_t end_ns)
{
	struct pass_record *record;

	if (fds.passes < 0)
		return;
	record = &worker->log[worker->nr_logged++];
	record->start_ns = start_ns;
	record->length_ns = end_ns - start_ns;
	record->pass = pass;
	record->phase = worker->phase_number;
	record->term = term;
	if (worker->nr_logged == LOG_RECORDS)
		write_log(worker);
}

uint64_t slice_end_ns(void)
{
	return slice_start + program->slice_ns;
}

void end_slice(uint64_t at_ns)
{
	size_t size = 2 * sizeof(*slice_record) + slice_bytes;

	slice_record[0] = slice_start;
	slice_record[1] = at_ns;
	if (!slices_dropped && slices_bytes + size <= program->max_slices_bytes &&
	    write_all(fds.slices, slice_record, size)) {
		slices_logged++;
		slices_bytes += size;
	} else {
		slices_dropped++;
	}
	memset(slice_bits, 0, slice_bytes);
	slice_start = at_ns;
}
