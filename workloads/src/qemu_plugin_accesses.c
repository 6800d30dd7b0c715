// SPDX-License-Identifier: GPL-2.0
/*
 * Record which pages of user space are accessed when: by programs, and by the kernel for them.
 *
 * What is recorded are runs: a page was accessed at first_ns and at last_ns, and between them at
 * least every gap_ns. So for every stretch of time that is not shorter than gap_ns, the runs say
 * exactly whether a page was accessed in it. Loads, stores and executed code have runs of their
 * own. The frame of a page is looked up again after gap_ns; another one begins another run.
 *
 * QEMU translates code once for all virtual addresses at which its frame is mapped. So the address
 * of a block is only a key; at which address it runs now is read from RIP, once in gap_ns.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "qemu_plugin.h"

#define USER_BITS  47
#define QUICK_SIZE 8192

struct entry {
	struct access_run run;
	uint64_t key;	     /* page by which it is looked up */
	uint64_t checked_ns; /* when its frame was looked up */
	bool open;	     /* run has begun */
};

static struct entry *entries;
static uint32_t nr_entries, room;
static uint32_t *table; /* numbers of entries + 1, by hash; twice as large as room */
static uint32_t quick[QUICK_SIZE];
static uint64_t gap_ns;
static struct access_counts counts;
static FILE *file;
static int failure;

static uint64_t hash_of(uint64_t key, uint32_t space, uint32_t kind)
{
	return (key << 19 ^ (uint64_t)space << 3 ^ kind) * 0x9e3779b97f4a7c15ull >> 32;
}

static bool is_of(const struct entry *entry, uint64_t key, uint32_t space, uint32_t kind)
{
	return entry->key == key && entry->run.space == space && entry->run.kind == kind;
}

static void insert(uint32_t number)
{
	const struct entry *entry = &entries[number];
	uint64_t mask = 2 * (uint64_t)room - 1;
	uint64_t at = hash_of(entry->key, entry->run.space, entry->run.kind) & mask;

	while (table[at])
		at = (at + 1) & mask;
	table[at] = number + 1;
}

static void grow(void)
{
	room = room ? 2 * room : 1 << 16;
	entries = realloc(entries, room * sizeof(*entries));
	free(table);
	table = calloc(2 * (size_t)room, sizeof(*table));
	if (!entries || !table)
		abort();
	for (uint32_t i = 0; i < nr_entries; i++)
		insert(i);
}

static struct entry *look_up(uint64_t key, uint32_t space, uint32_t kind)
{
	uint64_t hash = hash_of(key, space, kind);
	uint32_t *hint = &quick[hash & (QUICK_SIZE - 1)];
	uint64_t mask, at;

	if (*hint && is_of(&entries[*hint - 1], key, space, kind))
		return &entries[*hint - 1];
	mask = 2 * (uint64_t)room - 1;
	for (at = hash & mask; room && table[at]; at = (at + 1) & mask) {
		if (is_of(&entries[table[at] - 1], key, space, kind)) {
			*hint = table[at];
			return &entries[table[at] - 1];
		}
	}
	if (nr_entries == room)
		grow();
	entries[nr_entries] = (struct entry){ .key = key, .run = { .space = space, .kind = kind } };
	insert(nr_entries);
	*hint = ++nr_entries;
	return &entries[nr_entries - 1];
}

static void write_run(struct entry *entry)
{
	if (entry->open && fwrite(&entry->run, sizeof(entry->run), 1, file) != 1 && !failure)
		failure = errno;
	counts.nr_runs += entry->open;
	entry->open = false;
}

/* The page is accessed now, for the first time in gap_ns or since its frame was looked up. */
static void look_again(struct entry *entry, uint64_t page, uint64_t now)
{
	struct access_run *run = &entry->run;
	uint32_t frame = cpu_frame(page * PAGE_BYTES);

	if (!entry->open || now - run->last_ns > gap_ns || page != run->page ||
	    frame != run->frame) {
		write_run(entry);
		entry->open = true;
		run->first_ns = now;
		run->page = page;
		run->frame = frame;
	}
	entry->checked_ns = now;
}

