// SPDX-License-Identifier: GPL-2.0
/* Perform phases: passes on schedule, late passes as soon as possible; count lost passes. */
#include "engine.h"

/* How often a worker that is never idle checks stdin and signals. */
#define LOOK_NS 10000000ULL

static bool is_mine(const struct worker *worker, const struct term *term)
{
	return term->process == worker->process && term->thread == worker->thread;
}

static uint64_t planned_passes(const struct phase *phase, const struct term *term)
{
	return (phase->duration_ns + term->period_ns - 1) / term->period_ns;
}

/*
 * Finds the pass that is due now, if any; ``counts`` are the term's own, or those of the turns that
 * it takes with others. A pass whose successor is due, too, is lost: doing it late would only delay
 * the next passes.
 */
static bool due_pass(const struct phase *phase, const struct term *term, struct counts *counts,
		     uint64_t phase_start, uint64_t now, uint64_t *pass)
{
	uint64_t planned = planned_passes(phase, term), latest;

	if (term->free_running) {
		*pass = counts->next_pass++;
		return true;
	}
	if (counts->next_pass >= planned || phase_start + counts->next_pass * term->period_ns > now)
		return false;
	latest = (now - phase_start) / term->period_ns;
	if (latest >= planned)
		latest = planned - 1;
	add(&counts->missed, latest - counts->next_pass);
	counts->next_pass = latest + 1;
	*pass = latest;
	return true;
}

/* Returns the counts that schedule a term; NULL for a term that only takes turns of another. */
static struct counts *schedule_of(const struct phase *phase, const struct term *term,
				  bool *in_turns)
{
	if (!term->weight)
		return term->counts;
	if (*in_turns)
		return NULL;
	*in_turns = true;
	return phase->turns;
}

static uint64_t next_due_ns(const struct worker *worker, const struct phase *phase,
			    uint64_t phase_start)
{
	uint64_t next = UINT64_MAX, due;
	bool in_turns = false;

	if (!worker->process && !worker->thread && worker->next_action < phase->nr_actions)
		next = phase_start + phase->actions[worker->next_action].at_ns;
	for (size_t i = 0; i < phase->nr_terms; i++) {
		const struct term *term = &phase->terms[i];
		const struct counts *counts;

		if (!is_mine(worker, term))
			continue;
		counts = schedule_of(phase, term, &in_turns);
		if (!counts)
			continue;
		if (term->free_running)
			return 0;
		due = phase_start + counts->next_pass * term->period_ns;
		if (counts->next_pass < planned_passes(phase, term) && due < next)
			next = due;
	}
	return next;
}

static uint64_t one_pass(struct worker *worker, const struct phase *phase, size_t number,
			 uint64_t pass, uint64_t start)
{
	const struct term *term = &phase->terms[number];
	uint64_t now;

	do_pass(worker, term, number, pass);
	now = now_ns();
	add(&term->counts->passes, 1);
	add(&term->counts->accesses, term->touches);
	log_pass(worker, number, pass, start, now);
	return now;
}

/* Does all due passes; returns the time afterwards. */
static uint64_t do_round(struct worker *worker, const struct phase *phase, uint64_t phase_start,
			 uint64_t now)
{
	uint64_t begin = now, pass;
	bool in_turns = false;

	if (program.flush) {
		flush_translations(worker);
		now = now_ns();
		add(&worker->flush_ns, now - begin);
	}
	for (size_t i = 0; i < phase->nr_terms; i++) {
		const struct term *term = &phase->terms[i];
		struct counts *counts;
		uint64_t start = now, due;
		size_t chosen = i;

		if (!is_mine(worker, term))
			continue;
		counts = schedule_of(phase, term, &in_turns);
		if (!counts || !due_pass(phase, term, counts, phase_start, begin, &pass))
			continue;
		due = phase_start + pass * term->period_ns;
		if (!term->free_running && start - due > worker->late_max_ns)
			set(&worker->late_max_ns, start - due);
		if (term->weight) {
			chosen = choose_term(phase, worker->phase_number, pass);
			pass = phase->terms[chosen].counts->next_pass++;
		}
		now = one_pass(worker, phase, chosen, pass, start);
	}
	return now;
}

static void begin_phase(struct worker *worker, const struct phase *phase)
{
	if (resumed) {
		resumed = false; /* in the middle of a pass */
		return;
	}
	worker->next_action = 0;
	for (size_t i = 0; i < phase->nr_terms; i++) {
		if (!is_mine(worker, &phase->terms[i]))
			continue;
		phase->terms[i].counts->next_pass = 0;
		if (phase->terms[i].weight)
			phase->turns->next_pass = 0;
	}
}

