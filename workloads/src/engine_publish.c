// SPDX-License-Identifier: GPL-2.0
/*
 * Files in which the engine reports its progress; anyone may read them while it runs:
 *
 * status  text: counters, "key value" per line. Each update is a new file, renamed over the old
 *	   one, so that readers never see a partial file
 * phases  u64 start times of the phases begun so far, by running number; one more for the end
 *	   of the last when nothing follows
 * passes  struct pass_record, in the order in which each thread began them
 * slices  see engine_slices.c
 *
 * All numbers are little-endian, as on every machine this runs on. Files are written, not mapped,
 * because mapped pages would be hot memory of the target. When a file is full or cannot be written,
 * records are lost and counted.
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

static struct {
	int phases, passes, slices;
} fds = { -1, -1, -1 };
static const char *state = "starting";
static uint64_t stop_time;

static int create(const char *path)
{
	int how = resumed ? 0 : O_TRUNC;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | how, 0644);

	if (fd < 0)
		die(EXIT_BROKEN, "%s cannot be created: %s", path, strerror(errno));
	lseek(fd, 0, SEEK_END);
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

void open_publication(void)
{
	fds.phases = create(program.phases_path);
	if (*program.passes_path)
		fds.passes = create(program.passes_path);
	if (!*program.slices_path)
		return;
	prepare_slices();
	fds.slices = create(program.slices_path);
}

static pid_t pid_of(const struct worker *worker)
{
	for (uint64_t i = 0; i < board->nr_workers; i++) {
		if (board->workers[i].process == worker->process && board->workers[i].pid)
			return board->workers[i].pid;
	}
	return getpid();
}

/* Of all workers. */
static void print_work(FILE *out)
{
	uint64_t flushes = 0, flush_ns = 0, late_max_ns = 0;

	for (uint64_t i = 0; i < board->nr_workers; i++) {
		const struct worker *worker = &board->workers[i];
		uint64_t late_ns = get(&worker->late_max_ns);

		flushes += get(&worker->flushes);
		flush_ns += get(&worker->flush_ns);
		if (late_ns > late_max_ns)
			late_max_ns = late_ns;
		fprintf(out, "worker %" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n", i, worker->process,
			worker->thread, pid_of(worker));
	}
	fprintf(out, "flushes %" PRIu64 "\nflush_ns %" PRIu64 "\n", flushes, flush_ns);
	fprintf(out, "late_max_ns %" PRIu64 "\n", late_max_ns);
}

static void print_terms(FILE *out)
{
	for (size_t p = 0; p < program.nr_phases; p++) {
		const struct phase *phase = &program.phases[p];
		uint64_t turns_missed =
			get(&phase->turns->missed); /* the same for all terms that take turns */

		for (size_t t = 0; t < phase->nr_terms; t++) {
			const struct counts *counts = phase->terms[t].counts;
			uint64_t missed = get(&counts->missed);

			if (phase->terms[t].weight) {
				missed += turns_missed;
				turns_missed = 0;
			}
			fprintf(out, "term %zu %zu %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", p, t,
				get(&counts->passes), get(&counts->accesses), missed);
		}
	}
}

static void print_status(FILE *out)
{
	fprintf(out, "state %s\nnow_ns %" PRIu64 "\n", state, now_ns());
	fprintf(out, "go_ns %" PRIu64 "\nstopped_ns %" PRIu64 "\n", board->go_ns, stop_time);
	print_work(out);
	fprintf(out, "phases %" PRIu64 "\nphases_dropped %" PRIu64 "\n", board->nr_phases,
		board->phases_dropped);
	fprintf(out, "passes_logged %" PRIu64 "\npasses_dropped %" PRIu64 "\n",
		get(&board->passes_logged), get(&board->passes_dropped));
	fprintf(out, "first_dropped_ns %" PRIu64 "\n", get(&board->first_dropped_ns));
	fprintf(out, "slices_logged %" PRIu64 "\nslices_dropped %" PRIu64 "\n",
		get(&board->slices_logged), get(&board->slices_dropped));
	fprintf(out, "slice_bytes %zu\n", slice_bytes());
	for (size_t i = 0; *program.slices_path && i < program.nr_regions; i++) {
		const struct region *region = &program.regions[i];

		fprintf(out, "window %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", region->name,
			(region->start >> page_shift) + region->window_first, region->window_pages,
			region->window_bit);
	}
	print_terms(out);
}

/* The caller holds the worker's lock. */
static void write_log(struct worker *worker)
{
	size_t count = worker->nr_logged;

	worker->nr_logged = 0;
	if (!count)
		return;
	lock(&board->lock);
	/* After a loss, log nothing more: a log with a hole would look complete. */
	if (!board->passes_dropped && board->passes_logged + count <= program.max_passes &&
	    write_all(fds.passes, worker->log, count * sizeof(*worker->log))) {
		add(&board->passes_logged, count);
	} else {
		/* Any of several workers may be the first to lose a record. */
		if (!board->passes_dropped || worker->log[0].start_ns < board->first_dropped_ns)
			set(&board->first_dropped_ns, worker->log[0].start_ns);
		add(&board->passes_dropped, count);
	}
	unlock(&board->lock);
}

void publish_status(void)
{
	char path[LINE_LEN + 8];
	FILE *out;

	for (uint64_t i = 0; i < board->nr_workers; i++) {
		lock(&board->workers[i].lock);
		write_log(&board->workers[i]);
		unlock(&board->workers[i].lock);
	}
	snprintf(path, sizeof(path), "%s.new", program.status_path);
	out = fopen(path, "we");
	if (out)
		print_status(out);
	if (!out || fclose(out) || rename(path, program.status_path))
		die(EXIT_BROKEN, "%s cannot be written: %s", program.status_path, strerror(errno));
}

void publish_state(const char *new_state)
{
	state = new_state;
	publish_status();
}

void publish_phase(uint64_t start_ns)
{
	if (write_all(fds.phases, &start_ns, sizeof(start_ns)))
		board->nr_phases++;
	else
		board->phases_dropped++;
}

void publish_go(uint64_t go_ns)
{
	board->go_ns = go_ns;
}

void publish_stop(uint64_t stop_ns)
{
	stop_time = stop_ns;
	if (slice_bits)
		end_slice(&board->workers[0], stop_ns);
}

void log_pass(struct worker *worker, size_t term, uint64_t pass, uint64_t start_ns, uint64_t end_ns)
{
	struct pass_record *record;

	if (fds.passes < 0)
		return;
	lock(&worker->lock);
	record = &worker->log[worker->nr_logged++];
	record->start_ns = start_ns;
	record->length_ns = end_ns - start_ns;
	record->pass = pass;
	record->phase = worker->phase_number;
	record->term = term;
	if (worker->nr_logged == LOG_RECORDS)
		write_log(worker);
	unlock(&worker->lock);
}

/* After a lost slice, no worker writes any more: the file ends early, but has no hole. */
void write_slice(const void *record, size_t size)
{
	lock(&board->lock);
	if (!board->slices_dropped && board->slices_bytes + size <= program.max_slices_bytes &&
	    write_all(fds.slices, record, size)) {
		add(&board->slices_logged, 1);
		board->slices_bytes += size;
	} else {
		add(&board->slices_dropped, 1);
	}
	unlock(&board->lock);
}
