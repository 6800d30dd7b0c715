// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU plugin that counts the instructions a guest executes, and records the accesses of its
 * programs, in windows that the harness opens.
 *
 *   -plugin file=damon-tests-qemu_plugin,ctl=FILE
 *
 * FILE is a ``struct control``, one per guest; it must not be truncated while QEMU runs. Outside of
 * windows, only instructions that every kernel executes now and then (hlt, and writes of CR3) have
 * a callback, which reads a word of FILE. On an order, all blocks are translated anew, with the
 * callbacks that the order needs.
 *
 * Not used: inline operations, which hang guests of two processors under thread=single, and
 * callbacks for idle processors, which are never called in this mode.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qemu_plugin.h"

#define MAX_INSN_LEN	 15
#define BLOCKS_PER_CHUNK 4096

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;
QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info,
					   int argc, char **argv);

/* Keep blocks until all code is translated anew: QEMU may run them until then. */
struct chunk {
	struct chunk *next;
	size_t nr_blocks;
	struct block blocks[BLOCKS_PER_CHUNK];
};

static qemu_plugin_id_t self;
static volatile struct control *control;
static uint64_t window; /* what is recorded now: enum window, 0 outside of windows */
static bool changing;
uint64_t nr_insns;
static struct chunk *chunks;

static void carry_out(qemu_plugin_id_t id);

/* --- outside of windows, and at instructions that every kernel executes now and then --- */

static void poll_orders(void)
{
	if (control->order == control->done || changing)
		return;
	if ((window & WINDOW_COST) && tasks_counting())
		return; /* a counted thread is running: end when it sleeps */
	changing = true;
	qemu_plugin_reset(self, carry_out);
}

static void on_poll(unsigned int vcpu, void *userdata)
{
	(void)vcpu;
	(void)userdata;
	poll_orders();
}

static void on_switch(unsigned int vcpu, void *userdata)
{
	(void)vcpu;
	(void)userdata;
	tasks_switch();
	spaces_switch();
	poll_orders();
}

static void on_block(unsigned int vcpu, void *userdata)
{
	const struct block *block = userdata;

	(void)vcpu;
	nr_insns += block->nr_insns;
	if (window & WINDOW_COST)
		tasks_execute(block);
	if (window & WINDOW_ACCESSES)
		accesses_execute(block);
}

/* --- translation --- */

static struct block *block_new(void)
{
	if (!chunks || chunks->nr_blocks == BLOCKS_PER_CHUNK) {
		struct chunk *chunk = malloc(sizeof(*chunk));

		if (!chunk)
			abort();
		chunk->next = chunks;
		chunk->nr_blocks = 0;
		chunks = chunk;
	}
	return &chunks->blocks[chunks->nr_blocks++];
}

static void free_blocks(void)
{
	while (chunks) {
		struct chunk *chunk = chunks;

		chunks = chunk->next;
		free(chunk);
	}
}

/* Prefixes of an opcode: segment (branch hints, notrack), operand size, repeat (bnd, rep ret),
 * REX. */
static const uint8_t *skip_prefixes(const uint8_t *code)
{
	for (int i = 0; i < 4; i++, code++) {
		bool rex = (*code & 0xf0) == 0x40;

		if (!rex && *code != 0x2e && *code != 0x3e && *code != 0x66 && *code != 0xf2 &&
		    *code != 0xf3)
			break;
	}
	return code;
}

/*
 * Returns whether it is a call to another function. Code that fills the return stack buffer, and
 * retpolines, call the instruction after the next one, and nothing ever returns from there.
 */
static bool is_call(const uint8_t *code, uint64_t next, const struct symbol *symbol)
{
	const struct symbol *called;
	int32_t distance;
	uint64_t target;

	if (*code == 0xff)
		return (code[1] & 0x38) == 0x10;
	if (*code != 0xe8)
		return false;
	memcpy(&distance, code + 1, sizeof(distance));
	target = next + distance;
	called = symbol_at(target);
	return !called || called != symbol || target == called->addr;
}

static void describe_end(struct block *block, const uint8_t *insn, const struct symbol *symbol)
{
	const uint8_t *code = skip_prefixes(insn);

	block->calls = is_call(code, block->next, symbol);
	block->returns = *code == 0xc3 || *code == 0xc2;
	block->irets = *code == 0xcf;
}

