// SPDX-License-Identifier: GPL-2.0
// Keep 100,000 objects; change a part of them that moves, and drop and make others. Runs in the guest.
"use strict";

const OBJECTS = 100000, PART = 10000, BATCH = 2000;
let state = Number(process.argv[2]) >>> 0;

function draw(limit) {
	state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
	return Math.floor(state / 4294967296 * limit);
}

const items = [];
for (let i = 0; i < OBJECTS; i++)
	items.push({ number: i, values: [i, i + 1] });
require("fs").writeFileSync("/tmp/objects.ready", "");

let first = 0;
setInterval(() => {
	for (let i = 0; i < BATCH; i++) {
		const number = (first + draw(PART)) % OBJECTS;
		items[number].values[0]++;
		if (draw(20) === 0)
			items[number] = { number, values: [number, draw(1000)] };
	}
	first += 5;
}, 2);
