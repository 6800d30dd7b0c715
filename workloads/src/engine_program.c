// SPDX-License-Identifier: GPL-2.0
/* Reads the program, a few words a line; damon_tests/workload/program.py writes it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

#define VERSION	    "damon-tests-engine 1"
#define MAX_REGIONS 1024
#define MAX_PHASES  65536
#define MAX_TERMS   65536
#define MAX_WORDS   11
#define MAX_SLOTS   UINT32_MAX

static struct {
	char bytes[65536];
	size_t begin, end;
	bool eof;
} input;

static unsigned int line_number;

/* A line that has already arrived, without its newline. */
bool next_line(char *line, size_t size)
{
	char *start = input.bytes + input.begin;
	char *newline = memchr(start, '\n', input.end - input.begin);
	size_t length;

	if (!newline)
		return false;
	length = newline - start;
	input.begin += length + 1;
	line_number++;
	if (length >= size)
		die(EXIT_BAD_PROGRAM, "line %u of the program is too long", line_number);
	memcpy(line, start, length);
	line[length] = '\0';
	return true;
}

/* Reads what stdin has; false at its end. */
static bool fill_input(void)
{
	ssize_t got;

	memmove(input.bytes, input.bytes + input.begin, input.end - input.begin);
	input.end -= input.begin;
	input.begin = 0;
	if (input.end == sizeof(input.bytes))
		die(EXIT_BAD_PROGRAM, "line %u of the program is too long", line_number + 1);
	do {
		got = read(STDIN_FILENO, input.bytes + input.end, sizeof(input.bytes) - input.end);
	} while (got < 0 && errno == EINTR);
	if (got <= 0)
		return false;
	input.end += got;
	return true;
}

/* The next line; reads at most once more than needed, so that poll(2) tells when not to call. */
bool read_line(char *line, size_t size)
{
	while (!next_line(line, size)) {
		if (!fill_input())
			return false;
	}
	return true;
}

static _Noreturn void bad(const char *what)
{
	die(EXIT_BAD_PROGRAM, "line %u of the program: %s", line_number, what);
}

static uint64_t number(const char *word, const char *what, uint64_t min, uint64_t max)
{
	char message[128];
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(word, &end, 10);
	if (*word >= '0' && *word <= '9' && !*end && !errno && value >= min && value <= max)
		return value;
	snprintf(message, sizeof(message), "%s is not a number from %" PRIu64 " to %" PRIu64, what,
		 min, max);
	bad(message);
}

static bool choice(const char *word, const char *no, const char *yes)
{
	if (!strcmp(word, yes))
		return true;
	if (strcmp(word, no))
		bad("an unknown word where there is a choice of two");
	return false;
}

static void copy_name(char *to, const char *word)
{
	if (strlen(word) >= NAME_LEN)
		bad("a name is too long");
	strcpy(to, word);
}

/* Room for one more element of an array of ``count``; the new one is zero. */
static void *grow(void *array, size_t count, size_t limit, size_t size)
{
	if (count == limit)
		bad("too many of these");
	array = realloc(array, (count + 1) * size);
	if (!array)
		die(EXIT_CANNOT, "no memory for the program");
	memset((char *)array + count * size, 0, size);
	return array;
}

static void read_region(struct program *program, char **words)
{
	struct region *region;

	if (program->nr_phases) /* terms point to regions, so the array must not move any more */
		bad("a region after a phase");
	program->regions =
		grow(program->regions, program->nr_regions, MAX_REGIONS, sizeof(*region));
	region = &program->regions[program->nr_regions];
	copy_name(region->name, words[1]);
	region->size = number(words[2], "size", PAGE_BYTES, (uint64_t)1 << 50);
	if (region->size % PAGE_BYTES)
		bad("a size that is not a multiple of the page size");
	region->populate = number(words[3], "populate", 0, 1);
	if (!strcmp(words[4], "default"))
		region->hugepage = HUGEPAGE_DEFAULT;
	else
		region->hugepage = choice(words[4], "no", "yes") ? HUGEPAGE_YES : HUGEPAGE_NO;
	program->nr_regions++;
}

static void read_phase(struct program *program, char **words)
{
	struct phase *phase;

	program->phases = grow(program->phases, program->nr_phases, MAX_PHASES, sizeof(*phase));
	phase = &program->phases[program->nr_phases];
	copy_name(phase->name, words[1]);
	phase->duration_ns = number(words[2], "duration", 1, (uint64_t)1 << 61);
	program->nr_phases++;
}

/* Slices have bits for all pages between the first and the last that a term can touch. */
static void widen_window(struct region *region, uint64_t start, uint64_t end)
{
	uint64_t first = start / PAGE_BYTES, last = (end - 1) / PAGE_BYTES;
	uint64_t old_last = region->window_first + region->window_pages - 1;

	if (region->window_pages) {
		first = first < region->window_first ? first : region->window_first;
		last = last > old_last ? last : old_last;
	}
	region->window_first = first;
	region->window_pages = last - first + 1;
}

static void check_term(const struct term *term)
{
	uint64_t length = term->end - term->start;

	if (term->start >= term->end || term->end > term->region->size)
		bad("an access outside its region, or empty");
	if (term->stride > length)
		bad("a stride longer than its island");
	if (term->islands > 1 && term->every < length)
		bad("islands that overlap");
	if (term->islands > 1 && (term->region->size - term->end) / term->every < term->islands - 1)
		bad("islands beyond their region");
	if (term->slots > MAX_SLOTS)
		bad("an access with too many slots");
	if (term->random == !term->touches)
		bad("touches are for random accesses, and only for them");
}

