/* amx.h - the shapes of the eight matrix registers of AMX. */
#ifndef KERN_AMX_H
#define KERN_AMX_H

#include <stddef.h>
#include <stdint.h>

struct shapes { uint8_t palette, start, none[14]; uint16_t bytes[16]; uint8_t rows[16]; };

/* The first n_sum, sums, have a row a token; then activations, `bytes` of each token; the last as
 * many hold the codes of 16 rows, four bytes of each row behind each other. All are zeros then. */
static inline void set_shapes(size_t n_sum, size_t bytes, size_t n_tok)
{
	struct shapes s = { .palette = 1 };

	for (size_t i = 0; i < 8; i++) {
		s.rows[i] = (uint8_t)(i < (n_sum + 8) / 2 ? n_tok : bytes / 4);
		s.bytes[i] = (uint16_t)(i >= n_sum && i < (n_sum + 8) / 2 ? bytes : 64);
	}
	__asm__ volatile("ldtilecfg %0" : : "m"(s));
}

/* This thread's shapes, and back to them, as other libraries in the process may set theirs once for
 * all; without any, the registers are given up, which spares the system from keeping them. */
static inline struct shapes shapes_now(void)
{
	struct shapes s;

	__asm__ volatile("sttilecfg %0" : "=m"(s));
	return s;
}

static inline void shapes_back(const struct shapes *s)
{
	if (s->palette)
		__asm__ volatile("ldtilecfg %0" : : "m"(*s));
	else
		__asm__ volatile("tilerelease");
}

#endif