/* Returns the entry if its page must be looked up; NULL if the access is recorded already. */
static struct entry *accessed(uint64_t key, uint32_t kind, uint64_t now)
{
	uint32_t space = spaces_now();
	struct entry *entry;

	if (!now || !space) {
		counts.nr_unknown++;
		return NULL;
	}
	counts.nr_accesses++;
	entry = look_up(key, space, kind);
	if (!entry->open || now - entry->run.last_ns > gap_ns || now - entry->checked_ns > gap_ns)
		return entry;
	entry->run.last_ns = now;
	return NULL;
}

static void data_accessed(uint64_t page, uint32_t kind, uint64_t now)
{
	struct entry *entry = accessed(page, kind, now);

	if (!entry)
		return;
	look_again(entry, page, now);
	entry->run.last_ns = now;
}

/* Userdata: the instructions still to come, times two, and whether the kernel executes it. */
static void on_memory(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t addr, void *userdata)
{
	bool kernel = (uintptr_t)userdata & 1;
	size_t to_come = (uintptr_t)userdata >> 1;
	uint64_t last = addr + (1u << qemu_plugin_mem_size_shift(info)) - 1;
	uint64_t now = time_before(to_come);
	uint32_t kind;

	(void)vcpu;
	if (addr >> USER_BITS)
		return;
	if (qemu_plugin_mem_is_store(info))
		kind = kernel ? ACCESS_KERNEL_STORE : ACCESS_STORE;
	else
		kind = kernel ? ACCESS_KERNEL_LOAD : ACCESS_LOAD;
	data_accessed(addr / PAGE_BYTES, kind, now);
	if (last / PAGE_BYTES != addr / PAGE_BYTES)
		data_accessed(last / PAGE_BYTES, kind, now);
}

void accesses_translate(struct qemu_plugin_insn *insn, bool kernel, size_t to_come)
{
	qemu_plugin_register_vcpu_mem_cb(insn, on_memory, QEMU_PLUGIN_CB_NO_REGS,
					 QEMU_PLUGIN_MEM_RW,
					 (void *)(uintptr_t)(to_come << 1 | kernel));
}

static void code_accessed(const struct block *block, uint64_t key, uint64_t now)
{
	struct entry *entry = accessed(key, ACCESS_EXECUTE, now);
	uint64_t pc;

	if (!entry || !cpu_register(REGISTER_RIP, &pc))
		return;
	look_again(entry, pc / PAGE_BYTES + key - block->addr / PAGE_BYTES, now);
	entry->run.last_ns = now;
}

/* The block is executed: its code is accessed. */
void accesses_execute(const struct block *block)
{
	uint64_t now = time_before(block->nr_insns);
	uint64_t first = block->addr / PAGE_BYTES, last = (block->next - 1) / PAGE_BYTES;

	if (block->kernel)
		return;
	code_accessed(block, first, now);
	if (last != first)
		code_accessed(block, last, now);
}

/* Returns 0 or an errno. */
int accesses_begin(const char *path, uint64_t gap)
{
	file = fopen(path, "wb");
	if (!file)
		return errno;
	gap_ns = gap;
	failure = 0;
	counts = (struct access_counts){ 0 };
	return 0;
}

/* Writes the runs that have not ended. Returns 0 or an errno. */
int accesses_end(void)
{
	for (uint32_t i = 0; i < nr_entries; i++)
		write_run(&entries[i]);
	free(entries);
	free(table);
	entries = NULL;
	table = NULL;
	nr_entries = room = 0;
	for (int i = 0; i < QUICK_SIZE; i++)
		quick[i] = 0;
	if (fclose(file) && !failure)
		failure = errno;
	file = NULL;
	return failure;
}

const struct access_counts *accesses_counted(void)
{
	return &counts;
}
