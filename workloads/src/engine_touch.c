// SPDX-License-Identifier: GPL-2.0
/* The accesses themselves. */
#include <string.h>

#include "engine_draw.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

static ALWAYS_INLINE void touch(uint8_t *byte, enum kind kind)
{
	volatile uint8_t *it = byte;

	if (kind == KIND_WRITE)
		*it = 1;
	else if (kind == KIND_READ)
		(void)*it;
	else
		*it = *it + 1;
}

static inline void mark(uint64_t bit)
{
	slice_bits[bit / 64] |= (uint64_t)1 << (bit % 64);
}

/* Bits [first, last] of the slice under way. */
static void mark_range(uint64_t first, uint64_t last)
{
	uint64_t *word = &slice_bits[first / 64], *last_word = &slice_bits[last / 64];
	uint64_t head = ~(uint64_t)0 << (first % 64), tail = ~(uint64_t)0 >> (63 - last % 64);

	if (word == last_word) {
		*word |= head & tail;
		return;
	}
	*word++ |= head;
	while (word < last_word)
		*word++ = ~(uint64_t)0;
	*word |= tail;
}

/* The bit of the page with this offset in the region. */
static inline uint64_t bit_of(const struct region *region, uint64_t offset)
{
	return (offset >> PAGE_SHIFT) - region->window_first + region->window_bit;
}

void mark_span(const struct region *region, uint64_t start, uint64_t end)
{
	mark_range(bit_of(region, start), bit_of(region, end - 1));
}

/* ``slots`` slots from ``start`` on. */
static void mark_slots(const struct term *term, uint64_t start, uint64_t slots)
{
	uint64_t end = start + (slots - 1) * term->stride;

	if (term->stride <= PAGE_BYTES) {
		mark_range(bit_of(term->region, start), bit_of(term->region, end));
		return;
	}
	for (uint64_t offset = start; offset <= end; offset += term->stride)
		mark(bit_of(term->region, offset));
}

/*
 * Slots at whole pages would all be the same line of a page, and so compete for the few cache lines
 * that such addresses share. Which byte of its page a slot touches is nobody's business: these
 * take one line after the other.
 */
#define LINE_BYTES     64
#define LINES_PER_PAGE (PAGE_BYTES / LINE_BYTES)

/* ``kind`` and ``whole_pages`` are constants where this is called: the loops have no branch for
 * them. */
static ALWAYS_INLINE void touch_island(uint8_t *base, uint64_t slots, uint64_t stride,
				       enum kind kind, bool whole_pages)
{
	for (uint64_t slot = 0; slot < slots; slot++)
		touch(base + slot * stride + (whole_pages ? slot % LINES_PER_PAGE * LINE_BYTES : 0),
		      kind);
}

static void touch_slots(const struct term *term, uint8_t *base, uint64_t slots)
{
	if (term->kind == KIND_READ)
		touch_island(base, slots, term->stride, KIND_READ, term->whole_pages);
	else if (term->kind == KIND_UPDATE)
		touch_island(base, slots, term->stride, KIND_UPDATE, term->whole_pages);
	else if (term->stride == PAGE_BYTES && term->whole_pages)
		touch_island(base, slots, PAGE_BYTES, KIND_WRITE, true);
	else
		touch_island(base, slots, term->stride, KIND_WRITE, false);
}

/* ``count`` slots from slot ``first`` on, round and round. */
static void do_sequential(const struct term *term, uint64_t drift, uint64_t first, uint64_t count)
{
	uint8_t *base = (uint8_t *)(uintptr_t)term->region->start;

	while (count) {
		uint64_t left = term->slots_per_island - first % term->slots_per_island;
		uint64_t slots = count < left ? count : left;
		uint64_t start = slot_offset(term, first) + drift;

		touch_slots(term, base + start, slots);
		if (slice_bits)
			mark_slots(term, start, slots);
		first = (first + slots) % term->slots;
		count -= slots;
	}
}

