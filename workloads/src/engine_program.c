// SPDX-License-Identifier: GPL-2.0
/* Read the program, a few words per line; damon_tests/workload/engine_program.py writes it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

#define VERSION	    "damon-tests-engine 2"
#define MAX_PHASES  65536
#define MAX_TERMS   65536
#define MAX_ACTIONS 4096
#define MAX_BUCKETS 4096
#define MAX_WORDS   18
#define MAX_SLOTS   UINT32_MAX
#define MAX_NS	    ((uint64_t)1 << 61)
#define NO_NODE	    64

static _Noreturn void bad(const char *what)
{
	die(EXIT_BAD_PROGRAM, "line %u of the program: %s", line_number(), what);
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

/* Returns the index of a word in a NULL terminated list. */
static unsigned int choice(const char *word, const char *const *words)
{
	for (unsigned int i = 0; words[i]; i++) {
		if (!strcmp(word, words[i]))
			return i;
	}
	bad("an unknown word where there is a choice of a few");
}

static void copy_name(char *to, const char *word)
{
	if (strlen(word) >= NAME_LEN)
		bad("a name is too long");
	strcpy(to, word);
}

/* Grows an array of ``count`` elements by a zeroed element. */
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

/* region NAME SIZE POPULATE HUGEPAGE MEMORY LOCK NODE MAPPED FILE */
static void read_region(char **words)
{
	static const char *const hugepages[] = { "default", "no", "yes", NULL };
	struct region *region;

	if (program.nr_phases) /* terms point to regions, so from here on the array must not move */
		bad("a region after a phase");
	program.regions = grow(program.regions, program.nr_regions, MAX_REGIONS, sizeof(*region));
	region = &program.regions[program.nr_regions];
	region->number = program.nr_regions;
	region->fd = -1;
	copy_name(region->name, words[1]);
	region->size = number(words[2], "size", page_bytes, (uint64_t)1 << 50);
	region->populate = number(words[3], "populate", 0, 1);
	region->hugepage = choice(words[4], hugepages);
	region->memory = choice(words[5], memory_names);
	region->lock = number(words[6], "lock", 0, 1);
	region->node = number(words[7], "node", 0, NO_NODE);
	if (region->node == NO_NODE)
		region->node = -1;
	region->mapped = number(words[8], "mapped", 0, region->size);
	if (region->size % page_bytes || region->mapped % page_bytes)
		bad("a size that is not a multiple of the page size");
	strcpy(region->file, words[9]);
	program.nr_regions++;
}

static struct region *last_region(const char *what)
{
	if (!program.nr_regions || program.nr_phases)
		bad(what);
	return &program.regions[program.nr_regions - 1];
}

/* region_gap BYTES: of the region before it, unmapped above it; then it starts at any page */
static void read_region_gap(char **words)
{
	struct region *region = last_region("a region_gap that follows no region");

	region->placed = true;
	region->gap = number(words[1], "gap", 0, (uint64_t)1 << 50);
	if (region->gap % page_bytes)
		bad("a gap that is not a multiple of the page size");
}

/* region_same_as REGION: the region before it maps the memory of this one, from its start */
static void read_region_same_as(char **words)
{
	struct region *region = last_region("a region_same_as that follows no region");
	uint64_t other = number(words[1], "region", 0, program.nr_regions - 1);

	if (other == region->number)
		bad("a region that is to be the same as itself");
	if (region->memory != MEMORY_FILE && region->memory != MEMORY_SHMEM)
		bad("private memory that is to be mapped twice");
	if (program.regions[other].size < region->size)
		bad("a region that is larger than the one it is the same as");
	region->has_same = true;
	region->same_as = other;
}

static void read_phase(char **words)
{
	struct phase *phase;

	if (!program.nr_regions)
		bad("a phase before the first region");
	program.phases = grow(program.phases, program.nr_phases, MAX_PHASES, sizeof(*phase));
	phase = &program.phases[program.nr_phases];
	copy_name(phase->name, words[1]);
	phase->duration_ns = number(words[2], "duration", 1, MAX_NS);
	program.nr_phases++;
}

