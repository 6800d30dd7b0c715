// SPDX-License-Identifier: GPL-2.0
/*
 * The target's own memory control groups: one directly below the hierarchy's root, and as many
 * nested groups as the pattern says. The target enters the innermost before it maps anything.
 * A helper process removes the groups when the target has ended for any reason.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define REMOVE_TRIES 1000 /* 10 ms apart: a process leaves its group some time after its exit */

static char group[2 * LINE_LEN];  /* the innermost */
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

/* Finds the mount of memory control groups, version 2 or 1. */
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

/* Returns our own group within that hierarchy. */
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

static bool write_to(const char *directory, const char *name, const char *text)
{
	char path[3 * LINE_LEN];
	int fd, length = strlen(text);
	bool written;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	written = write(fd, text, length) == length;
	close(fd);
	return written;
}

static bool move_to(const char *directory)
{
	char pid[32];

	snprintf(pid, sizeof(pid), "%d", getpid());
	return write_to(directory, "cgroup.procs", pid);
}

/* Removes a group and its parents; returns false when one is still in use. */
static bool remove_groups(char *innermost, int levels)
{
	while (levels--) {
		if (rmdir(innermost) && errno != ENOENT)
			return false;
		*strrchr(innermost, '/') = '\0';
	}
	return true;
}

/* "--tidy GROUP LEVELS": removes groups when stdin ends. */
int tidy(const char *innermost, const char *levels)
{
	static const struct timespec pause = { 0, 10000000 };
	char byte, path[2 * LINE_LEN];

	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		;
	for (int i = 0; i < REMOVE_TRIES; i++) {
		snprintf(path, sizeof(path), "%s", innermost);
		if (remove_groups(path, atoi(levels)))
			return 0;
		nanosleep(&pause, NULL);
	}
	return EXIT_BROKEN;
}

static _Noreturn void become_tidier(int ended, int levels)
{
	char number[16];
	char *const arguments[] = { "damon-tests-engine", "--tidy", group, number, NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	snprintf(number, sizeof(number), "%d", levels);
	dup2(ended, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	setsid();
	if (!fork()) /* reparented to init, so that the target has no child */
		execv("/proc/self/exe", arguments);
	_exit(0);
}

/* Our end of the pipe closes when we end, and stays open over our own exec. */
static void have_it_tidied(int levels)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		die(EXIT_CANNOT, "no pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die(EXIT_CANNOT, "no more processes can be started: %s", strerror(errno));
	if (!pid)
		become_tidier(ends[0], levels);
	waitpid(pid, NULL, 0);
	close(ends[0]);
	fcntl(ends[1], F_SETFD, 0);
}

/* The helper removes the groups made so far, as always when we end. */
static _Noreturn void cannot(const char *what)
{
	die(EXIT_CANNOT, "memory control group %s cannot be %s: %s", group, what, strerror(errno));
}

/* Makes the groups, beginning with the outermost, which is directly below the mount. */
static void make_groups(const char *mount, bool version_2)
{
	char *end = group + strlen(mount);

	if (version_2 && !file_has(mount, "cgroup.subtree_control", "memory"))
		die(EXIT_CANNOT,
		    "memory control group %s: memory is not switched on for groups; write +memory "
		    "to %s/cgroup.subtree_control",
		    program.memcg, mount);
	for (;;) {
		end = strchr(end + 1, '/');
		if (end)
			*end = '\0';
		if (mkdir(group, 0755))
			cannot("made");
		if (!end)
			return;
		if (version_2 && !write_to(group, "cgroup.subtree_control", "+memory"))
			cannot("set to control the memory of its children");
		*end = '/';
	}
}

static int nr_levels(void)
{
	int levels = 1;

	for (const char *c = program.memcg; *c; c++)
		levels += *c == '/';
	return levels;
}

void enter_memcg(void)
{
	char mount[LINE_LEN];
	bool version_2;
	int outermost; /* length of its name */

	if (!*program.memcg)
		return;
	if (resumed) {
		/* We are in the group already, but must still note the group to return to. */
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
	outermost = strcspn(program.memcg, "/");
	snprintf(group, sizeof(group), "%s/%.*s-%d%s", mount, outermost, program.memcg, getpid(),
		 program.memcg + outermost);
	have_it_tidied(nr_levels());
	make_groups(mount, version_2);
	if (!move_to(group))
		cannot("entered");
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

/*
 * Leave and remove the groups, so that they are gone when we report "stopped". The memory stays
 * charged until the process ends: the kernel keeps what it needs of a removed group.
 */
void leave_memcg(void)
{
	if (*group && move_to(before))
		remove_groups(group, nr_levels());
}
