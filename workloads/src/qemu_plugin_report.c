// SPDX-License-Identifier: GPL-2.0
/* Write the counts of a window as lines of numbers; cost_plugin.py parses them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "qemu_plugin.h"

static void write_lines(FILE *file, uint64_t nr_insns)
{
	fprintf(file, "instructions %" PRIu64 " lost_frames %" PRIu64 "\n", nr_insns,
		nr_lost_frames);
	for (uint32_t i = 0; i < nr_threads; i++)
		fprintf(file, "thread %" PRIu32 " %" PRIu64 " %" PRIu64 " %.*s\n",
			threads[i].counted ? threads[i].root : 0, threads[i].nr_insns,
			threads[i].nr_switches, COMM_LEN, threads[i].comm);
	for (uint32_t i = 1; i < nr_nodes; i++)
		fprintf(file, "node %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 "\n",
			i, nodes[i].parent, nodes[i].id, nodes[i].nr_calls, nodes[i].nr_insns);
	fprintf(file, "end\n");
}

/* Returns 0 or an errno. */
int report_write(const char *path, uint64_t nr_insns)
{
	FILE *file = fopen(path, "w");
	int error;

	if (!file)
		return errno;
	write_lines(file, nr_insns);
	error = ferror(file) ? EIO : 0;
	if (fclose(file) && !error)
		error = errno;
	return error;
}
