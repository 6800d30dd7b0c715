// SPDX-License-Identifier: GPL-2.0
/*
 * Keep a processor busy while the agent has no request.
 *
 * With an instruction clock (QEMU's -icount with sleep=off), QEMU skips time in which all
 * processors are idle: seconds pass in the guest before the host has even read a reply. So while no
 * request is in progress, a thread of the lowest priority keeps a processor busy, and time passes
 * no faster than instructions are executed.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#define STACK (64u << 10)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static atomic_int open_requests;

static void *keep_busy(void *unused)
{
	struct sched_param none = { 0 };

	(void)unused;
	sched_setscheduler(0, SCHED_IDLE, &none);
	for (;;) {
		pthread_mutex_lock(&lock);
		while (atomic_load(&open_requests) > 0)
			pthread_cond_wait(&answered, &lock);
		pthread_mutex_unlock(&lock);
		while (atomic_load(&open_requests) <= 0)
			;
	}
	return NULL;
}

void steady_start(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	error = pthread_create(&thread, &attr, keep_busy, NULL);
	pthread_attr_destroy(&attr);
	if (error)
		say("time may jump while the host is busy: %s", strerror(error));
}

void steady_asked(void)
{
	atomic_fetch_add(&open_requests, 1);
}

void steady_answered(void)
{
	pthread_mutex_lock(&lock);
	if (atomic_fetch_sub(&open_requests, 1) == 1)
		pthread_cond_signal(&answered);
	pthread_mutex_unlock(&lock);
}
