/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Parts of the QEMU plugin, which counts exactly the instructions that a guest's kernel executes.
 *
 * Needs ``-accel tcg,thread=single``: a single thread executes all of the guest's processors, so
 * no locks are needed. damon_tests/kernel/guest/cost_plugin.py is the other end.
 */
#ifndef QEMU_PLUGIN_H
#define QEMU_PLUGIN_H

#include <stdint.h>

#include "qemu_plugin_api.h"

#define COMM_LEN 16

/* The control file, shared with the harness; cost_plugin.py has the same layout. */
#define CONTROL_VERSION 1
#define PATH_LEN	1536
struct control {
	uint32_t version; /* the plugin sets it when QEMU loads it */
	uint32_t order;	  /* number of the last order; odd: begin to count, even: stop */
	uint32_t done;	  /* number of the last order that was carried out */
	uint32_t error;	  /* its errno, or 0 */
	uint64_t init_task;
	char thread[COMM_LEN]; /* count threads whose names begin with this; empty: all */
	char symbols[PATH_LEN];
	char report[PATH_LEN];
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
void tasks_init_vcpu(void);
void tasks_begin(const struct control *control);
void tasks_switch(void);
void tasks_execute(const struct block *block);
bool tasks_counting(void);
void tasks_end(void);

/* --- qemu_plugin_report.c --- */
int report_write(const char *path, uint64_t nr_insns);

#endif