/*
 * Slots are drawn a block ahead of their accesses: a processor that is waiting for the memory of
 * one access then has many more in sight that it can begin, and not the arithmetic between them.
 * ``far`` ones, which no cache will have, are fetched at once: all are touched in this very pass.
 */
#define BLOCK	  128
#define FAR_BYTES ((uint64_t)8 << 20)

static ALWAYS_INLINE void draw_block(const struct term *term, uint64_t *state, uint64_t *slots,
				     uint64_t count, bool weighted)
{
	uint64_t all = term->slots;

	if (weighted) {
		for (uint64_t i = 0; i < count; i++)
			slots[i] = draw_weighted(state, term);
		return;
	}
	/* Both of the last step, although the pass may need one only. */
	for (uint64_t i = 0; i < count; i += 2)
		slots[i] = draw_slots(state, all, &slots[i + 1]);
}

static ALWAYS_INLINE void touch_drawn(const struct term *term, uint64_t drift, uint64_t state,
				      enum kind kind, bool weighted, bool islands, bool far)
{
	uint8_t *base = (uint8_t *)(uintptr_t)term->region->start;
	uint64_t stride = term->stride, first = term->start + drift;
	uint64_t lines = term->whole_pages ? LINES_PER_PAGE - 1 : 0;
	uint64_t slots[BLOCK + 1], left = term->touches;

	while (left) {
		uint64_t count = left < BLOCK ? left : BLOCK;

		draw_block(term, &state, slots, count, weighted);
		for (uint64_t i = 0; i < count; i++) {
			uint64_t slot = slots[i];

			slots[i] =
				islands ? slot_offset(term, slot) + drift : first + slot * stride;
			slots[i] += (slot & lines) * LINE_BYTES;
			if (far)
				__builtin_prefetch(base + slots[i], 1);
		}
		for (uint64_t i = 0; i < count; i++)
			touch(base + slots[i], kind);
		for (uint64_t i = 0; slice_bits && i < count; i++)
			mark(bit_of(term->region, slots[i]));
		left -= count;
	}
}

static void do_drawn(const struct term *term, uint64_t drift, uint64_t key)
{
	bool islands = term->islands > 1, weighted = term->order == WEIGHTED;
	bool far = term->end - term->start > FAR_BYTES;

	if (islands || weighted || term->kind != KIND_WRITE)
		touch_drawn(term, drift, key, term->kind, weighted, islands, far);
	else if (far)
		touch_drawn(term, drift, key, KIND_WRITE, false, false, true);
	else
		touch_drawn(term, drift, key, KIND_WRITE, false, false, false);
}

/* Each access needs the one before it: what it read is where it goes. */
static void do_chase(const struct term *term, uint64_t pass)
{
	const uint8_t *base = (const uint8_t *)(uintptr_t)term->region->start;
	uint64_t step = (pass % term->slots) * (term->touches % term->slots) % term->slots;
	uint64_t offset = slot_offset(term, way(chase_key(term), term->slots, step));

	for (uint64_t i = 0; i < term->touches; i++) {
		if (slice_bits)
			mark(bit_of(term->region, offset));
		offset = *(const volatile uint64_t *)(base + offset);
	}
}

void do_pass(const struct worker *worker, const struct term *term, size_t term_index, uint64_t pass)
{
	uint64_t drift = 0, first = 0;

	if (term->drift)
		drift = pass / term->drift_passes % term->drift_positions * term->drift;
	switch (term->order) {
	case SEQUENTIAL:
		if (term->walks)
			first = (pass % term->slots) * (term->touches % term->slots) % term->slots;
		do_sequential(term, drift, first, term->touches);
		break;
	case CHASE:
		do_chase(term, pass);
		break;
	default:
		do_drawn(term, drift,
			 pass_key(program.seed, worker->phase_number, term_index, pass));
	}
	if (term->lazy)
		drain_lru(false);
}
