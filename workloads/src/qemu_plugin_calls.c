// SPDX-License-Identifier: GPL-2.0
/*
 * Build a call tree from the blocks that threads execute.
 *
 * Every thread has a shadow stack. After a block that ends with a call, the next block is in a
 * callee; after a block that ends with a return, the frame that waits at the next block's address
 * continues. When a function jumps to another (a tail call), the other is its callee, in the same
 * frame. Calls from before the window are unknown: when no frame waits for a return, the current
 * frame is renamed to the function that runs.
 */
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define MAX_DEPTH 256

struct frame {
	uint32_t node;
	uint32_t entered; /* the node of the called function; tail calls may move to others */
	bool interrupt;
	bool was_called,
		was_returning; /* for an interrupt: what the interrupted code was about to do */
	uint64_t waits_at;     /* where its callee returns to; 0: it has no callee */
};

struct calls {
	uint32_t root;
	int depth;
	bool called;
	bool returning;
	struct frame frames[MAX_DEPTH];
};

struct node *nodes;
uint32_t nr_nodes;
uint64_t nr_lost_frames;
static uint32_t room;

/* Nodes are never removed within a window: indexes stay valid, pointers do not. */
static uint32_t node_new(uint32_t parent, uint32_t id)
{
	if (nr_nodes == room) {
		room = room ? 2 * room : 1 << 12;
		nodes = realloc(nodes, room * sizeof(*nodes));
		if (!nodes)
			abort(); /* QEMU also aborts when memory runs out */
	}
	nodes[nr_nodes] = (struct node){ .parent = parent, .id = id };
	if (nr_nodes) {
		nodes[nr_nodes].sibling = nodes[parent].child;
		nodes[parent].child = nr_nodes;
	}
	return nr_nodes++;
}

static uint32_t child_of(uint32_t parent, uint32_t id)
{
	for (uint32_t i = nodes[parent].child; i; i = nodes[i].sibling)
		if (nodes[i].id == id)
			return i;
	return node_new(parent, id);
}

void tree_clear(void)
{
	nr_nodes = 0;
	nr_lost_frames = 0;
	node_new(0, ID_UNKNOWN);
}

/* Makes a root for a thread. Its id means nothing: the report names its thread. */
uint32_t tree_root(void)
{
	return node_new(0, ID_UNKNOWN);
}

struct calls *calls_new(uint32_t root)
{
	struct calls *calls = calloc(1, sizeof(*calls));

	if (!calls)
		abort();
	calls->root = root;
	return calls;
}

void calls_free(struct calls *calls)
{
	free(calls);
}

static struct frame *top(struct calls *calls)
{
	return calls->depth ? &calls->frames[calls->depth - 1] : NULL;
}

static struct frame *push(struct calls *calls, uint32_t id)
{
	struct frame *above = top(calls);
	uint32_t node = child_of(above ? above->node : calls->root, id);

	if (calls->depth == MAX_DEPTH) {
		nr_lost_frames++;
		return above;
	}
	nodes[node].nr_calls++;
	calls->frames[calls->depth] = (struct frame){ .node = node, .entered = node };
	return &calls->frames[calls->depth++];
}

/* Names a frame whose function runs already: this is no call. */
static void go_on(struct calls *calls, uint32_t id)
{
	struct frame *frame = push(calls, id);

	nodes[frame->node].nr_calls--;
}

/* The function that returned here is unknown: its call was before the window. */
static void rename_top(struct calls *calls, uint32_t id)
{
	struct frame *frame = top(calls);

	frame->node = child_of(nodes[frame->entered].parent, id);
	frame->entered = frame->node;
}

/*
 * A tail call: the frame continues in another function, as a callee of the first. Functions that
 * jump back and forth do not nest deeper each time.
 */
static void jump(struct calls *calls, uint32_t id)
{
	struct frame *frame = top(calls);
	uint32_t node = frame->node;

	while (nodes[node].id != id && node != frame->entered)
		node = nodes[node].parent;
	if (nodes[node].id != id) {
		node = child_of(frame->node, id);
		nodes[node].nr_calls++;
	}
	frame->node = node;
}

static void interrupt(struct calls *calls, const struct block *block)
{
	struct frame *frame = top(calls);
	bool called = calls->called, returning = calls->returning;

	/* The stub that pushed the vector jumps to the handler: it is the same interrupt. */
	if (frame && frame->interrupt && block->kind == SYMBOL_INTERRUPT && !called && !returning) {
		jump(calls, block->id);
		return;
	}
	frame = push(calls, block->id);
	frame->interrupt = true;
	frame->was_called = called;
	frame->was_returning = returning;
	calls->called = calls->returning = false;
}

static void end_interrupt(struct calls *calls)
{
	/* The code that was interrupted before the window is unknown. */
	bool was_called = false, was_returning = false;
	int depth = 0;

	for (int i = calls->depth - 1; i >= 0; i--) {
		struct frame *frame = &calls->frames[i];

		if (!frame->interrupt)
			continue;
		depth = i;
		was_called = frame->was_called;
		was_returning = frame->was_returning;
		break;
	}
	calls->depth = depth;
	calls->called = was_called;
	calls->returning = was_returning;
}

/* Continues in the frame that waits at this address. A plain return never leaves an interrupt. */
static bool returned(struct calls *calls, const struct block *block)
{
	for (int i = calls->depth - 1; i >= 0; i--) {
		struct frame *frame = &calls->frames[i];

		if (frame->waits_at == block->addr) {
			frame->waits_at = 0;
			calls->depth = i + 1;
			return true;
		}
		if (frame->interrupt)
			return false;
	}
	return false;
}

static bool runs(struct calls *calls, uint32_t id)
{
	return nodes[top(calls)->node].id == id;
}

/* A thunk has no frame: its caller may be returned to while its call is, for us, still under way.
 */
static void move_to(struct calls *calls, const struct block *block)
{
	if (!block->kernel) {
		calls->depth = 0;
		calls->called = false;
		push(calls, ID_USER);
	} else if (block->kind == SYMBOL_VECTOR_STUB ||
		   (block->kind == SYMBOL_INTERRUPT && block->entry)) {
		interrupt(calls, block);
	} else if (block->kind == SYMBOL_THUNK && calls->depth) {
		return; /* for its caller, whose call or return is still in progress */
	} else if (!calls->depth) {
		go_on(calls, block->id);
	} else if (calls->called && top(calls)->waits_at != block->addr) {
		push(calls, block->id);
	} else if (calls->returning && !returned(calls, block) && !runs(calls, block->id)) {
		rename_top(calls, block->id);
	} else {
		jump(calls, block->id);
	}
	calls->called = calls->returning = false;
}

/* Handles the execution of a block, on its thread's stack. */
void calls_step(struct calls *calls, const struct block *block)
{
	struct frame *frame;

	move_to(calls, block);
	frame = top(calls);
	nodes[frame->node].nr_insns += block->nr_insns;
	if (block->calls) {
		frame->waits_at = block->next;
		calls->called = true;
	}
	if (block->returns)
		calls->returning = true;
	if (block->irets)
		end_interrupt(calls);
}
