// SPDX-License-Identifier: GPL-2.0
/* The work of a guest's pid 1: mount file systems, load modules, find the channel to the host. */
#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define PORT_NAME  "damon-tests.agent"
#define PORTS	   "/sys/class/virtio-ports"
#define MODULES	   "/modules.list"
#define PARAMETER  "damon_tests.agent=" /* on the kernel command line: a device to serve on */
#define STEADY	   "damon_tests.steady" /* likewise: see agent_steady.c */
#define PORT_WAITS 1000			/* times 10 ms */

static char boot_log[4096];
static bool booting;
static int kmsg = -1;

/* Prints to the kernel's log (or stderr); messages of the boot are kept for the host, too. */
void say(const char *format, ...)
{
	char line[512], whole[sizeof(line) + 32];
	size_t used = strlen(boot_log);
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(line, sizeof(line) - 1, format, arguments);
	va_end(arguments);
	if (n < 0)
		return;
	if (booting && used + strlen(line) + 2 < sizeof(boot_log))
		sprintf(boot_log + used, "%s\n", line);
	/* Not dprintf(): it asks for the file offset, and lseek() fails on /dev/kmsg. */
	n = snprintf(whole, sizeof(whole), "damon-tests-agent: %s\n", line);
	if (write(kmsg >= 0 ? kmsg : 2, whole, (size_t)n) < 0)
		return; /* there is nowhere else to report it */
}

const char *init_log(void)
{
	return boot_log;
}

static const struct {
	const char *type;
	const char *target;
	unsigned long flags;
	const char *data;
} mounts[] = {
	{ "proc", "/proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, "" },
	{ "sysfs", "/sys", MS_NOSUID | MS_NOEXEC | MS_NODEV, "" },
	{ "devtmpfs", "/dev", MS_NOSUID, "mode=0755" },
	{ "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666" },
	{ "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777" },
	{ "tracefs", "/sys/kernel/tracing", MS_NOSUID | MS_NOEXEC | MS_NODEV, "" },
	{ "debugfs", "/sys/kernel/debug", MS_NOSUID | MS_NOEXEC | MS_NODEV, "" },
	{ "cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NOEXEC | MS_NODEV, "" },
	{ "tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777" },
	{ "tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755" },
};

static void mount_all(void)
{
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		/* On sysfs, mkdir() fails: a feature's directory exists if the kernel has it. */
		if (mkdir(mounts[i].target, 0755) && errno != EEXIST && errno != EPERM)
			continue;
		if (mount(mounts[i].type, mounts[i].target, mounts[i].type, mounts[i].flags,
			  mounts[i].data) &&
		    errno != EBUSY)
			say("mount %s on %s: %s", mounts[i].type, mounts[i].target,
			    strerror(errno));
	}
}

/* Without /dev/console in the initramfs, the kernel starts us without any open file. */
static void open_standard_files(void)
{
	int fd;

	do {
		fd = open("/dev/console", O_RDWR | O_NOCTTY);
		if (fd < 0)
			fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd < 2);
	if (fd > 2)
		close(fd);
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
}

/* Loads lines of "path parameters" in order; reports a failure and goes on. */
static void load_modules(void)
{
	FILE *list = fopen(MODULES, "re");
	char line[512], *parameters;
	int error;

	if (!list)
		return;
	while (fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = 0;
		if (!line[0] || line[0] == '#')
			continue;
		parameters = strchr(line, ' ');
		if (parameters)
			*parameters++ = 0;
		error = system_load_module(line, parameters ? parameters : "");
		if (error && error != EEXIST)
			say("module %s: %s", line, strerror(error));
	}
	fclose(list);
}

void init_machine(void)
{
	booting = true;
	mount_all();
	open_standard_files();
	load_modules();
	booting = false;
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	/* Tests put the guest under memory pressure: our own memory must not be swapped out. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT))
		say("mlockall: %s", strerror(errno));
}

/* --- the channel ------------------------------------------------------------------------------ */

static bool read_line(const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, line, size - 1);
	close(fd);
	if (n < 0)
		return false;
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	return true;
}

/* Finds the device of our virtio port; false when there is none (yet). */
static bool find_port(char *device, size_t size)
{
	char path[512], name[128];
	DIR *ports = opendir(PORTS);
	struct dirent *e;
	bool found = false;

	while (ports && !found && (e = readdir(ports))) {
		snprintf(path, sizeof(path), PORTS "/%s/name", e->d_name);
		found = e->d_name[0] != '.' && read_line(path, name, sizeof(name)) &&
			!strcmp(name, PORT_NAME);
		if (found)
			snprintf(device, size, "/dev/%s", e->d_name);
	}
	if (ports)
		closedir(ports);
	return found;
}

bool init_wants_steady_time(void)
{
	char line[4096];

	return read_line("/proc/cmdline", line, sizeof(line)) && strstr(line, STEADY);
}

static bool named_on_command_line(char *device, size_t size)
{
	char line[4096], *at;

	if (!read_line("/proc/cmdline", line, sizeof(line)) || !(at = strstr(line, PARAMETER)))
		return false;
	at += strlen(PARAMETER);
	at[strcspn(at, " ")] = 0;
	snprintf(device, size, "%s", at);
	return true;
}

static int open_device(const char *device)
{
	int fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct termios raw;

	if (fd >= 0 && !tcgetattr(fd, &raw)) {
		cfmakeraw(&raw);
		raw.c_cflag |= CLOCAL | CREAD;
		cfsetspeed(&raw, B115200);
		tcsetattr(fd, TCSANOW, &raw);
	}
	return fd;
}

/* The port may appear a little after its driver. Waits forever: pid 1 must not exit. */
enum channel_kind init_find_channel(int *fd)
{
	char device[512];
	bool named = named_on_command_line(device, sizeof(device));

	for (unsigned int tries = 1;; tries++) {
		if (named || find_port(device, sizeof(device))) {
			*fd = open_device(device);
			if (*fd >= 0)
				return CHANNEL_PORT;
		}
		if (tries == PORT_WAITS)
			say("no channel to the host: %s", named ? device : "no port " PORT_NAME);
		usleep(10000);
	}
}
