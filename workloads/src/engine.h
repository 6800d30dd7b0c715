/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The workload engine: performs a pattern in a real process, and publishes what it did.
 *
 * What a pattern means (regions, phases, terms, passes, slots) is stated in
 * damon_tests/patterns/spec.py; how this process talks, in engine.c.
 */
#ifndef DAMON_TESTS_ENGINE_H
#define DAMON_TESTS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT   12
#define PAGE_BYTES   ((uint64_t)1 << PAGE_SHIFT)
#define REGION_ALIGN ((uint64_t)2 << 20)
#define NAME_LEN     64
#define LINE_LEN     4096

/* Exit codes: something broke; what we were told makes no sense; this machine cannot do it. */
#define EXIT_BROKEN	 1
#define EXIT_BAD_PROGRAM 2
#define EXIT_CANNOT	 3

enum hugepage { HUGEPAGE_DEFAULT, HUGEPAGE_NO, HUGEPAGE_YES };

struct region {
	char name[NAME_LEN];
	uint64_t size;
	bool populate;
	enum hugepage hugepage;
	uint64_t start; /* address, once mapped */
	/* Pages that any term can touch, relative to the region: all that slices have bits for. */
	uint64_t window_first;
	uint64_t window_pages;
	uint64_t window_bit;
};

struct term {
	struct region *region;
	uint64_t start; /* of the first island, relative to the region */
	uint64_t end;
	uint64_t stride;
	uint64_t period_ns;
	uint64_t touches; /* a pass */
	uint64_t islands;
	uint64_t every;
	uint64_t slots_per_island;
	uint64_t slots;
	bool random;
	bool write;
	bool whole_pages; /* every slot is the start of a page */
	/* Progress within the current phase. */
	uint64_t next_pass;
	/* Totals. */
	uint64_t passes;
	uint64_t accesses;
	uint64_t missed;
};

struct phase {
	char name[NAME_LEN];
	uint64_t duration_ns;
	struct term *terms;
	size_t nr_terms;
};

struct program {
	uint64_t seed;
	bool repeat;
	bool flush;
	uint64_t gap;
	struct region *regions;
	size_t nr_regions;
	struct phase *phases;
	size_t nr_phases;
	char status_path[LINE_LEN];
	char phases_path[LINE_LEN];
	char passes_path[LINE_LEN]; /* empty: no pass log */
	uint64_t max_passes;
	char slices_path[LINE_LEN]; /* empty: no slices */
	uint64_t slice_ns;
	uint64_t max_slices_bytes;
};

/* One pass in the log; damon_tests/workload/recorded.py reads it. */
struct pass_record {
	uint64_t start_ns;
	uint64_t length_ns;
	uint64_t pass;
	uint32_t phase;
	uint32_t term;
};

#define LOG_RECORDS 128

/*
 * One thread that performs terms. There is one so far; what several would need of their own
 * is here, and what they would share is in struct program and in engine_publish.c.
 */
struct worker {
	struct program *program;
	uint64_t phase_number; /* running number, never back to 0 */
	struct pass_record log[LOG_RECORDS];
	size_t nr_logged;
	uint64_t flushes;
	uint64_t flush_ns;
	uint64_t late_max_ns;
	uint64_t looked_ns; /* when it last looked at stdin and signals */
};

/* engine.c */
uint64_t now_ns(void);
_Noreturn void die(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *allocate(size_t count, size_t size);
/* Waits until a time (0: only looks), and does what stdin or a signal asks for. False: stop. */
bool wait_until(struct worker *worker, uint64_t until_ns);

/* engine_program.c */
bool read_line(char *line, size_t size);
bool next_line(char *line, size_t size);
void read_program(struct program *program);

/* engine_place.c */
void place_again(char **argv);
void place_regions(struct program *program);
void print_vaddr(void);

/* engine_touch.c */
uint64_t mix(uint64_t z);
uint64_t pass_key(uint64_t seed, uint64_t phase, uint64_t term, uint64_t pass);
uint64_t draw_slot(uint64_t *state, uint64_t slots);
void do_pass(const struct worker *worker, const struct term *term, size_t term_index,
	     uint64_t pass);
void prepare_flush(struct program *program);
void flush_translations(struct worker *worker);

/* engine_run.c */
void run(struct worker *worker, uint64_t go_ns);

/* engine_publish.c */
extern uint64_t *slice_bits; /* of the slice under way; NULL: no slices */
void open_publication(struct program *program);
void publish_state(struct worker *worker, const char *new_state);
void publish_status(struct worker *worker);
void publish_phase(uint64_t start_ns);
void publish_go(uint64_t go_ns);
void publish_stop(uint64_t stop_ns);
void log_pass(struct worker *worker, size_t term, uint64_t pass, uint64_t start_ns,
	      uint64_t end_ns);
void write_log(struct worker *worker);
uint64_t slice_end_ns(void);
void end_slice(uint64_t at_ns);

#endif
