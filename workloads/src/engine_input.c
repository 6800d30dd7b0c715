// SPDX-License-Identifier: GPL-2.0
/* Read lines from stdin (or, after an exec, from the kept copy of the program). */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine.h"

static struct {
	char bytes[65536];
	size_t begin, end;
	int fd;
} input = { .fd = STDIN_FILENO };

static unsigned int lines;
static struct {
	char *bytes;
	size_t size, room;
} kept;

unsigned int line_number(void)
{
	return lines;
}

void read_from(int fd)
{
	input.fd = fd;
	input.begin = input.end = 0;
}

static void keep(const char *bytes, size_t size)
{
	if (kept.size + size > kept.room) {
		kept.room = 2 * kept.room + size + LINE_LEN;
		kept.bytes = realloc(kept.bytes, kept.room);
		if (!kept.bytes)
			die(EXIT_CANNOT, "no memory for the program");
	}
	memcpy(kept.bytes + kept.size, bytes, size);
	kept.size += size;
}

/* Makes a file with the program's text, for the engine after its exec. */
int program_text(void)
{
	int fd = memfd_create("damon-tests-program", 0);

	if (fd < 0 || write(fd, kept.bytes, kept.size) != (ssize_t)kept.size ||
	    lseek(fd, 0, SEEK_SET))
		die(EXIT_BROKEN, "the program cannot be kept for an exec: %s", strerror(errno));
	return fd;
}

/* Returns a line that has already arrived, without its newline. */
bool next_line(char *line, size_t size)
{
	char *start = input.bytes + input.begin;
	char *newline = memchr(start, '\n', input.end - input.begin);
	size_t length;

	if (!newline)
		return false;
	length = newline - start;
	input.begin += length + 1;
	lines++;
	if (length >= size)
		die(EXIT_BAD_PROGRAM, "line %u of the program is too long", lines);
	memcpy(line, start, length);
	line[length] = '\0';
	if (!board) /* still the program; what follows are commands */
		keep(start, length + 1);
	return true;
}

/* Reads available data; returns false at the end. */
static bool fill_input(void)
{
	ssize_t got;

	memmove(input.bytes, input.bytes + input.begin, input.end - input.begin);
	input.end -= input.begin;
	input.begin = 0;
	if (input.end == sizeof(input.bytes))
		die(EXIT_BAD_PROGRAM, "line %u of the program is too long", lines + 1);
	do {
		got = read(input.fd, input.bytes + input.end, sizeof(input.bytes) - input.end);
	} while (got < 0 && errno == EINTR);
	if (got <= 0)
		return false;
	input.end += got;
	return true;
}

/* Returns the next line. Reads stdin (and may block) only while no whole line has arrived. */
bool read_line(char *line, size_t size)
{
	while (!next_line(line, size)) {
		if (!fill_input())
			return false;
	}
	return true;
}
