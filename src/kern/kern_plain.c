/*
 * kern_plain.c - the reference kernels: portable C, one lane at a time. Every other ISA must give
 * these bits. fmaf is fused even where the CPU has no such instruction (then it is slow).
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kern/half.h"

typedef struct { float f[16]; } V;

#define EACH for (int l = 0; l < 16; l++)
static inline V vzero(void) { V v; EACH v.f[l] = 0; return v; }
static inline V vset(float a) { V v; EACH v.f[l] = a; return v; }
static inline V vload(const float *p) { V v; memcpy(v.f, p, 64); return v; }
static inline void vstore(float *p, V v) { memcpy(p, v.f, 64); }
static inline V vfma(V a, V b, V c) { V v; EACH v.f[l] = fmaf(a.f[l], b.f[l], c.f[l]); return v; }
static inline V vmul(V a, V b) { V v; EACH v.f[l] = a.f[l] * b.f[l]; return v; }
static inline V vsub(V a, V b) { V v; EACH v.f[l] = a.f[l] - b.f[l]; return v; }
static inline V vi8(const int8_t *p) { V v; EACH v.f[l] = p[l]; return v; }
static inline V vlo(const uint8_t *p) { V v; EACH v.f[l] = (float)(p[l] & 15); return v; }
static inline V vhi(const uint8_t *p) { V v; EACH v.f[l] = (float)(p[l] >> 4); return v; }
static inline V vlotab(const uint8_t *p, const int8_t *t) { V v; EACH v.f[l] = t[p[l] & 15]; return v; }
static inline V vhitab(const uint8_t *p, const int8_t *t) { V v; EACH v.f[l] = t[p[l] >> 4]; return v; }
static inline float half(uint16_t h) { return half_to_float(h); }

static inline V vf16(const uint8_t *p)
{
	V v;

	EACH v.f[l] = half_to_float((uint16_t)(p[2 * l] | p[2 * l + 1] << 8));
	return v;
}

static inline float vsum(V v)
{
	for (int s = 8; s; s /= 2)
		for (int l = 0; l < s; l++)
			v.f[l] += v.f[l + s];
	return v.f[0];
}

static int always(void)
{
	return 1;
}

#define ATT_LOOPS
#define TILE_R 2
#define TILE_T 2
#define KERN_NAME "plain"
#define KERN_TABLE kern_plain
#define KERN_SUPPORTED always
#include "kern/table.h"
#include "kern/body.h"
