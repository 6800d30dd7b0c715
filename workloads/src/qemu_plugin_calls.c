// SPDX-License-Identifier: GPL-2.0
/*
 * A tree of calls, from the blocks that a thread executes.
 *
 * Every thread has a shadow stack. A block that ends with a call makes the next one a callee; after
 * one that ends with a return, the frame that waits at the next one's address goes on. A function
 * that jumps to another one (a tail call) has it as its callee, in the same frame. What was called
 * before the window began is not known: where nobody waits for a return, the frame is renamed to
 * whatever runs there.
 */
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define MAX_DEPTH 256

struct frame {
	uint32_t node;
	uint32_t
		entered; /* the node of the function that was called; others follow by tail calls */
	bool interrupt;
	bool was_called, was_returning; /* of an interrupt: what it interrupted was about to do */
	uint64_t waits_at;		/* where its callee returns to; 0: it called nobody */
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

/* A node is never removed while a window lasts: an index stays good, a pointer does not. */
static uint32_t node_new(uint32_t parent, uint32_t id)
{
	if (nr_nodes == room) {
		room = room ? 2 * room : 1 << 12;
		nodes = realloc(nodes, room * sizeof(*nodes));
		if (!nodes)
			abort(); /* QEMU does the same without memory */
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

/* A root for a thread. Its id means nothing: the report says whose it is. */
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

/* A function that runs already is not called. */
static void go_on(struct calls *calls, uint32_t id)
{
	struct frame *frame = push(calls, id);

	nodes[frame->node].nr_calls--;
}

/* Who returned here is not known, since its call was before the window. */
static void rename_top(struct calls *calls, uint32_t id)
{
	struct frame *frame = top(calls);

	frame->node = child_of(nodes[frame->entered].parent, id);
	frame->entered = frame->node;
}

/*
 * The frame goes on in another function: a tail call, whose caller is no less the caller for it.
 * Functions that jump to and fro do not nest deeper each time.
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

	/* A stub that pushed the vector jumps to the handler: still the same interrupt. */
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
	/* What was interrupted before the window began is not known. */
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

/* Go on in the frame that waits at this address. No return leads out of an interrupt. */
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
		return; /* for its caller, whose call or return is still under way */
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

/* A block is executed, in a thread whose stack this is. */
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
