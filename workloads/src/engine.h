/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The workload engine: performs a pattern in a real process, and publishes what it did.
 *
 * damon_tests/patterns/spec.py defines what a pattern means (regions, phases, terms, passes, slots,
 * actions); engine.c describes the dialogue.
 */
#ifndef DAMON_TESTS_ENGINE_H
#define DAMON_TESTS_ENGINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NAME_LEN    64
#define LINE_LEN    4096
#define MAX_REGIONS 1024
#define MAX_WORKERS 8

/* Exit codes: something broke; the program is wrong; this machine cannot do it. */
#define EXIT_BROKEN	 1
#define EXIT_BAD_PROGRAM 2
#define EXIT_CANNOT	 3

/* The machine's, from the start of main() on. One page of page table entries maps a huge page;
 * regions start at multiples of it, so that huge pages are possible in every region. */
extern uint64_t page_bytes, huge_bytes;
extern unsigned int page_shift;

enum hugepage { HUGEPAGE_DEFAULT, HUGEPAGE_NO, HUGEPAGE_YES };
enum memory { MEMORY_ANONYMOUS, MEMORY_FILE, MEMORY_SHMEM, MEMORY_HUGETLB, MEMORY_HEAP };
enum order { SEQUENTIAL, RANDOM, WEIGHTED, CHASE };
enum kind { KIND_READ, KIND_WRITE, KIND_UPDATE };
enum deed {
	MMAP,
	MUNMAP,
	MREMAP,
	BRK,
	DONTNEED,
	FREE,
	MLOCK,
	MUNLOCK,
	WILLNEED,
	MSYNC,
	FORK,
	EXEC
};

struct region {
	char name[NAME_LEN];
	uint64_t number;
	uint64_t size;
	bool populate;
	enum hugepage hugepage;
	enum memory memory;
	bool lock;
	int64_t node;	 /* -1: any */
	uint64_t mapped; /* bytes from its start; as long as nothing was unmapped in its middle */
	char file[LINE_LEN]; /* initial content; "-": none */
	bool placed; /* exactly ``gap`` below what is above it; else aligned, below the program's
			gap */
	uint64_t gap;
	bool has_same;	  /* maps the file or shmem of another region, */
	uint64_t same_as; /* this one; regions move while they are read */
	int fd;		  /* of file and shmem */
	uint64_t start;	  /* address, once mapped */
	/* Pages that any term can touch, relative to the region: slices have bits for exactly
	 * these. */
	uint64_t window_first;
	uint64_t window_pages;
	uint64_t window_bit;
};

/* Progress and totals of a term (or of a phase's turns); on the board. */
struct counts {
	uint64_t next_pass; /* within the current phase */
	uint64_t passes;
	uint64_t accesses;
	uint64_t missed;
};

struct bucket {
	uint64_t end;
	uint64_t cumulative;
};

#define GUIDE_BITS 8

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
	enum order order;
	enum kind kind;
	bool free_running;
	uint64_t weight;
	uint64_t drift;
	uint64_t drift_passes;
	uint64_t drift_positions;
	uint64_t process;
	uint64_t thread;
	struct bucket *buckets; /* weighted */
	size_t nr_buckets;
	uint32_t guide[1 << GUIDE_BITS];
	bool walks;	  /* sequential: a pass continues where the last pass ended */
	bool whole_pages; /* every slot is the start of a page */
	bool lazy;	  /* may fault pages in at any time */
	bool dense;	  /* drawn, each of its pages several times a pass */
	struct counts *counts;
};

struct action {
	enum deed deed;
	uint64_t at_ns;
	struct region *region;
	uint64_t start;
	uint64_t end;
	bool populate;
	uint64_t children;
	uint64_t lifetime_ns;
	bool exec_children;
};

struct phase {
	char name[NAME_LEN];
	uint64_t duration_ns;
	struct term *terms;
	size_t nr_terms;
	struct action *actions; /* by time */
	size_t nr_actions;
	uint64_t total_weight;
	struct counts *turns; /* of the weighted terms */
};

