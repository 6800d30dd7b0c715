// SPDX-License-Identifier: GPL-2.0
/*
 * Track which thread each processor of the guest runs.
 *
 * __switch_to_asm gets the next task in RSI; its name is read from the guest's memory. The offset
 * of the name in task_struct is found by searching for the idle task's name.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define TASK_BUCKETS 4096

struct task {
	uint64_t addr;
	struct thread *thread; /* by its current name */
	struct calls *calls;   /* of a thread that is counted */
	uint32_t pid;	       /* of its process; 0: not known yet */
	struct task *next;
};

struct thread threads[MAX_THREADS];
uint32_t nr_threads;

static struct task *tasks[TASK_BUCKETS];
static struct task *running[MAX_CPUS]; /* NULL: has not switched since the window began */
static char wanted[COMM_LEN + 1];
static uint64_t init_task;
static size_t comm_offset; /* offset in task_struct; 0: not known yet */

/* Forget the last window. */
void tasks_begin(const struct control *control)
{
	tasks_end();
	memcpy(wanted, control->thread, COMM_LEN);
	if (init_task != control->init_task)
		comm_offset = 0;
	init_task = control->init_task;
}

/*
 * Not done when a window begins: the guest may be about to return to a program, whose page tables
 * do not map the kernel's data.
 */
static bool find_comm(void)
{
	const uint8_t *task, *name;

	if (comm_offset)
		return true;
	task = cpu_memory(init_task, TASK_BYTES);
	if (!task)
		return false;
	name = memmem(task, TASK_BYTES, "swapper", strlen("swapper"));
	if (name)
		comm_offset = name - task;
	return name;
}

void tasks_end(void)
{
	for (int i = 0; i < TASK_BUCKETS; i++) {
		while (tasks[i]) {
			struct task *task = tasks[i];

			tasks[i] = task->next;
			calls_free(task->calls);
			free(task);
		}
	}
	memset(running, 0, sizeof(running));
	nr_threads = 0;
}

/* Tasks of the same name count as one thread. */
static struct thread *thread_named(const char *comm)
{
	struct thread *thread;

	for (uint32_t i = 0; i < nr_threads; i++)
		if (!memcmp(threads[i].comm, comm, COMM_LEN))
			return &threads[i];
	if (nr_threads == MAX_THREADS)
		return &threads[MAX_THREADS - 1];
	thread = &threads[nr_threads++];
	*thread = (struct thread){ .counted = !strncmp(comm, wanted, strlen(wanted)) };
	memcpy(thread->comm, comm, COMM_LEN);
	if (thread->counted)
		thread->root = tree_root();
	return thread;
}

static struct task *task_at(uint64_t addr)
{
	struct task **bucket = &tasks[(addr >> 6) % TASK_BUCKETS];
	struct task *task;

	for (task = *bucket; task; task = task->next)
		if (task->addr == addr)
			return task;
	task = calloc(1, sizeof(*task));
	if (!task)
		abort();
	task->addr = addr;
	task->next = *bucket;
	return *bucket = task;
}

/* A task's name changes at exec, and its memory may be reused for another task. */
static void name_task(struct task *task, struct thread *thread)
{
	if (task->thread == thread)
		return;
	task->thread = thread;
	calls_free(task->calls);
	task->calls = thread->counted ? calls_new(thread->root) : NULL;
}

/* Handles a switch of this processor to another task. Called before the first instruction of
 * __switch_to_asm. */
void tasks_switch(void)
{
	struct task **now = &running[cpu_index()];
	const uint8_t *name;
	char comm[COMM_LEN];
	uint64_t addr;

	*now = NULL;
	if (!find_comm() || !cpu_register(REGISTER_RSI, &addr))
		return;
	name = cpu_memory(addr + comm_offset, COMM_LEN);
	if (!name)
		return;
	memcpy(comm, name, COMM_LEN);
	*now = task_at(addr);
	name_task(*now, thread_named(comm));
	(*now)->thread->nr_switches++;
	if (pids_wanted())
		(*now)->pid = pids_read(addr, comm);
}

/* Returns the pid of the process that this processor runs, 0 if it is not known, and its name. */
uint32_t tasks_pid(const char **comm)
{
	struct task *task = running[cpu_index()];

	*comm = task ? task->thread->comm : "";
	/* It may run since before it was known where pids are. */
	if (task && !task->pid && pids_wanted())
		task->pid = pids_read(task->addr, *comm);
	return task ? task->pid : 0;
}

void tasks_execute(const struct block *block)
{
	struct task *task = running[cpu_index()];

	if (!task)
		return;
	task->thread->nr_insns += block->nr_insns;
	if (task->calls)
		calls_step(task->calls, block);
}

/* Returns whether a processor runs a counted thread, whose work would be cut off. */
bool tasks_counting(void)
{
	for (int i = 0; i < MAX_CPUS && *wanted; i++)
		if (running[i] && running[i]->calls)
			return true;
	return false;
}
