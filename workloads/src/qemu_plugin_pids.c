// SPDX-License-Identifier: GPL-2.0
/*
 * Read the pid of a task's process from the guest's memory.
 *
 * The offset of pid and tgid in task_struct differs between kernels. The harness lists tasks by
 * name and pid: of all offsets at which two equal numbers follow each other, the right one has
 * the pid of every listed task that runs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define MAX_LISTED    4096
#define FEWEST_TASKS  3 /* that agree on the offset */
#define NR_CANDIDATES (TASK_BYTES / sizeof(uint32_t))

static struct {
	char comm[COMM_LEN];
	uint32_t pid;
	bool seen;
} listed[MAX_LISTED];
static size_t nr_listed;
static unsigned int nr_seen;
static bool candidates[NR_CANDIDATES];
static size_t pid_offset; /* 0: not known yet */
static bool wanted;

static void forget(void)
{
	memset(candidates, true, sizeof(candidates));
	nr_seen = 0;
	pid_offset = 0;
}

/* Reads lines of "PID NAME", of tasks whose pid is that of their process and whose name only they
 * have. An empty path: pids are not wanted. Returns 0 or an errno. */
int pids_load(const char *path)
{
	FILE *file;
	char line[64];

	wanted = *path;
	if (!wanted)
		return 0;
	file = fopen(path, "r");
	if (!file)
		return errno;
	nr_listed = 0;
	while (nr_listed < MAX_LISTED && fgets(line, sizeof(line), file)) {
		char *name;

		listed[nr_listed].pid = strtoul(line, &name, 10);
		listed[nr_listed].seen = false;
		memset(listed[nr_listed].comm, 0, COMM_LEN);
		name[strcspn(name, "\n")] = '\0';
		strncpy(listed[nr_listed++].comm, name + 1, COMM_LEN - 1);
	}
	fclose(file);
	if (!pid_offset)
		forget();
	return 0;
}

bool pids_wanted(void)
{
	return wanted;
}

uint32_t pids_offset(void)
{
	return pid_offset;
}

/* Drops the offsets that a listed task does not confirm. */
static void learn(uint64_t task, const char *comm)
{
	const uint8_t *bytes;
	size_t last = 0, left = 0, n = 0;

	while (n < nr_listed && (listed[n].seen || strncmp(listed[n].comm, comm, COMM_LEN)))
		n++;
	if (n == nr_listed)
		return;
	bytes = cpu_memory(task, TASK_BYTES);
	if (!bytes)
		return;
	listed[n].seen = true;
	nr_seen++;
	for (size_t i = 1; i + 1 < NR_CANDIDATES; i++) {
		uint32_t pair[2];

		memcpy(pair, bytes + i * sizeof(*pair), sizeof(pair));
		candidates[i] &= pair[0] == listed[n].pid && pair[1] == listed[n].pid;
		if (candidates[i]) {
			last = i;
			left++;
		}
	}
	if (!left) {
		forget();
	} else if (left == 1 && nr_seen >= FEWEST_TASKS) {
		pid_offset = last * sizeof(uint32_t);
		spaces_forget();
	}
}

/* Returns the pid of the task's process, 0 if it is not known yet. */
uint32_t pids_read(uint64_t task, const char *comm)
{
	const uint8_t *bytes;
	uint32_t tgid;

	if (!pid_offset)
		learn(task, comm);
	if (!pid_offset)
		return 0;
	bytes = cpu_memory(task + pid_offset + sizeof(uint32_t), sizeof(tgid));
	if (!bytes)
		return 0;
	memcpy(&tgid, bytes, sizeof(tgid));
	return tgid;
}
