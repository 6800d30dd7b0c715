// SPDX-License-Identifier: GPL-2.0
/* Read the guest's functions from a file that the harness makes from /proc/kallsyms. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "qemu_plugin.h"

static struct symbol *symbols;
static size_t nr_symbols;

/* The file holds ``struct symbol``s in the order of their addresses. Returns 0 or an errno. */
int symbols_load(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct symbol symbol;
	size_t room = 0;
	int error = 0;

	if (!file)
		return errno;
	nr_symbols = 0;
	while (fread(&symbol, sizeof(symbol), 1, file) == 1) {
		if (nr_symbols == room) {
			size_t more = room ? 2 * room : 1 << 16;
			struct symbol *grown = realloc(symbols, more * sizeof(*symbols));

			if (!grown) {
				error = ENOMEM;
				break;
			}
			symbols = grown;
			room = more;
		}
		symbols[nr_symbols++] = symbol;
	}
	if (!error && !nr_symbols)
		error = EINVAL;
	fclose(file);
	return error;
}

/* Returns the last symbol at or below an address; NULL if there is none. */
const struct symbol *symbol_at(uint64_t addr)
{
	size_t low = 0, high = nr_symbols;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols[middle].addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &symbols[low - 1] : NULL;
}
