// SPDX-License-Identifier: GPL-2.0
/*
 * Print the time stamp counter and CLOCK_MONOTONIC (ns) at one moment, and how uncertain it is.
 *
 * The QEMU plugin knows times by the time stamp counter only; two such pairs convert them.
 *
 * With a NAME: take it as the name of this task, print it, and end when standard input ends. From
 * such tasks the plugin learns where the kernel keeps pids (qemu_plugin_pids.c).
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define TRIES 20

static int wait_as(const char *name)
{
	char byte;

	if (prctl(PR_SET_NAME, name))
		return 1;
	puts(name);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t best_tsc = 0, best_ns = 0, best_gap = UINT64_MAX;

	if (argc > 1)
		return wait_as(argv[1]);
	for (int i = 0; i < TRIES; i++) {
		struct timespec now;
		uint64_t before = __rdtsc(), after;

		if (clock_gettime(CLOCK_MONOTONIC, &now))
			return 1;
		after = __rdtsc();
		if (after - before < best_gap) {
			best_gap = after - before;
			best_tsc = before + best_gap / 2;
			best_ns = now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
		}
	}
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", best_tsc, best_ns, best_gap);
	return 0;
}
