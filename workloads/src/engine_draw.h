/* SPDX-License-Identifier: GPL-2.0 */
/* The generator, inline: it takes much of a random access's time. See engine_draw.c. */
#ifndef DAMON_TESTS_ENGINE_DRAW_H
#define DAMON_TESTS_ENGINE_DRAW_H

#include "engine.h"

#define GOLDEN 0x9e3779b97f4a7c15ULL

static inline uint64_t mix(uint64_t z)
{
	z ^= z >> 30;
	z *= 0xbf58476d1ce4e5b9ULL;
	z ^= z >> 27;
	z *= 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* ``state`` starts as the pass's key. */
static inline uint64_t draw_bits(uint64_t *state)
{
	*state += GOLDEN;
	return mix(*state);
}

/* Each step yields two slots: the returned slot, then ``second``. */
static inline uint64_t draw_slots(uint64_t *state, uint64_t slots, uint64_t *second)
{
	uint64_t bits = draw_bits(state);

	*second = (bits & UINT32_MAX) * slots >> 32;
	return (bits >> 32) * slots >> 32;
}

static inline uint64_t draw_weighted(uint64_t *state, const struct term *term)
{
	uint64_t bits = draw_bits(state), weight = bits >> 32, begin;
	size_t bucket = term->guide[weight >> (32 - GUIDE_BITS)];

	while (term->buckets[bucket].cumulative <= weight)
		bucket++;
	begin = bucket ? term->buckets[bucket - 1].end : 0;
	return begin + (((bits & UINT32_MAX) * (term->buckets[bucket].end - begin)) >> 32);
}

#endif
