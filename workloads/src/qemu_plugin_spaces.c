// SPDX-License-Identifier: GPL-2.0
/*
 * Address spaces: which one each processor uses, and whose it is.
 *
 * A space is a page table (CR3) of a process: exec gives a process another one, and a new process
 * may get the page table of one that has ended.
 */
#include <string.h>

#include "qemu_plugin.h"

#define PAGE_TABLE_MASK 0x000fffffffffe000ull /* without PCID, and without PTI's bit */

struct space spaces[MAX_SPACES];
uint32_t nr_spaces = 1; /* the first entry is no space */

static struct {
	uint64_t page_table; /* 0: has not been loaded since the window began */
	uint32_t space;	     /* 0: to be looked up */
} cpus[MAX_CPUS];

static void on_load(unsigned int vcpu, void *number)
{
	unsigned int cpu = cpu_index();
	uint64_t value;

	(void)vcpu;
	if (!cpu_register((uintptr_t)number, &value))
		return;
	value &= PAGE_TABLE_MASK;
	if (value == cpus[cpu].page_table)
		return;
	cpus[cpu].page_table = value;
	cpus[cpu].space = 0;
}

/* mov %reg,%cr3 */
void spaces_translate(struct qemu_plugin_insn *insn, const uint8_t *code)
{
	bool rex = (code[0] & 0xf0) == 0x40;
	const uint8_t *opcode = code + rex;
	uintptr_t number;

	if (opcode[0] != 0x0f || opcode[1] != 0x22 || (opcode[2] & 0xf8) != 0xd8)
		return;
	number = (opcode[2] & 7) + (rex && (code[0] & 1) ? 8 : 0);
	qemu_plugin_register_vcpu_insn_exec_cb(insn, on_load, QEMU_PLUGIN_CB_R_REGS,
					       (void *)number);
}

/* The task of this processor has changed. */
void spaces_switch(void)
{
	cpus[cpu_index()].space = 0;
}

/* Pids are known from now on: look up whose spaces they are that are in use. */
void spaces_forget(void)
{
	for (int i = 0; i < MAX_CPUS; i++)
		cpus[i].space = 0;
}

static uint32_t find(uint64_t page_table, uint32_t pid, const char *comm)
{
	for (uint32_t i = nr_spaces - 1; i; i--) {
		if (spaces[i].page_table != page_table)
			continue;
		if (!pid)
			return i; /* of a processor that has not switched yet */
		if (!spaces[i].pid) {
			spaces[i].pid = pid;
			memcpy(spaces[i].comm, comm, COMM_LEN);
		}
		if (spaces[i].pid == pid)
			return i;
	}
	if (nr_spaces == MAX_SPACES)
		return 0;
	spaces[nr_spaces].page_table = page_table;
	spaces[nr_spaces].pid = pid;
	strncpy(spaces[nr_spaces].comm, comm, COMM_LEN);
	return nr_spaces++;
}

/* Returns the space that this processor uses; 0: not known. For accesses to user addresses. */
uint32_t spaces_now(void)
{
	unsigned int cpu = cpu_index();
	const char *comm;
	uint32_t pid;

	if (cpus[cpu].space || !cpus[cpu].page_table)
		return cpus[cpu].space;
	pid = tasks_pid(&comm);
	return cpus[cpu].space = find(cpus[cpu].page_table, pid, comm);
}

void spaces_begin(void)
{
	memset(cpus, 0, sizeof(cpus));
	nr_spaces = 1;
}
