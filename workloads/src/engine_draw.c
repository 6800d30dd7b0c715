// SPDX-License-Identifier: GPL-2.0
/*
 * Random draws: random and weighted slots, the way of a chase, the next weighted term.
 *
 * Python code defines all of it (generator.py, weights.py, chase.py in damon_tests/workload) and
 * computes the truth with it; a test compares the two.
 */
#include <string.h>

#include "engine_draw.h"

#define CHOICE_TERM UINT32_MAX

uint64_t pass_key(uint64_t seed, uint64_t phase, uint64_t term, uint64_t pass)
{
	uint64_t key = mix(seed + GOLDEN);

	key = mix((key ^ phase) + GOLDEN);
	key = mix((key ^ term) + GOLDEN);
	return mix((key ^ pass) + GOLDEN);
}

/* Fills the table of buckets at which a search begins, by the highest bits of the weight. */
void prepare_guide(struct term *term)
{
	size_t bucket = 0;

	for (uint64_t i = 0; i < 1 << GUIDE_BITS; i++) {
		while (term->buckets[bucket].cumulative <= i << (32 - GUIDE_BITS))
			bucket++;
		term->guide[i] = bucket;
	}
}

static unsigned int half_bits(uint64_t slots)
{
	unsigned int bits = 0;

	while (slots > 1 && (slots - 1) >> bits)
		bits++;
	return bits < 2 ? 1 : (bits + 1) / 2;
}

/* Returns the slot at a step (less than ``slots``) of the way through all slots. */
uint64_t way(uint64_t key, uint64_t slots, uint64_t step)
{
	unsigned int half = half_bits(slots);
	uint64_t mask = ((uint64_t)1 << half) - 1;

	do {
		uint64_t left = step >> half, right = step & mask;

		for (uint64_t turn = 0; turn < 4; turn++) {
			uint64_t next = left ^ (mix(right + key + turn * GOLDEN) & mask);

			left = right;
			right = next;
		}
		step = left << half | right;
	} while (step >= slots);
	return step;
}

uint64_t slot_offset(const struct term *term, uint64_t slot)
{
	return term->start + slot / term->slots_per_island * term->every +
	       slot % term->slots_per_island * term->stride;
}

uint64_t chase_key(const struct term *term)
{
	return pass_key(program.seed, term->region->number, term->start, term->slots);
}

static void write_way(const struct term *term)
{
	uint8_t *base = (uint8_t *)(uintptr_t)term->region->start;
	uint64_t key = chase_key(term), first = slot_offset(term, way(key, term->slots, 0));
	uint64_t at = first;

	for (uint64_t step = 1; step <= term->slots; step++) {
		uint64_t next = first;

		if (step < term->slots)
			next = slot_offset(term, way(key, term->slots, step));
		memcpy(base + at, &next, sizeof(next));
		at = next;
	}
}

/* Each slot of a chase holds the offset of the next slot in the region. */
void write_pointers(void)
{
	for (size_t p = 0; p < program.nr_phases; p++) {
		for (size_t t = 0; t < program.phases[p].nr_terms; t++) {
			if (program.phases[p].terms[t].order == CHASE)
				write_way(&program.phases[p].terms[t]);
		}
	}
}

/* Returns the weighted term of a phase that has this turn. */
size_t choose_term(const struct phase *phase, uint64_t number, uint64_t turn)
{
	uint64_t state = pass_key(program.seed, number, CHOICE_TERM, turn);
	uint64_t second, drawn = draw_slots(&state, phase->total_weight, &second), below = 0;
	size_t chosen = 0;

	while ((below += phase->terms[chosen].weight) <= drawn)
		chosen++;
	return chosen;
}