static void end_phase(struct worker *worker, const struct phase *phase)
{
	bool in_turns = false;

	for (size_t i = 0; i < phase->nr_terms; i++) {
		const struct term *term = &phase->terms[i];
		struct counts *counts;

		if (!is_mine(worker, term) || term->free_running)
			continue;
		counts = schedule_of(phase, term, &in_turns);
		if (counts)
			add(&counts->missed, planned_passes(phase, term) - counts->next_pass);
	}
}

/* Waits, or does what is due, once. Returns false to stop. */
static bool step(struct worker *worker, const struct phase *phase, uint64_t phase_start,
		 uint64_t *now)
{
	uint64_t end = phase_start + phase->duration_ns;
	uint64_t due = next_due_ns(worker, phase, phase_start);
	bool go_on;

	if (slice_bits && *now >= slice_end_ns(worker))
		end_slice(worker, *now);
	if (due <= *now) {
		*now = do_round(worker, phase, phase_start, *now);
		if (*now - worker->looked_ns < LOOK_NS)
			return true;
		due = 0;
	}
	if (due > end)
		due = end;
	if (slice_bits && due > slice_end_ns(worker))
		due = slice_end_ns(worker);
	go_on = wait_until(worker, due);
	*now = worker->looked_ns = now_ns();
	return go_on;
}

/*
 * Does the actions that are due at ``until``; returns the time afterwards. Does every action,
 * however late, because later phases depend on its effect.
 */
static uint64_t act_until(struct worker *worker, const struct phase *phase, uint64_t phase_start,
			  uint64_t now, uint64_t until)
{
	if (worker->process || worker->thread)
		return now;
	while (worker->next_action < phase->nr_actions &&
	       phase_start + phase->actions[worker->next_action].at_ns <= until) {
		act(worker, phase, phase_start);
		now = now_ns();
	}
	return now;
}

/* False: stop. */
static bool run_phase(struct worker *worker, const struct phase *phase, uint64_t phase_start)
{
	uint64_t end = phase_start + phase->duration_ns, now = now_ns();
	bool go_on = true;

	begin_phase(worker, phase);
	now = act_until(worker, phase, phase_start, now, now);
	while (go_on && now < end) {
		go_on = step(worker, phase, phase_start, &now);
		if (go_on)
			now = act_until(worker, phase, phase_start, now, now);
	}
	if (go_on) {
		act_until(worker, phase, phase_start, now, UINT64_MAX);
		end_phase(worker, phase);
	}
	return go_on;
}

static bool is_first(const struct worker *worker)
{
	return worker == &board->workers[0];
}

void run(struct worker *worker, uint64_t go_ns)
{
	uint64_t phase_start, now;
	bool go_on = true, again = resumed;
	uint64_t cycle = 0;

	begin_slices(worker, resumed ? worker->slice_start : go_ns);
	for (size_t i = 0; i < program.nr_phases; i++)
		cycle += program.phases[i].duration_ns;
	phase_start = go_ns + worker->phase_number / program.nr_phases * cycle;
	for (size_t i = 0; i < worker->phase_number % program.nr_phases; i++)
		phase_start += program.phases[i].duration_ns;
	while (go_on && (program.repeat || worker->phase_number < program.nr_phases)) {
		struct phase *phase = &program.phases[worker->phase_number % program.nr_phases];

		now = now_ns();
		if (is_first(worker) && !again) {
			publish_phase(worker->phase_number ? now : go_ns);
			publish_state("running");
		}
		again = false;
		go_on = run_phase(worker, phase, phase_start);
		phase_start += phase->duration_ns;
		worker->phase_number++;
		/* Phases may be so short that several are over before they begin. */
		now = now_ns();
		if (go_on && now - worker->looked_ns >= LOOK_NS) {
			go_on = wait_until(worker, 0);
			worker->looked_ns = now;
		}
	}
	if (go_on && is_first(worker)) {
		publish_phase(now_ns()); /* the end of the last phase */
		publish_state("running");
	}
	while (go_on) {
		if (slice_bits && now_ns() >= slice_end_ns(worker))
			end_slice(worker, now_ns());
		go_on = wait_until(worker, slice_bits ? slice_end_ns(worker) : UINT64_MAX);
	}
}
