// SPDX-License-Identifier: GPL-2.0
/* Performs phases: passes by their plan, late ones as soon as possible, lost ones counted. */
#include "engine.h"

/* How often a worker that is never idle looks at stdin and signals. */
#define LOOK_NS 10000000ULL

static uint64_t planned_passes(const struct phase *phase, const struct term *term)
{
	return (phase->duration_ns + term->period_ns - 1) / term->period_ns;
}

/*
 * The pass of a term that is to be done now, if one is. Passes whose successor is due as
 * well are lost: doing them late would only make the next ones late, too.
 */
static bool due_pass(const struct phase *phase, struct term *term, uint64_t phase_start,
		     uint64_t now, uint64_t *pass)
{
	uint64_t planned = planned_passes(phase, term), latest;

	if (term->next_pass >= planned || phase_start + term->next_pass * term->period_ns > now)
		return false;
	latest = (now - phase_start) / term->period_ns;
	if (latest >= planned)
		latest = planned - 1;
	term->missed += latest - term->next_pass;
	term->next_pass = latest + 1;
	*pass = latest;
	return true;
}

static uint64_t next_due_ns(const struct phase *phase, uint64_t phase_start)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < phase->nr_terms; i++) {
		const struct term *term = &phase->terms[i];
		uint64_t due = phase_start + term->next_pass * term->period_ns;

		if (term->next_pass < planned_passes(phase, term) && due < next)
			next = due;
	}
	return next;
}

/* Does every pass that is due; returns the time after them. */
static uint64_t do_round(struct worker *worker, struct phase *phase, uint64_t phase_start,
			 uint64_t now)
{
	uint64_t begin = now, pass;

	if (worker->program->flush) {
		flush_translations(worker);
		now = now_ns();
		worker->flush_ns += now - begin;
	}
	for (size_t i = 0; i < phase->nr_terms; i++) {
		struct term *term = &phase->terms[i];
		uint64_t start = now, due;

		if (!due_pass(phase, term, phase_start, begin, &pass))
			continue;
		due = phase_start + pass * term->period_ns;
		if (start - due > worker->late_max_ns)
			worker->late_max_ns = start - due;
		do_pass(worker, term, i, pass);
		now = now_ns();
		term->passes++;
		term->accesses += term->touches;
		log_pass(worker, i, pass, start, now);
	}
	return now;
}

/* False: stop. */
static bool run_phase(struct worker *worker, struct phase *phase, uint64_t phase_start)
{
	uint64_t end = phase_start + phase->duration_ns, now = now_ns();
	bool go_on = true;

	for (size_t i = 0; i < phase->nr_terms; i++)
		phase->terms[i].next_pass = 0;
	while (go_on && now < end) {
		uint64_t due = next_due_ns(phase, phase_start);

		if (slice_bits && now >= slice_end_ns())
			end_slice(now);
		if (due <= now) {
			now = do_round(worker, phase, phase_start, now);
			if (now - worker->looked_ns < LOOK_NS)
				continue;
			due = 0;
		}
		if (due > end)
			due = end;
		if (slice_bits && due > slice_end_ns())
			due = slice_end_ns();
		go_on = wait_until(worker, due);
		now = worker->looked_ns = now_ns();
	}
	if (go_on) {
		for (size_t i = 0; i < phase->nr_terms; i++) {
			struct term *term = &phase->terms[i];

			term->missed += planned_passes(phase, term) - term->next_pass;
		}
	}
	return go_on;
}

void run(struct worker *worker, uint64_t go_ns)
{
	struct program *program = worker->program;
	uint64_t phase_start = go_ns, now;
	bool go_on = true;

	while (go_on && (program->repeat || worker->phase_number < program->nr_phases)) {
		struct phase *phase = &program->phases[worker->phase_number % program->nr_phases];

		now = now_ns();
		publish_phase(worker->phase_number ? now : go_ns);
		publish_state(worker, "running");
		go_on = run_phase(worker, phase, phase_start);
		phase_start += phase->duration_ns;
		worker->phase_number++;
		/* Phases may be so short that all of them are over before they begin. */
		now = now_ns();
		if (go_on && now - worker->looked_ns >= LOOK_NS) {
			go_on = wait_until(worker, 0);
			worker->looked_ns = now;
		}
	}
	if (go_on) {
		publish_phase(now_ns()); /* the end of the last phase */
		publish_state(worker, "running");
	}
	while (go_on) {
		if (slice_bits && now_ns() >= slice_end_ns())
			end_slice(now_ns());
		go_on = wait_until(worker, slice_bits ? slice_end_ns() : UINT64_MAX);
	}
}
