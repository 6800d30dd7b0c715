// SPDX-License-Identifier: GPL-2.0
/* Worker threads for requests that may block: one for each blocked request, and a few more. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define STACK	    (256u << 10) /* address space; a few KiB of it are used */
#define MAX_WORKERS 64
#define MAX_IDLE    2

struct job {
	struct job *next;
	struct request request;
	size_t len;
	uint8_t payload[];
};

struct worker {
	struct worker *next;
	pthread_t thread;
	const struct request *doing; /* NULL: idle */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct job *queue;
static struct job **queue_end = &queue;
static size_t waiting; /* jobs in the queue */
static struct worker *workers;
static size_t count;
static size_t idle;

static void do_job(const struct job *job)
{
	struct reader in = { .at = job->payload, .end = job->payload + job->len };

	if (job->request.op == OP_BATCH)
		files_batch(&job->request, &in);
	else
		system_request(&job->request, &in);
}

/* Called with the lock held. */
static struct job *take_job(void)
{
	struct job *job = queue;

	queue = job->next;
	if (!queue)
		queue_end = &queue;
	waiting--;
	return job;
}

/* Called with the lock held. */
static void unlist(struct worker *self)
{
	struct worker **at = &workers;

	while (*at != self)
		at = &(*at)->next;
	*at = self->next;
	count--;
}

static void *worker_main(void *argument)
{
	struct worker *self = argument;
	struct job *job;

	pthread_mutex_lock(&lock);
	while (queue || idle < MAX_IDLE) {
		if (!queue) {
			idle++;
			pthread_cond_wait(&work, &lock);
			idle--;
			continue;
		}
		job = take_job();
		self->doing = &job->request;
		pthread_mutex_unlock(&lock);
		do_job(job);
		pthread_mutex_lock(&lock);
		self->doing = NULL;
		free(job);
	}
	unlist(self);
	pthread_mutex_unlock(&lock);
	free(self);
	return NULL;
}

/* Called with the lock held. */
static bool add_worker(void)
{
	struct worker *w = calloc(1, sizeof(*w));
	pthread_attr_t attr;
	int error;

	if (!w)
		return false;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&w->thread, &attr, worker_main, w);
	pthread_attr_destroy(&attr);
	if (error) {
		free(w);
		return false;
	}
	w->next = workers;
	workers = w;
	count++;
	return true;
}

/* Called with the lock held. Returns whether a worker will do the queued jobs now, or ever. */
static bool staffed(void)
{
	if (idle >= waiting)
		return true;
	if (count < MAX_WORKERS && add_worker())
		return true;
	return idle > 0;
}

void jobs_submit(const struct request *r, const uint8_t *payload, size_t len)
{
	struct job *job = malloc(sizeof(*job) + len);
	bool good;

	if (!job) {
		reply_errno(r, ENOMEM);
		return;
	}
	job->next = NULL;
	job->request = *r;
	job->len = len;
	memcpy(job->payload, payload, len);
	pthread_mutex_lock(&lock);
	*queue_end = job;
	queue_end = &job->next;
	waiting++;
	good = staffed();
	pthread_cond_signal(&work);
	pthread_mutex_unlock(&lock);
	/* The job stays in the queue until a blocked request returns. */
	if (!good)
		say("%d requests are blocked, another one waits", MAX_WORKERS);
}

bool jobs_kick(void)
{
	bool some = false;

	pthread_mutex_lock(&lock);
	for (struct worker *w = workers; w; w = w->next) {
		if (!w->doing || !request_stale(w->doing))
			continue;
		pthread_kill(w->thread, SIGUSR1);
		some = true;
	}
	pthread_mutex_unlock(&lock);
	return some;
}