/* access REGION START END sequential|random STRIDE PERIOD_NS TOUCHES read|write ISLANDS EVERY */
static void read_access(struct program *program, char **words)
{
	struct phase *phase;
	struct term *term;

	if (!program->nr_phases)
		bad("an access before the first phase");
	phase = &program->phases[program->nr_phases - 1];
	phase->terms = grow(phase->terms, phase->nr_terms, MAX_TERMS, sizeof(*term));
	term = &phase->terms[phase->nr_terms];
	if (!program->nr_regions)
		bad("an access without any region");
	term->region = &program->regions[number(words[1], "region", 0, program->nr_regions - 1)];
	term->start = number(words[2], "start", 0, term->region->size);
	term->end = number(words[3], "end", 0, term->region->size);
	term->random = choice(words[4], "sequential", "random");
	term->stride = number(words[5], "stride", 1, term->region->size);
	term->period_ns = number(words[6], "period", 1, (uint64_t)1 << 61);
	term->touches = number(words[7], "touches", 0, 1 << 24);
	term->write = choice(words[8], "read", "write");
	term->islands = number(words[9], "islands", 1, 1 << 20);
	term->every = number(words[10], "every", 0, term->region->size);
	term->slots_per_island = (term->end - term->start + term->stride - 1) / term->stride;
	term->slots = term->slots_per_island * term->islands;
	term->whole_pages = !(term->start % PAGE_BYTES) && !(term->stride % PAGE_BYTES) &&
			    !(term->every % PAGE_BYTES);
	check_term(term);
	if (!term->random)
		term->touches = term->slots;
	widen_window(term->region, term->start, term->end + (term->islands - 1) * term->every);
	phase->nr_terms++;
}

/* Splits at single blanks; what follows the last wanted word stays with it (paths have blanks). */
static size_t split(char *line, char **words, size_t wanted)
{
	size_t count = 0;

	while (count < wanted) {
		words[count++] = line;
		if (count == wanted)
			break;
		line = strchr(line, ' ');
		if (!line)
			break;
		*line++ = '\0';
	}
	return count;
}

static void read_seed(struct program *program, char **words)
{
	program->seed = number(words[1], "seed", 0, UINT64_MAX);
}

static void read_repeat(struct program *program, char **words)
{
	program->repeat = number(words[1], "repeat", 0, 1);
}

static void read_gap(struct program *program, char **words)
{
	program->gap = number(words[1], "gap", PAGE_BYTES, (uint64_t)1 << 36);
}

static void read_visible(struct program *program, char **words)
{
	program->flush = choice(words[1], "natural", "flush");
}

static void read_status(struct program *program, char **words)
{
	strcpy(program->status_path, words[1]);
}

static void read_phases(struct program *program, char **words)
{
	strcpy(program->phases_path, words[1]);
}

static void read_passes(struct program *program, char **words)
{
	program->max_passes = number(words[1], "passes", 0, (uint64_t)1 << 32);
	strcpy(program->passes_path, words[2]);
}

static void read_slices(struct program *program, char **words)
{
	program->slice_ns = number(words[1], "slice", 1, (uint64_t)1 << 61);
	program->max_slices_bytes = number(words[2], "bytes", 0, (uint64_t)1 << 40);
	strcpy(program->slices_path, words[3]);
}

static const struct statement {
	const char *name;
	size_t words;
	void (*read)(struct program *program, char **words);
} statements[] = {
	{ "seed", 2, read_seed },
	{ "repeat", 2, read_repeat },
	{ "gap", 2, read_gap },
	{ "visible", 2, read_visible },
	{ "status", 2, read_status },
	{ "phases", 2, read_phases },
	{ "passes", 3, read_passes },
	{ "slices", 4, read_slices },
	{ "region", 5, read_region },
	{ "phase", 3, read_phase },
	{ "access", MAX_WORDS, read_access },
};

static const struct statement *find_statement(const char *line)
{
	size_t length = strcspn(line, " ");

	for (size_t i = 0; i < sizeof(statements) / sizeof(*statements); i++) {
		const char *name = statements[i].name;

		if (strlen(name) == length && !strncmp(line, name, length))
			return &statements[i];
	}
	bad("an unknown statement");
}

static void read_statement(struct program *program, char *line)
{
	const struct statement *statement = find_statement(line);
	char *words[MAX_WORDS] = { NULL };

	if (split(line, words, statement->words) != statement->words)
		bad("too few words");
	statement->read(program, words);
}

void read_program(struct program *program)
{
	char line[LINE_LEN];

	if (!read_line(line, sizeof(line)) || strcmp(line, VERSION))
		bad("expected \"" VERSION "\"");
	for (;;) {
		if (!read_line(line, sizeof(line)))
			bad("stdin ended before \"end\"");
		if (!strcmp(line, "end"))
			break;
		read_statement(program, line);
	}
	if (!program->nr_regions || !program->nr_phases)
		bad("no region, or no phase");
	if (!*program->status_path || !*program->phases_path)
		bad("status and phases are needed");
}
