// SPDX-License-Identifier: GPL-2.0
/* The touched-page map of the current slice: a bit for each page, set if an access was in it. */
#include "engine.h"

_Thread_local uint64_t *slice_bits;

/* A byte per page of the current dense term; all 0 between passes. See mark_drawn(). */
static _Thread_local uint8_t *page_map;

/* Sets where this thread marks; both maps must be all 0. */
void mark_into(uint64_t *bits, uint8_t *map)
{
	slice_bits = bits;
	page_map = map;
}

static inline void mark(uint64_t bit)
{
	slice_bits[bit / 64] |= (uint64_t)1 << (bit % 64);
}

/* Sets bits [first, last] of the current slice. */
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

/* Returns the bit of the page at this offset in the region. */
static inline uint64_t bit_of(const struct region *region, uint64_t offset)
{
	return (offset >> page_shift) - region->window_first + region->window_bit;
}

void mark_page(const struct region *region, uint64_t offset)
{
	mark(bit_of(region, offset));
}

void mark_span(const struct region *region, uint64_t start, uint64_t end)
{
	mark_range(bit_of(region, start), bit_of(region, end - 1));
}

/* Marks ``slots`` slots from ``start`` on. */
void mark_slots(const struct term *term, uint64_t start, uint64_t slots)
{
	uint64_t end = start + (slots - 1) * term->stride;

	if (term->stride <= page_bytes) {
		mark_range(bit_of(term->region, start), bit_of(term->region, end));
		return;
	}
	for (uint64_t offset = start; offset <= end; offset += term->stride)
		mark(bit_of(term->region, offset));
}

static uint64_t pages_of(const struct term *term)
{
	return ((term->end - 1) >> page_shift) - (term->start >> page_shift) + 1;
}

static bool is_dense(const struct term *term)
{
	bool drawn = term->order == RANDOM || term->order == WEIGHTED;

	return drawn && term->islands == 1 && pages_of(term) <= term->touches / 4;
}

/* Returns how many bytes the map of mark_into() needs. */
size_t prepare_marks(void)
{
	size_t most = 0;

	for (size_t p = 0; p < program.nr_phases; p++) {
		for (size_t t = 0; t < program.phases[p].nr_terms; t++) {
			struct term *term = &program.phases[p].terms[t];

			term->dense = is_dense(term);
			if (term->dense && pages_of(term) > most)
				most = pages_of(term);
		}
	}
	return most;
}

/*
 * Marks drawn accesses. Setting a bit depends on the previous write to its word, so where many
 * accesses share few words, each would wait for the last. Accesses of a dense term set bytes
 * instead, which depend on nothing; they become bits when the pass is over. No slice ends within a
 * pass.
 */
void mark_drawn(const struct term *term, uint64_t drift, const uint64_t *offsets, uint64_t count)
{
	const uint64_t first = (term->start + drift) >> page_shift;
	uint8_t *map = page_map;

	if (!term->dense) {
		for (uint64_t i = 0; i < count; i++)
			mark(bit_of(term->region, offsets[i]));
		return;
	}
	for (uint64_t i = 0; i < count; i++)
		map[(offsets[i] >> page_shift) - first] = 1;
}

/* Ends a pass of mark_drawn(). */
void settle_drawn(const struct term *term, uint64_t drift)
{
	uint64_t first = bit_of(term->region, term->start + drift);
	uint64_t pages = term->dense ? pages_of(term) : 0;

	for (uint64_t page = 0; page < pages; page++) {
		slice_bits[(first + page) / 64] |= (uint64_t)page_map[page] << (first + page) % 64;
		page_map[page] = 0;
	}
}
