// SPDX-License-Identifier: GPL-2.0
/* The accesses themselves, the generator of random ones, and making them visible to DAMON. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

#define GOLDEN 0x9e3779b97f4a7c15ULL

/* The generator is defined in damon_tests/workload/generator.py, and tested to be the same. */
uint64_t mix(uint64_t z)
{
	z ^= z >> 30;
	z *= 0xbf58476d1ce4e5b9ULL;
	z ^= z >> 27;
	z *= 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

uint64_t pass_key(uint64_t seed, uint64_t phase, uint64_t term, uint64_t pass)
{
	uint64_t key = mix(seed + GOLDEN);

	key = mix((key ^ phase) + GOLDEN);
	key = mix((key ^ term) + GOLDEN);
	return mix((key ^ pass) + GOLDEN);
}

/* ``state`` starts as the pass's key. */
uint64_t draw_slot(uint64_t *state, uint64_t slots)
{
	*state += GOLDEN;
	return ((mix(*state) >> 32) * slots) >> 32;
}

static inline void touch(uint8_t *byte, bool write)
{
	if (write)
		*(volatile uint8_t *)byte = 1;
	else
		(void)*(volatile uint8_t *)byte;
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

static void mark_island(const struct term *term, uint64_t start)
{
	uint64_t end = start + (term->slots_per_island - 1) * term->stride;

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

/* ``write`` and ``whole_pages`` are constants where this is called: the loops have no branch for
 * them. */
static ALWAYS_INLINE void touch_island(uint8_t *base, uint64_t slots, uint64_t stride, bool write,
				       bool whole_pages)
{
	for (uint64_t slot = 0; slot < slots; slot++)
		touch(base + slot * stride + (whole_pages ? slot % LINES_PER_PAGE * LINE_BYTES : 0),
		      write);
}

static void do_sequential(const struct term *term)
{
	uint8_t *base = (uint8_t *)(uintptr_t)term->region->start;
	uint64_t start = term->start, slots = term->slots_per_island;

	for (uint64_t i = 0; i < term->islands; i++, start += term->every) {
		if (!term->write)
			touch_island(base + start, slots, term->stride, false, term->whole_pages);
		else if (term->stride == PAGE_BYTES && term->whole_pages)
			touch_island(base + start, slots, PAGE_BYTES, true, true);
		else
			touch_island(base + start, slots, term->stride, true, false);
		if (slice_bits)
			mark_island(term, start);
	}
}

static ALWAYS_INLINE void touch_random(const struct term *term, uint64_t state, bool write,
				       bool marked, bool islands)
{
	uint8_t *base = (uint8_t *)(uintptr_t)term->region->start;
	uint64_t slots = term->slots, stride = term->stride, first = term->start;
	uint64_t lines = term->whole_pages ? LINES_PER_PAGE - 1 : 0;

	for (uint64_t i = 0; i < term->touches; i++) {
		uint64_t slot = draw_slot(&state, slots);
		uint64_t offset = first + slot * stride;

		if (islands)
			offset = first + slot / term->slots_per_island * term->every +
				 slot % term->slots_per_island * stride;
		touch(base + offset + (slot & lines) * LINE_BYTES, write);
		if (marked)
			mark(bit_of(term->region, offset));
	}
}

static void do_random(const struct term *term, uint64_t key)
{
	bool islands = term->islands > 1;

	if (!slice_bits && !islands && term->write)
		touch_random(term, key, true, false, false);
	else if (slice_bits && !islands && term->write)
		touch_random(term, key, true, true, false);
	else
		touch_random(term, key, term->write, slice_bits, islands);
}

void do_pass(const struct worker *worker, const struct term *term, size_t term_index, uint64_t pass)
{
	if (term->random)
		do_random(term,
			  pass_key(worker->program->seed, worker->phase_number, term_index, pass));
	else
		do_sequential(term);
}

/*
 * DAMON clears accessed bits in page tables without telling the TLB, so a page whose translation is
 * still cached can be used without the bit being set again. Changing the access rights of more
 * pages than the kernel flushes one by one makes it drop all of this process's translations. The
 * pages are ones of our own, which nothing else uses, so that the pattern's mappings and
 * pages are left alone.
 *
 * x86 flushes up to 33 pages one by one (tlb_single_page_flush_ceiling), and flushes when rights
 * are given as well as when they are taken, so each flush is one call, in turns. Measured: 512
 * pages are touched in 0.25 us after changing 33 pages, in 1.38 us after changing 34, in either
 * direction.
 */
#if defined(__x86_64__) || defined(__i386__)
#define FLUSH_PAGES    40
#define GIVING_FLUSHES true
#else
#define FLUSH_PAGES    1024 /* arm64 flushes up to 512 pages one by one */
#define GIVING_FLUSHES false
#endif

static void *flush_area;

void prepare_flush(struct program *program)
{
	size_t size = FLUSH_PAGES * PAGE_BYTES;
	extern char __executable_start;
	uintptr_t low =
		((uintptr_t)&__executable_start & ~(uintptr_t)(PAGE_BYTES - 1)) - (1 << 16) - size;

	if (!program->flush) {
		printf("visibility natural: translations stay cached as the machine pleases\n");
		return;
	}
	/* Near the program, outside of what DAMON watches of the pattern. */
	flush_area = mmap((void *)low, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (flush_area == MAP_FAILED)
		die(EXIT_CANNOT, "%d pages for flushing cannot be mapped: %s", FLUSH_PAGES,
		    strerror(errno));
	madvise(flush_area, size, MADV_NOHUGEPAGE);
	memset(flush_area, 1, size);
	printf("visibility flush: mprotect() of %d pages before each round of passes makes the "
	       "kernel drop "
	       "all cached translations\n",
	       FLUSH_PAGES);
}

static void set_rights(size_t size, bool writable)
{
	if (mprotect(flush_area, size, writable ? PROT_READ | PROT_WRITE : PROT_READ))
		die(EXIT_BROKEN, "mprotect() for flushing failed: %s", strerror(errno));
}

void flush_translations(struct worker *worker)
{
	static bool writable = true;
	size_t size = FLUSH_PAGES * PAGE_BYTES;

	if (!writable && !GIVING_FLUSHES) {
		set_rights(size, true);
		writable = true;
	}
	writable = !writable;
	set_rights(size, writable);
	worker->flushes++;
}