/* Slices have bits for all pages between the first and the last page that a term can touch. */
static void widen_window(struct region *region, uint64_t start, uint64_t end)
{
	uint64_t first = start / page_bytes, last = (end - 1) / page_bytes;
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
	uint64_t length = term->end - term->start, far;

	if (term->start >= term->end || term->end > term->region->size)
		bad("an access outside its region, or empty");
	if (term->stride > length)
		bad("a stride longer than its island");
	if (term->islands > 1 && term->every < length)
		bad("islands that overlap");
	if (term->islands > 1 && (term->region->size - term->end) / term->every < term->islands - 1)
		bad("islands beyond their region");
	far = term->end + (term->islands - 1) * term->every;
	if (term->drift && (term->region->size - far) / term->drift < term->drift_positions - 1)
		bad("a drift out of the region");
	if (term->drift % page_bytes)
		bad("a drift that is not a multiple of the page size");
	if (term->slots > MAX_SLOTS)
		bad("an access with too many slots");
	if (term->order != SEQUENTIAL && !term->touches)
		bad("touches are missing; only sequential accesses may have none");
}

static struct term *last_term(void)
{
	struct phase *phase = &program.phases[program.nr_phases - 1];

	return &phase->terms[phase->nr_terms - 1];
}

static struct phase *last_phase(const char *what)
{
	if (!program.nr_phases)
		bad(what);
	return &program.phases[program.nr_phases - 1];
}

/*
 * access REGION START END ORDER STRIDE PERIOD_NS TOUCHES KIND ISLANDS EVERY FREE_RUNNING WEIGHT
 *	DRIFT DRIFT_PASSES DRIFT_POSITIONS PROCESS THREAD
 */
static void read_access(char **words)
{
	static const char *const orders[] = { "sequential", "random", "weighted", "chase", NULL };
	static const char *const kinds[] = { "read", "write", "update", NULL };
	struct phase *phase = last_phase("an access before the first phase");
	struct term *term;
	uint64_t far;

	phase->terms = grow(phase->terms, phase->nr_terms, MAX_TERMS, sizeof(*term));
	term = &phase->terms[phase->nr_terms];
	term->region = &program.regions[number(words[1], "region", 0, program.nr_regions - 1)];
	term->start = number(words[2], "start", 0, term->region->size);
	term->end = number(words[3], "end", 0, term->region->size);
	term->order = choice(words[4], orders);
	term->stride = number(words[5], "stride", 1, term->region->size);
	term->period_ns = number(words[6], "period", 1, MAX_NS);
	term->touches = number(words[7], "touches", 0, 1 << 24);
	term->kind = choice(words[8], kinds);
	term->islands = number(words[9], "islands", 1, 1 << 20);
	term->every = number(words[10], "every", 0, term->region->size);
	term->free_running = number(words[11], "free running", 0, 1);
	term->weight = number(words[12], "weight", 0, 1 << 24);
	term->drift = number(words[13], "drift", 0, term->region->size);
	term->drift_passes = number(words[14], "drift passes", 1, MAX_NS);
	term->drift_positions = number(words[15], "drift positions", 1, (uint64_t)1 << 32);
	term->process = number(words[16], "process", 0, MAX_WORKERS - 1);
	term->thread = number(words[17], "thread", 0, MAX_WORKERS - 1);
	term->slots_per_island = (term->end - term->start + term->stride - 1) / term->stride;
	term->slots = term->slots_per_island * term->islands;
	term->whole_pages = !(term->start % page_bytes) && !(term->stride % page_bytes) &&
			    !(term->every % page_bytes);
	check_term(term);
	term->walks = term->order == SEQUENTIAL && term->touches;
	if (!term->touches)
		term->touches = term->slots;
	far = term->end + (term->islands - 1) * term->every;
	far += (term->drift_positions - 1) * term->drift;
	widen_window(term->region, term->start, far);
	phase->total_weight += term->weight;
	phase->nr_terms++;
}

/* bucket END CUMULATIVE: of the access before it */
static void read_bucket(char **words)
{
	struct phase *phase = last_phase("a bucket before the first phase");
	struct bucket none = { 0, 0 }, *bucket, *before = &none;
	struct term *term;

	if (!phase->nr_terms || last_term()->order != WEIGHTED)
		bad("a bucket of an access that has none");
	term = last_term();
	term->buckets = grow(term->buckets, term->nr_buckets, MAX_BUCKETS, sizeof(*term->buckets));
	if (term->nr_buckets)
		before = &term->buckets[term->nr_buckets - 1];
	bucket = &term->buckets[term->nr_buckets++];
	bucket->end = number(words[1], "end", before->end + 1, term->slots);
	bucket->cumulative =
		number(words[2], "cumulative weight", before->cumulative, (uint64_t)1 << 32);
	if (bucket->end == term->slots) {
		if (bucket->cumulative != (uint64_t)1 << 32)
			bad("the last bucket has not all the weight");
		prepare_guide(term);
	}
}

