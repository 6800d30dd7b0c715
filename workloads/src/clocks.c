// SPDX-License-Identifier: GPL-2.0
/*
 * Print the time stamp counter and CLOCK_MONOTONIC (ns) at one moment, and how uncertain it is.
 *
 * The QEMU plugin knows times by the time stamp counter only; two such pairs convert them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define TRIES 20

int main(void)
{
	uint64_t best_tsc = 0, best_ns = 0, best_gap = UINT64_MAX;

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
