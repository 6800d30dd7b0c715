// SPDX-License-Identifier: GPL-2.0
/* The processor that runs now: its number, its registers, and the memory that it sees. */
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8",
				     "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rip" };

static struct qemu_plugin_register *registers[NR_REGISTERS];
static struct byte_array *buffer;

/*
 * With a single thread for all processors, QEMU 10.0 passes callbacks the index of the processor
 * that translated the block. QEMU's own variable, which is not part of the interface, is right.
 */
extern __thread void *current_cpu __attribute__((tls_model("initial-exec")));

/* Walks the page tables of a processor without any effect on them; not part of the interface. */
uint64_t cpu_get_phys_page_debug(void *cpu, uint64_t addr);

unsigned int cpu_index(void)
{
	static void *cpus[MAX_CPUS];
	static unsigned int nr_cpus, last;
	void *cpu = current_cpu;

	if (last < nr_cpus && cpus[last] == cpu)
		return last;
	for (last = 0; last < nr_cpus; last++)
		if (cpus[last] == cpu)
			return last;
	if (nr_cpus == MAX_CPUS)
		abort();
	cpus[nr_cpus] = cpu;
	return last = nr_cpus++;
}

/* Called when a processor is created: registers cannot be queried later. Their handles are valid
 * for all processors. */
void cpu_init(void)
{
	struct array *all;
	const struct qemu_plugin_reg_descriptor *known;

	if (buffer)
		return;
	buffer = g_byte_array_new();
	all = qemu_plugin_get_registers();
	known = (const void *)all->data;
	for (unsigned int i = 0; i < all->len; i++)
		for (int number = 0; number < NR_REGISTERS; number++)
			if (!strcmp(known[i].name, names[number]))
				registers[number] = known[i].handle;
}

/* Number as in the encoding of instructions. Only in a callback with QEMU_PLUGIN_CB_R_REGS. */
bool cpu_register(unsigned int number, uint64_t *value)
{
	g_byte_array_set_size(buffer, 0);
	if (!registers[number] ||
	    qemu_plugin_read_register(registers[number], buffer) < (int)sizeof(*value))
		return false;
	memcpy(value, buffer->data, sizeof(*value));
	return true;
}

/* Returns the guest's memory at a virtual address, valid until the next call here; NULL if it is
 * not mapped now. */
const uint8_t *cpu_memory(uint64_t addr, size_t len)
{
	g_byte_array_set_size(buffer, 0);
	return qemu_plugin_read_memory_vaddr(addr, buffer, len) ? buffer->data : NULL;
}

/* Returns the page frame at a virtual address, NO_FRAME if none is mapped. */
uint32_t cpu_frame(uint64_t addr)
{
	uint64_t physical =
		cpu_get_phys_page_debug(current_cpu, addr & ~(uint64_t)(PAGE_BYTES - 1));

	return physical == UINT64_MAX ? NO_FRAME : physical / PAGE_BYTES;
}