struct program {
	uint64_t seed;
	bool repeat;
	bool flush;
	bool acts; /* has actions */
	uint64_t gap;
	char memcg[NAME_LEN];
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

/* A pass in the log; damon_tests/workload/pass_log_truth.py reads it. */
struct pass_record {
	uint64_t start_ns;
	uint64_t length_ns;
	uint64_t pass;
	uint32_t phase;
	uint32_t term; /* actions are numbered after the terms */
};

#define LOG_RECORDS 128

/* A thread that performs terms; on the board. The first is the target's main thread. */
struct worker {
	uint64_t process;
	uint64_t thread;
	pid_t pid;	       /* of its process, when that is not the target */
	uint64_t phase_number; /* running number, never back to 0 */
	uint64_t next_action;
	uint64_t flushes;
	uint64_t flush_ns;
	uint64_t late_max_ns;
	uint64_t looked_ns; /* when it last checked stdin and signals */
	char *flush_area;
	bool flush_writable;
	uint64_t slice_start; /* start of its current slice */
	uint64_t *slice;   /* head and bits; private to the thread, like everything that this points
			      to */
	uint8_t *page_map; /* see engine_mark.c */
	pthread_mutex_t lock; /* of its log */
	size_t nr_logged;
	struct pass_record log[LOG_RECORDS];
};

/*
 * State that all threads and processes of the pattern share, and that survives an exec of the
 * target.
 */
struct board {
	uint64_t go_ns;
	uint64_t nr_phases, phases_dropped;
	uint64_t passes_logged, passes_dropped, first_dropped_ns;
	uint64_t slices_logged, slices_dropped, slices_bytes;
	pthread_mutex_t lock; /* of the files of passes and slices, and their counters */
	uint64_t nr_workers;
	uint64_t nr_counts;
	struct worker workers[MAX_WORKERS];
	uint64_t region_starts[MAX_REGIONS];
	struct counts counts[];
};

extern struct program program;
extern struct board *board;
extern bool resumed; /* this is a target after its own exec */

/* A counter on the board has a single writer at a time. Others read it at any time, and must not
 * read a torn value. No reader needs several counters to be consistent. */
static inline void set(uint64_t *counter, uint64_t value)
{
	__atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

static inline void add(uint64_t *counter, uint64_t more)
{
	set(counter, *counter + more);
}

static inline uint64_t get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* engine.c */
uint64_t now_ns(void);
_Noreturn void die(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *allocate(size_t count, size_t size);
/* Waits until a time (0: does not wait), and obeys stdin and signals. Returns false to stop. */
bool wait_until(struct worker *worker, uint64_t until_ns);
void sleep_until(uint64_t until_ns);

/* engine_input.c */
bool read_line(char *line, size_t size);
bool next_line(char *line, size_t size);
unsigned int line_number(void);
void read_from(int fd);
int program_text(void);

/* engine_program.c */
void read_program(void);

/* engine_place.c */
void place_again(char **argv);
void *own_area(size_t size, int fd);
void place_regions(void);
void print_vaddr(void);

/* engine_memory.c */
extern const char *const memory_names[];
void open_region(struct region *region);
void map_region(struct region *region, uint64_t start, uint64_t end);
void populate_region(struct region *region, uint64_t start, uint64_t end);
void fill_region(struct region *region);
void refuse_without_memory(void);
void prepare_drain(void);
void drain_lru(bool all_cpus);

/* engine_memcg.c */
void enter_memcg(void);
void remember_memcg(void);
void leave_memcg(void);
int tidy(const char *innermost, const char *levels);

/* engine_draw.c */
uint64_t pass_key(uint64_t seed, uint64_t phase, uint64_t term, uint64_t pass);
void prepare_guide(struct term *term);
uint64_t way(uint64_t key, uint64_t slots, uint64_t step);
uint64_t slot_offset(const struct term *term, uint64_t slot);
uint64_t chase_key(const struct term *term);
void write_pointers(void);
size_t choose_term(const struct phase *phase, uint64_t number, uint64_t turn);

/* engine_touch.c */
void do_pass(const struct worker *worker, const struct term *term, size_t term_index,
	     uint64_t pass);

/* engine_mark.c */
extern _Thread_local uint64_t *slice_bits; /* of this thread's current slice; NULL: none */
size_t prepare_marks(void);
void mark_into(uint64_t *bits, uint8_t *map);
void mark_page(const struct region *region, uint64_t offset);
void mark_span(const struct region *region, uint64_t start, uint64_t end);
void mark_slots(const struct term *term, uint64_t start, uint64_t slots);
void mark_drawn(const struct term *term, uint64_t drift, const uint64_t *offsets, uint64_t count);
void settle_drawn(const struct term *term, uint64_t drift);

/* engine_flush.c */
void prepare_flush(void);
void flush_translations(struct worker *worker);

/* engine_actions.c */
void act(struct worker *worker, const struct phase *phase, uint64_t phase_start);
void end_children(void);
int idle(const char *nanoseconds);

/* engine_workers.c */
void prepare_board(void);
void prepare_workers(void);
void start_processes(void);
void start_threads(uint64_t process);
void wait_for_workers(void);
void let_go(uint64_t go_ns);
void end_workers(void);
bool wait_with_stop(uint64_t until_ns);
int board_fd(void);
void lock(pthread_mutex_t *mutex);
void unlock(pthread_mutex_t *mutex);

/* engine_run.c */
void run(struct worker *worker, uint64_t go_ns);

/* engine_publish.c */
void open_publication(void);
void publish_state(const char *new_state);
void publish_status(void);
void publish_phase(uint64_t start_ns);
void publish_go(uint64_t go_ns);
void publish_stop(uint64_t stop_ns);
void log_pass(struct worker *worker, size_t term, uint64_t pass, uint64_t start_ns,
	      uint64_t end_ns);
void write_slice(const void *record, size_t size);

/* engine_slices.c */
void prepare_slices(void);
size_t slice_bytes(void);
void begin_slices(struct worker *worker, uint64_t start_ns);
uint64_t slice_end_ns(const struct worker *worker);
void end_slice(struct worker *worker, uint64_t at_ns);

#endif
