// SPDX-License-Identifier: GPL-2.0
/* Write the counts of a window as lines of numbers; cost_plugin.py and access_plugin.py parse them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "qemu_plugin.h"

static void write_accesses(FILE *file)
{
	const struct access_counts *counts = accesses_counted();
	const struct time_check *check = time_checked();

	fprintf(file, "accesses %" PRIu64 " unknown %" PRIu64 " runs %" PRIu64 "\n",
		counts->nr_accesses, counts->nr_unknown, counts->nr_runs);
	fprintf(file, "clock %" PRIu64 " exact %" PRIu64 " idle %" PRIu64 " behind %" PRIu64 "\n",
		check->nr_reads, check->nr_exact, check->nr_idle, check->most_behind_ns);
	fprintf(file, "pid_offset %" PRIu32 "\n", pids_offset());
	for (uint32_t i = 1; i < nr_spaces; i++)
		fprintf(file, "space %" PRIu32 " %" PRIx64 " %" PRIu32 " %.*s\n", i,
			spaces[i].page_table, spaces[i].pid, COMM_LEN, spaces[i].comm);
}

static void write_cost(FILE *file)
{
	for (uint32_t i = 0; i < nr_threads; i++)
		fprintf(file, "thread %" PRIu32 " %" PRIu64 " %" PRIu64 " %.*s\n",
			threads[i].counted ? threads[i].root : 0, threads[i].nr_insns,
			threads[i].nr_switches, COMM_LEN, threads[i].comm);
	for (uint32_t i = 1; i < nr_nodes; i++)
		fprintf(file, "node %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 "\n",
			i, nodes[i].parent, nodes[i].id, nodes[i].nr_calls, nodes[i].nr_insns);
}

/* Returns 0 or an errno. */
int report_write(const char *path, uint64_t window)
{
	FILE *file = fopen(path, "w");
	int error;

	if (!file)
		return errno;
	fprintf(file, "instructions %" PRIu64 " lost_frames %" PRIu64 "\n", nr_insns,
		nr_lost_frames);
	if (window & WINDOW_COST)
		write_cost(file);
	if (window & WINDOW_ACCESSES)
		write_accesses(file);
	fprintf(file, "end\n");
	error = ferror(file) ? EIO : 0;
	if (fclose(file) && !error)
		error = errno;
	return error;
}