/* action DEED AT_NS REGION START END POPULATE CHILDREN LIFETIME_NS EXEC_CHILDREN */
static void read_action(char **words)
{
	static const char *const deeds[] = { "mmap", "munmap", "mremap",  "brk",      "dontneed",
					     "free", "mlock",  "munlock", "willneed", "msync",
					     "fork", "exec",   NULL };
	struct phase *phase = last_phase("an action before the first phase");
	struct action *action;

	phase->actions = grow(phase->actions, phase->nr_actions, MAX_ACTIONS, sizeof(*action));
	action = &phase->actions[phase->nr_actions];
	action->deed = choice(words[1], deeds);
	action->at_ns = number(words[2], "time", 0, phase->duration_ns - 1);
	action->region = &program.regions[number(words[3], "region", 0, program.nr_regions - 1)];
	action->start = number(words[4], "start", 0, action->region->size);
	action->end = number(words[5], "end", action->start, action->region->size);
	action->populate = number(words[6], "populate", 0, 1);
	action->children = number(words[7], "children", 0, 64);
	action->lifetime_ns = number(words[8], "lifetime", 0, MAX_NS);
	action->exec_children = number(words[9], "exec", 0, 1);
	if (action->end > action->start)
		widen_window(action->region, action->start, action->end);
	program.acts = true;
	phase->nr_actions++;
}

/* Splits at single blanks; the last wanted word keeps the rest of the line (paths have blanks). */
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

static void read_seed(char **words)
{
	program.seed = number(words[1], "seed", 0, UINT64_MAX);
}

static void read_repeat(char **words)
{
	program.repeat = number(words[1], "repeat", 0, 1);
}

static void read_gap(char **words)
{
	program.gap = number(words[1], "gap", page_bytes, (uint64_t)1 << 36);
}

static void read_visible(char **words)
{
	static const char *const visible[] = { "natural", "flush", NULL };

	program.flush = choice(words[1], visible);
}

static void read_memcg(char **words)
{
	copy_name(program.memcg, words[1]);
}

static void read_status(char **words)
{
	strcpy(program.status_path, words[1]);
}

static void read_phases(char **words)
{
	strcpy(program.phases_path, words[1]);
}

static void read_passes(char **words)
{
	program.max_passes = number(words[1], "passes", 0, (uint64_t)1 << 32);
	strcpy(program.passes_path, words[2]);
}

static void read_slices(char **words)
{
	program.slice_ns = number(words[1], "slice", 1, (uint64_t)1 << 61);
	program.max_slices_bytes = number(words[2], "bytes", 0, (uint64_t)1 << 40);
	strcpy(program.slices_path, words[3]);
}

static const struct statement {
	const char *name;
	size_t words;
	void (*read)(char **words);
} statements[] = {
	{ "seed", 2, read_seed },
	{ "repeat", 2, read_repeat },
	{ "gap", 2, read_gap },
	{ "visible", 2, read_visible },
	{ "status", 2, read_status },
	{ "phases", 2, read_phases },
	{ "passes", 3, read_passes },
	{ "slices", 4, read_slices },
	{ "memcg", 2, read_memcg },
	{ "region", 10, read_region },
	{ "region_gap", 2, read_region_gap },
	{ "region_same_as", 2, read_region_same_as },
	{ "phase", 3, read_phase },
	{ "access", MAX_WORDS, read_access },
	{ "bucket", 3, read_bucket },
	{ "action", 10, read_action },
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

static void read_statement(char *line)
{
	const struct statement *statement = find_statement(line);
	char *words[MAX_WORDS] = { NULL };

	if (split(line, words, statement->words) != statement->words)
		bad("too few words");
	statement->read(words);
}

/* Computes what depends on the whole program. */
static void prepare_terms(void)
{
	for (size_t p = 0; p < program.nr_phases; p++) {
		struct phase *phase = &program.phases[p];

		for (size_t t = 0; t < phase->nr_terms; t++) {
			struct term *term = &phase->terms[t];
			const struct region *region = term->region;

			term->lazy = program.acts || !region->populate || term->process ||
				     region->mapped < region->size;
			if (term->order == WEIGHTED && !term->nr_buckets)
				bad("an access without its buckets");
		}
	}
}

void read_program(void)
{
	char line[LINE_LEN];

	if (!read_line(line, sizeof(line)) || strcmp(line, VERSION))
		bad("expected \"" VERSION "\"");
	for (;;) {
		if (!read_line(line, sizeof(line)))
			bad("stdin ended before \"end\"");
		if (!strcmp(line, "end"))
			break;
		read_statement(line);
	}
	if (!program.nr_phases)
		bad("no phase");
	if (!*program.status_path || !*program.phases_path)
		bad("status and phases are needed");
	prepare_terms();
}