static void poll_at(struct qemu_plugin_insn *insn, const uint8_t *code)
{
	const uint8_t *opcode = code + ((*code & 0xf0) == 0x40);
	bool writes_cr3 = opcode[0] == 0x0f && opcode[1] == 0x22 && (opcode[2] & 0xf8) == 0xd8;

	if (*code == 0xf4 || writes_cr3)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_poll, QEMU_PLUGIN_CB_NO_REGS, NULL);
}

/* to_come: this instruction and those that follow it in its block. */
static void record_at(struct qemu_plugin_insn *insn, const uint8_t *code, bool kernel,
		      size_t to_come)
{
	time_translate(insn, code, to_come);
	accesses_translate(insn, kernel, to_come);
	if (kernel)
		spaces_translate(insn, code);
}

static void translate_insns(struct qemu_plugin_tb *tb, bool kernel, struct block *block,
			    const struct symbol *symbol)
{
	size_t n = qemu_plugin_tb_n_insns(tb);

	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t addr = qemu_plugin_insn_vaddr(insn);
		/* Beyond a short instruction, this reads zeroes. */
		uint8_t code[MAX_INSN_LEN + 5] = { 0 };

		qemu_plugin_insn_data(insn, code, MAX_INSN_LEN);
		if (kernel)
			poll_at(insn, code);
		if (!block)
			continue;
		if (window & WINDOW_ACCESSES)
			record_at(insn, code, kernel, n - i);
		if (block->kind == SYMBOL_SWITCH && addr == symbol->addr)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_switch,
							       QEMU_PLUGIN_CB_R_REGS, NULL);
		if (i == n - 1) {
			block->next = addr + qemu_plugin_insn_size(insn);
			if (kernel)
				describe_end(block, code, symbol);
		}
	}
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t addr = qemu_plugin_tb_vaddr(tb);
	const struct symbol *symbol = NULL;
	bool kernel = addr >> 63;
	struct block *block = NULL;

	(void)id;
	if (window) {
		block = block_new();
		symbol = kernel ? symbol_at(addr) : NULL;
		*block = (struct block){
			.addr = addr,
			.nr_insns = qemu_plugin_tb_n_insns(tb),
			.kernel = kernel,
			.id = symbol   ? symbol->id
			      : kernel ? ID_UNKNOWN
				       : ID_USER,
			.kind = symbol ? symbol->kind : SYMBOL_FUNCTION,
			.entry = symbol && symbol->addr == addr,
		};
		qemu_plugin_register_vcpu_tb_exec_cb(
			tb, on_block,
			window & WINDOW_ACCESSES ? QEMU_PLUGIN_CB_R_REGS : QEMU_PLUGIN_CB_NO_REGS,
			block);
	}
	if (kernel || block)
		translate_insns(tb, kernel, block, symbol);
}

/* --- orders --- */

static int begin(const struct control *order)
{
	int error = symbols_load(order->symbols);

	if (!error)
		error = pids_load(order->tasks);
	if (!error && (order->window & WINDOW_ACCESSES))
		error = accesses_begin(order->accesses, order->gap_ns);
	if (error)
		return error;
	nr_insns = 0;
	time_begin();
	spaces_begin();
	tree_clear();
	tasks_begin(order);
	window = order->window;
	return 0;
}

static int end(const struct control *order)
{
	int error = 0, written;

	if (window & WINDOW_ACCESSES)
		error = accesses_end();
	written = report_write(order->report, window);
	window = 0;
	return error ? error : written;
}

/* QEMU calls this when no block runs and no translated block is left. */
static void carry_out(qemu_plugin_id_t id)
{
	struct control order;
	int error = 0;

	memcpy(&order, (const void *)control, sizeof(order));
	if (window)
		error = end(&order);
	free_blocks();
	tasks_end();
	if (order.order % 2)
		error = begin(&order);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
	control->error = error;
	control->done = order.order;
	changing = false;
}

static void on_vcpu(qemu_plugin_id_t id, unsigned int vcpu)
{
	(void)id;
	(void)vcpu;
	cpu_init();
}

static int map_control(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *mapped;

	if (fd < 0)
		return errno;
	mapped = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED)
		return errno;
	control = mapped;
	control->version = CONTROL_VERSION;
	return 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
	int error = EINVAL;

	(void)info;
	self = id;
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "ctl=", 4))
			error = map_control(argv[i] + 4);
	if (error)
		return error;
	qemu_plugin_register_vcpu_init_cb(id, on_vcpu);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
	return 0;
}
