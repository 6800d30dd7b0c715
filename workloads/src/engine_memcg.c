// SPDX-License-Identifier: GPL-2.0
/*
 * A memory control group of the target's own, beside no other: made directly below the hierarchy's
 * root, entered before anything is mapped, left and removed at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

static char group[2 * LINE_LEN];
static char before[2 * LINE_LEN]; /* the group that we came from */

static bool has_word(const char *words, const char *word)
{
	const char *found = strstr(words, word);
	size_t length = strlen(word);

	while (found) {
		bool begins = found == words || strchr(" ,\n", found[-1]);

		if (begins && strchr(" ,\n", found[length]))
			return true;
		found = strstr(found + length, word);
	}
	return false;
}

static bool file_has(const char *directory, const char *name, const char *word)
{
	char path[3 * LINE_LEN], text[LINE_LEN] = "";
	FILE *file;
	bool found;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	found = fgets(text, sizeof(text), file) && has_word(text, word);
	fclose(file);
	return found;
}

/* Where memory control groups are, version 2 or 1. */
static bool find_mount(char *mount, bool *version_2)
{
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char line[LINE_LEN], type[64], options[LINE_LEN];
	bool found = false;

	while (!found && mounts && fgets(line, sizeof(line), mounts)) {
		if (sscanf(line, "%*s %4095s %63s %4095s", mount, type, options) != 3)
			continue;
		*version_2 = !strcmp(type, "cgroup2");
		if (*version_2)
			found = file_has(mount, "cgroup.controllers", "memory");
		else
			found = !strcmp(type, "cgroup") && has_word(options, "memory");
	}
	if (mounts)
		fclose(mounts);
	return found;
}

/* Our own group within that hierarchy. */
static void find_before(const char *mount, bool version_2)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[LINE_LEN];

	strcpy(before, mount);
	while (file && fgets(line, sizeof(line), file)) {
		char *controllers = strchr(line, ':'), *path;

		line[strcspn(line, "\n")] = '\0';
		path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = '\0';
		if (version_2 ? !controllers[1] : has_word(controllers + 1, "memory")) {
			snprintf(before, sizeof(before), "%s%s", mount, path);
			break;
		}
	}
	if (file)
		fclose(file);
}

static bool move_to(const char *directory)
{
	char path[3 * LINE_LEN], pid[32];
	int fd, length = snprintf(pid, sizeof(pid), "%d", getpid());
	bool moved;

	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	moved = write(fd, pid, length) == length;
	close(fd);
	return moved;
}

static void make_group(const char *mount, bool version_2)
{
	snprintf(group, sizeof(group), "%s/%s-%d", mount, program.memcg, getpid());
	if (version_2 && !file_has(mount, "cgroup.subtree_control", "memory"))
		die(EXIT_CANNOT,
		    "memory control group %s: memory is not switched on for groups; write +memory "
		    "to %s/cgroup.subtree_control",
		    program.memcg, mount);
	if (mkdir(group, 0755))
		die(EXIT_CANNOT, "memory control group %s cannot be made: %s", group,
		    strerror(errno));
	if (move_to(group))
		return;
	rmdir(group);
	die(EXIT_CANNOT, "memory control group %s cannot be entered: %s", group, strerror(errno));
}

void enter_memcg(void)
{
	char mount[LINE_LEN];
	bool version_2;

	if (!*program.memcg)
		return;
	if (resumed) {
		/* Where we are already; only where to go back to is known to nobody else. */
		const char *old = getenv("DAMON_TESTS_ENGINE_MEMCG");

		if (old)
			sscanf(old, "%8191[^:]:%8191s", group, before);
		return;
	}
	if (!find_mount(mount, &version_2))
		die(EXIT_CANNOT,
		    "memory control group %s: none can be made; mount cgroup2 with the memory "
		    "controller",
		    program.memcg);
	find_before(mount, version_2);
	make_group(mount, version_2);
	printf("memcg %s\n", group + strlen(mount));
}

/* For enter_memcg() after an exec. */
void remember_memcg(void)
{
	char text[4 * LINE_LEN + 2];

	if (!*group)
		return;
	snprintf(text, sizeof(text), "%s:%s", group, before);
	setenv("DAMON_TESTS_ENGINE_MEMCG", text, 1);
}

/* Its memory stays charged to it until the process ends: the kernel keeps what it needs of it. */
void leave_memcg(void)
{
	if (*group && move_to(before))
		rmdir(group);
}
