/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest's kernel executes, counted to the instruction: parts of the QEMU plugin.
 *
 * Needs ``-accel tcg,thread=single``: one thread executes all of the guest's processors, so that
 * nothing here takes a lock. damon_tests/kernel/guest/cost_plugin.py is the other end.
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
	uint32_t version; /* set by us when we are loaded */
	uint32_t order;	  /* number of the last order; odd: count, even: stand by */
	uint32_t done;	  /* number of the last order that was carried out */
	uint32_t error;	  /* errno of it, or 0 */
	uint64_t init_task;
	char thread[COMM_LEN]; /* what names of threads to count begin with; empty: all */
	char symbols[PATH_LEN];
	char report[PATH_LEN];
};

/* What the harness says of a symbol; all that is known of its name. */
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

enum { ID_USER, ID_UNKNOWN }; /* ids that are no symbol's */

/* A translated block: what its execution means. */
struct block {
	uint64_t addr;
	uint64_t next; /* address after its last instruction: where a call returns to */
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

/* --- qemu_plugin_calls.c: who called whom --- */
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
extern struct node *nodes; /* the first one is the root of roots, and nobody's */
extern uint32_t nr_nodes;
extern uint64_t nr_lost_frames;
void tree_clear(void);
uint32_t tree_root(void);

/* --- qemu_plugin_tasks.c: who runs --- */
struct thread {
	char comm[COMM_LEN];
	bool counted;
	uint32_t root;
	uint64_t nr_insns;
	uint64_t nr_switches;
};
#define MAX_THREADS 1024 /* the last one is that of all further names */
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
