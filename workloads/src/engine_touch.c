// SPDX-License-Identifier: GPL-2.0
/* The accesses themselves. */
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

/*
 * Slots at page boundaries would all touch the same line of a page, and compete for the few cache
 * sets that such addresses share. Any byte of the page serves, so these slots cycle through the
 * lines of a page.
 */
#define LINE_BYTES 64

/* ``page_bytes`` is a power of two; a mask is faster than a remainder. */
static ALWAYS_INLINE uint64_t line_of(uint64_t slot)
{
	return slot * LINE_BYTES & (page_bytes - 1);
}

/* ``kind`` and ``whole_pages`` are constants where this is called: the loops have no branch for
 * them. */
static ALWAYS_INLINE void touch_island(uint8_t *base, uint64_t slots, uint64_t stride,
				       enum kind kind, bool whole_pages)
{
	for (uint64_t slot = 0; slot < slots; slot++)
		touch(base + slot * stride + (whole_pages ? line_of(slot) : 0), kind);
}

static void touch_slots(const struct term *term, uint8_t *base, uint64_t slots)
{
	if (term->kind == KIND_READ)
		touch_island(base, slots, term->stride, KIND_READ, term->whole_pages);
	else if (term->kind == KIND_UPDATE)
		touch_island(base, slots, term->stride, KIND_UPDATE, term->whole_pages);
	else if (term->stride == page_bytes && term->whole_pages)
		touch_island(base, slots, page_bytes, KIND_WRITE, true);
	else
		touch_island(base, slots, term->stride, KIND_WRITE, false);
}

/* Touches ``count`` slots from slot ``first`` on, with wrap-around. */
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
 * Drawn accesses go in groups. While a group is touched, the next group is drawn and prefetched, so
 * that its accesses wait for memory together, not one after the other. Every prefetched line is
 * touched in the same pass. In larger groups, the first lines would be evicted again; in smaller
 * groups, they would not have arrived yet.
 */
#define GROUP 64

struct group {
	uint64_t count;
	uint64_t offsets[GROUP]; /* in the region */
};

/* Drawing is slower where these are not constants. */
struct shape {
	bool weighted, islands, whole_pages;
};

/* Prefetches a slot; returns its offset in the region. */
static ALWAYS_INLINE uint64_t fetch(const struct term *term, uint64_t drift, uint64_t slot,
				    struct shape shape)
{
	const uint8_t *base = (const uint8_t *)(uintptr_t)term->region->start;
	uint64_t offset = term->start + slot * term->stride;

	if (shape.islands)
		offset = slot_offset(term, slot);
	if (shape.whole_pages)
		offset += line_of(slot);
	__builtin_prefetch(base + offset + drift, 1);
	return offset + drift;
}

/* Draws the next group of a pass that has ``left`` slots to draw. */
static ALWAYS_INLINE void draw_group(const struct term *term, uint64_t drift, uint64_t *state,
				     uint64_t left, struct group *restrict group,
				     struct shape shape)
{
	uint64_t all = term->slots, count = left < GROUP ? left : GROUP;

	group->count = count;
	if (shape.weighted) {
		for (uint64_t i = 0; i < count; i++)
			group->offsets[i] = fetch(term, drift, draw_weighted(state, term), shape);
		return;
	}
	for (uint64_t i = 0; i + 1 < count; i += 2) {
		uint64_t second, first = draw_slots(state, all, &second);

		group->offsets[i] = fetch(term, drift, first, shape);
		group->offsets[i + 1] = fetch(term, drift, second, shape);
	}
	if (count % 2) {
		uint64_t unused, last = draw_slots(state, all, &unused);

		group->offsets[count - 1] = fetch(term, drift, last, shape);
	}
}

static ALWAYS_INLINE void touch_group(const struct term *term, const struct group *group,
				      enum kind kind)
{
	uint8_t *base = (uint8_t *)(uintptr_t)term->region->start;

	for (uint64_t i = 0; i < group->count; i++)
		touch(base + group->offsets[i], kind);
}

static ALWAYS_INLINE void touch_drawn(const struct term *term, uint64_t drift, uint64_t state,
				      enum kind kind, struct shape shape)
{
	struct group groups[2], *now = &groups[0], *next = &groups[1];
	uint64_t left = term->touches;

	draw_group(term, drift, &state, left, now, shape);
	while (left) {
		struct group *done = now;

		left -= now->count;
		draw_group(term, drift, &state, left, next, shape);
		touch_group(term, now, kind);
		if (slice_bits)
			mark_drawn(term, drift, now->offsets, now->count);
		now = next;
		next = done;
	}
	if (slice_bits)
		settle_drawn(term, drift);
}

static void do_drawn(const struct term *term, uint64_t drift, uint64_t key)
{
	struct shape shape = { term->order == WEIGHTED, term->islands > 1, term->whole_pages };

	if (shape.weighted || shape.islands || shape.whole_pages || term->kind != KIND_WRITE)
		touch_drawn(term, drift, key, term->kind, shape);
	else
		touch_drawn(term, drift, key, KIND_WRITE, (struct shape){ false, false, false });
}

/* Each access depends on the one before: the value read is the next address. */
static void do_chase(const struct term *term, uint64_t pass)
{
	const uint8_t *base = (const uint8_t *)(uintptr_t)term->region->start;
	uint64_t step = (pass % term->slots) * (term->touches % term->slots) % term->slots;
	uint64_t offset = slot_offset(term, way(chase_key(term), term->slots, step));

	for (uint64_t i = 0; i < term->touches; i++) {
		if (slice_bits)
			mark_page(term->region, offset);
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
