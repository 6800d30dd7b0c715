/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Parts of the QEMU plugin, which counts exactly the instructions that a guest's kernel executes,
 * and records which memory its programs access.
 *
 * Needs ``-accel tcg,thread=single``: a single thread executes all of the guest's processors, so
 * no locks are needed. damon_tests/kernel/guest/cost_plugin.py is the other end.
 */
#ifndef QEMU_PLUGIN_H
#define QEMU_PLUGIN_H

#include <stdint.h>

#include "qemu_plugin_api.h"

#define COMM_LEN   16
#define MAX_CPUS   256
#define PAGE_BYTES 4096
#define TASK_BYTES 16384 /* task_struct is smaller */

/* The control file, shared with the harness; plugin_control.py has the same layout. */
#define CONTROL_VERSION 2
#define PATH_LEN	1536
enum window { WINDOW_COST = 1, WINDOW_ACCESSES = 2 };
struct control {
	uint32_t version; /* the plugin sets it when QEMU loads it */
	uint32_t order;	  /* number of the last order; odd: begin a window, even: end it */
	uint32_t done;	  /* number of the last order that was carried out */
	uint32_t error;	  /* its errno, or 0 */
	uint64_t init_task;
	uint64_t gap_ns;       /* see qemu_plugin_accesses.c */
	uint64_t window;       /* what the window records: enum window, several with | */
	char thread[COMM_LEN]; /* count threads whose names begin with this; empty: all */
	char symbols[PATH_LEN];
	char report[PATH_LEN];
	char accesses[PATH_LEN]; /* the runs of accesses are written to it */
	char tasks[PATH_LEN];	 /* see pids_load() */
};

/* Kind of a symbol; the harness derives it from the name. */
enum symbol_kind {
	SYMBOL_FUNCTION,
	SYMBOL_INTERRUPT,   /* an interrupt or exception begins here */
	SYMBOL_VECTOR_STUB, /* any address in it: an interrupt begins, the handler follows by a jump
			     */
	SYMBOL_THUNK,	    /* on the way of an indirect call or a return: belongs to its caller */
	SYMBOL_SWITCH,	    /* __switch_to_asm: RSI is the task that runs next */
};

struct symbol {
	uint64_t addr;
	uint32_t id; /* of the function; parts of one function share it */
	uint32_t kind;
};

enum { ID_USER, ID_UNKNOWN }; /* ids that belong to no symbol */

/* A translated block, and the effect of executing it. */
struct block {
	uint64_t addr;
	uint64_t next; /* address after its last instruction, to which a call returns */
	uint32_t nr_insns;
	uint32_t id;
	uint8_t kind;
	bool kernel;
	bool entry; /* begins at its symbol's address */
	bool calls;
	bool returns;
	bool irets;
};

/* --- qemu_plugin_symbols.c: from addresses to functions --- */
int symbols_load(const char *path);
const struct symbol *symbol_at(uint64_t addr);

/* --- qemu_plugin_calls.c: the call tree --- */
struct calls;
struct calls *calls_new(uint32_t root);
void calls_step(struct calls *calls, const struct block *block);
void calls_free(struct calls *calls);
struct node {
	uint32_t parent;
	uint32_t id;
	uint32_t child;
	uint32_t sibling;
	uint64_t nr_calls;
	uint64_t nr_insns;
};
extern struct node *nodes; /* the first node is the parent of all roots; no thread owns it */
extern uint32_t nr_nodes;
extern uint64_t nr_lost_frames;
void tree_clear(void);
uint32_t tree_root(void);

/* --- qemu_plugin_tasks.c: the running threads --- */
struct thread {
	char comm[COMM_LEN];
	bool counted;
	uint32_t root;
	uint64_t nr_insns;
	uint64_t nr_switches;
};
#define MAX_THREADS 1024 /* the last entry collects all further names */
extern struct thread threads[MAX_THREADS];
extern uint32_t nr_threads;
void tasks_begin(const struct control *control);
void tasks_switch(void);
void tasks_execute(const struct block *block);
bool tasks_counting(void);
uint32_t tasks_pid(const char **comm);
void tasks_end(void);

/* --- qemu_plugin_pids.c: the pids of tasks --- */
int pids_load(const char *path);
bool pids_wanted(void);
uint32_t pids_read(uint64_t task, const char *comm);
uint32_t pids_offset(void);

/* --- qemu_plugin_cpu.c: the processor that runs now --- */
#define NR_REGISTERS 17
enum { REGISTER_RAX = 0, REGISTER_RDX = 2, REGISTER_RSI = 6, REGISTER_RIP = 16 };
#define NO_FRAME UINT32_MAX
void cpu_init(void);
unsigned int cpu_index(void);
bool cpu_register(unsigned int number, uint64_t *value);
const uint8_t *cpu_memory(uint64_t addr, size_t len);
uint32_t cpu_frame(uint64_t addr);

/* --- qemu_plugin.c --- */
extern uint64_t nr_insns; /* executed in this window, the running block included */

/* --- qemu_plugin_time.c: ns of the guest's time stamp counter --- */
struct time_check {
	uint64_t nr_reads; /* RDTSCs whose value was compared with the expected one */
	uint64_t nr_exact;
	uint64_t nr_idle; /* later than expected: idle time was skipped */
	uint64_t most_behind_ns;
};
void time_begin(void);
void time_translate(struct qemu_plugin_insn *insn, const uint8_t *code, size_t to_come);
uint64_t time_before(size_t to_come);
const struct time_check *time_checked(void);

/* --- qemu_plugin_spaces.c: address spaces --- */
#define MAX_SPACES 65536
struct space {
	uint64_t page_table;
	uint32_t pid; /* 0: its process has not been scheduled in since the window began */
	char comm[COMM_LEN];
};
extern struct space spaces[MAX_SPACES];
extern uint32_t nr_spaces;
void spaces_begin(void);
void spaces_translate(struct qemu_plugin_insn *insn, const uint8_t *code);
void spaces_switch(void);
void spaces_forget(void);
uint32_t spaces_now(void);

/* --- qemu_plugin_accesses.c: accesses to user memory --- */
enum access_kind {
	ACCESS_LOAD,
	ACCESS_STORE,
	ACCESS_EXECUTE,
	ACCESS_KERNEL_LOAD, /* by the kernel, to user addresses */
	ACCESS_KERNEL_STORE,
};
struct access_run { /* what the harness reads */
	uint64_t first_ns, last_ns;
	uint64_t page; /* virtual address / PAGE_BYTES */
	uint32_t frame;
	uint16_t space;
	uint16_t kind;
};
struct access_counts {
	uint64_t nr_accesses;
	uint64_t nr_unknown; /* the time or the address space was not known yet */
	uint64_t nr_runs;
};
int accesses_begin(const char *path, uint64_t gap_ns);
void accesses_translate(struct qemu_plugin_insn *insn, bool kernel, size_t to_come);
void accesses_execute(const struct block *block);
int accesses_end(void);
const struct access_counts *accesses_counted(void);

/* --- qemu_plugin_report.c --- */
int report_write(const char *path, uint64_t window);

#endif
