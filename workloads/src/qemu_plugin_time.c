// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's time, exactly: the time stamp counter is the instruction clock, 1 ns an instruction.
 *
 * Its value is read from the registers after each RDTSC or RDTSCP; in between, instructions are
 * counted. Idle time, which the clock skips, is known at the next RDTSC: the kernel executes one
 * before it runs a program again.
 */
#include "qemu_plugin.h"

#define MAX_PLACES 1024

static uint64_t after[MAX_PLACES]; /* addresses that follow an RDTSC */
static unsigned int nr_after;
static uint64_t base_ns, base_insns; /* the last value, and the count when it was read */
static uint64_t read_insns;	     /* the count after the last RDTSC */
static struct time_check check;

/* Userdata of the callbacks: the instructions of the block that are still to come. */
static uint64_t executed(void *to_come)
{
	return nr_insns - (uintptr_t)to_come;
}

static void on_rdtsc(unsigned int vcpu, void *to_come)
{
	(void)vcpu;
	read_insns = executed(to_come) + 1;
}

static void on_next(unsigned int vcpu, void *to_come)
{
	uint64_t now = executed(to_come), low, high, ns, expected;

	(void)vcpu;
	/* Only directly after an RDTSC: the code may also be reached by a jump. */
	if (now != read_insns || !cpu_register(REGISTER_RAX, &low) ||
	    !cpu_register(REGISTER_RDX, &high))
		return;
	ns = high << 32 | (uint32_t)low;
	expected = base_ns + now - base_insns;
	if (base_ns) {
		check.nr_reads++;
		check.nr_exact += ns == expected;
		check.nr_idle += ns > expected;
		if (ns < expected && expected - ns > check.most_behind_ns)
			check.most_behind_ns = expected - ns;
	}
	base_ns = ns;
	base_insns = now;
}

static bool follows_rdtsc(uint64_t addr)
{
	for (unsigned int i = 0; i < nr_after; i++)
		if (after[i] == addr)
			return true;
	return false;
}

/* Adds callbacks to an instruction. to_come: it and what follows it in its block. */
void time_translate(struct qemu_plugin_insn *insn, const uint8_t *code, size_t to_come)
{
	uint64_t addr = qemu_plugin_insn_vaddr(insn);
	bool rdtsc = code[0] == 0x0f && code[1] == 0x31;
	bool rdtscp = code[0] == 0x0f && code[1] == 0x01 && code[2] == 0xf9;
	void *userdata = (void *)(uintptr_t)to_come;

	if (follows_rdtsc(addr))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_next, QEMU_PLUGIN_CB_R_REGS,
						       userdata);
	if (!rdtsc && !rdtscp)
		return;
	qemu_plugin_register_vcpu_insn_exec_cb(insn, on_rdtsc, QEMU_PLUGIN_CB_NO_REGS, userdata);
	addr += rdtsc ? 2 : 3;
	if (!follows_rdtsc(addr) && nr_after < MAX_PLACES)
		after[nr_after++] = addr;
}

void time_begin(void)
{
	base_ns = 0;
	read_insns = 0;
	check = (struct time_check){ 0 };
}

/* Returns ns of the time stamp counter before an instruction; 0: not known yet. */
uint64_t time_before(size_t to_come)
{
	return base_ns ? base_ns + nr_insns - to_come - base_insns : 0;
}

const struct time_check *time_checked(void)
{
	return &check;
}
