/*
 * pack.c - see pack.h.
 *
 * Bit streams are little-endian: the first value in the lowest bits of the first byte. Eight bytes
 * are read at a time where they are there; the last few come one by one.
 *
 * PACK_U8 weights of a layer: codes q = round(255 w / 2^e) of one exponent e, w <= 2^e. The
 * first rank is written less the smallest first rank, every other as the difference to the rank
 * before it: ranks mostly fall, so differences are small. A difference of rank r takes a Rice code
 * of parameter p[r]: d >> p ones, a zero, the low p bits of d. Where weights of a layer rise
 * anywhere in the chunk its differences are signed (zigzag: 0, -1, 1, -2 are 0, 1, 2, 3). Where
 * that is shorter, as with weights that add up to 1, the last rank is written as how far the sum of
 * all codes is off its mean, signed.
 */
#include "trace/pack.h"

#include <math.h>
#include <string.h>

static uint64_t load64(const unsigned char *p)
{
	uint64_t x;

	memcpy(&x, p, 8);
	return x;
}

unsigned pack_bits(unsigned n_expert)
{
	unsigned bits = 1;

	while (n_expert > 1u << bits)
		bits++;
	return bits;
}

/* ---- ids ---- */

size_t pack_layer_bytes(const struct layout *l, size_t i, size_t n)
{
	return (n * l->layer[i].k * pack_bits(l->layer[i].n_expert) + 7) / 8;
}

size_t pack_experts_bytes(const struct layout *l, size_t n)
{
	size_t bytes = 0;

	for (size_t i = 0; i < l->n; i++)
		bytes += pack_layer_bytes(l, i, n);
	return bytes;
}

size_t pack_experts(const struct layout *l, size_t n, size_t cap, const uint16_t *ids,
	unsigned char *out)
{
	unsigned char *p = out;

	for (size_t i = 0; i < l->n; i++) {
		unsigned bits = pack_bits(l->layer[i].n_expert), have = 0;
		const uint16_t *id = ids + cap * l->k_at[i], *end = id + n * l->layer[i].k;
		uint64_t acc = 0;

		for (; id < end; id++) {
			acc |= (uint64_t)*id << have;
			have += bits;
			if (have >= 32) {
				uint32_t low = (uint32_t)acc;

				memcpy(p, &low, 4);
				p += 4;
				acc >>= 32;
				have -= 32;
			}
		}
		for (; have; have = have > 8 ? have - 8 : 0, acc >>= 8)
			*p++ = (unsigned char)acc;
	}
	return (size_t)(p - out);
}

void unpack_ids(const unsigned char *in, size_t len, unsigned bits, size_t count, uint16_t *out)
{
	const uint64_t four = (UINT64_C(1) << 4 * bits) - 1, pair = (UINT64_C(1) << 2 * bits) - 1,
		one = (UINT64_C(1) << bits) - 1;
	size_t i = 0, bit = 0;

	/* Four ids at a time are spread over the 16-bit lanes of a word. */
	for (; i + 4 <= count && bit / 8 + 8 <= len; i += 4, bit += 4 * bits) {
		uint64_t x = load64(in + bit / 8) >> bit % 8 & four;

		x = (x & pair) | (x & ~pair) << (32 - 2 * bits);
		x = (x & (one | one << 32)) | (x & ~(one | one << 32)) << (16 - bits);
		memcpy(out + i, &x, 8);
	}
	for (; i < count; i++, bit += bits) {
		uint32_t x = 0;

		for (size_t b = 0; b < 3 && bit / 8 + b < len; b++)
			x |= (uint32_t)in[bit / 8 + b] << 8 * b;
		out[i] = (uint16_t)(x >> bit % 8 & one);
	}
}

void unpack_experts(const struct layout *l, size_t n, const unsigned char *in, uint16_t *rows)
{
	uint16_t id[8 * MOE_MAX_EXPERT];

	for (size_t i = 0; i < l->n; i++) {
		size_t k = l->layer[i].k, len = pack_layer_bytes(l, i, n);
		unsigned bits = pack_bits(l->layer[i].n_expert);
		/* Pieces of eight tokens begin on a byte. */
		size_t piece = sizeof id / sizeof *id / k & ~(size_t)7;

		for (size_t t = 0; t < n; t += piece) {
			size_t m = n - t < piece ? n - t : piece, at = t * k * bits / 8;

			unpack_ids(in + at, len - at, bits, m * k, id);
			for (size_t x = 0; x < m; x++)
				memcpy(rows + (t + x) * l->k_row + l->k_at[i], id + x * k, k * sizeof *id);
		}
		in += len;
	}
}

/* ---- flags ---- */

void pack_flags(const struct layout *l, size_t n, size_t cap, const uint8_t *flags,
	unsigned char *out)
{
	for (size_t i = 0; i < l->n; i++)
		memcpy(out + n * i, flags + cap * i, n);
}

void unpack_flags(const struct layout *l, size_t n, const unsigned char *in, uint8_t *rows)
{
	for (size_t i = 0; i < l->n; i++)
		for (size_t t = 0; t < n; t++)
			rows[t * l->n + i] = *in++;
}

/* ---- half precision ---- */

/* To nearest, ties to even. Finite numbers that round above 65504 and NaN are the caller's. */
static uint16_t half_of(float f)
{
	uint32_t u, sign, keep, rest;
	int e;

	memcpy(&u, &f, 4);
	sign = u >> 16 & 0x8000;
	u &= 0x7fffffff;
	if (u >= 0x7f800000)
		return (uint16_t)(sign | 0x7c00);
	e = (int)(u >> 23) - 112; /* biased exponent of the half */
	if (e > 0) {
		keep = (u - (UINT32_C(112) << 23)) >> 13;
		rest = u & 0x1fff;
		return (uint16_t)(sign | (keep + (rest > 0x1000 || (rest == 0x1000 && keep & 1))));
	}
	if (e < -10)
		return (uint16_t)sign;
	u = (u & 0x7fffff) | 0x800000;
	keep = u >> (14 - e);
	rest = u << (18 + e);
	return (uint16_t)(sign | (keep + (rest > 0x80000000 || (rest == 0x80000000 && keep & 1))));
}

static float float_of(uint16_t h)
{
	int e = h >> 10 & 31, m = h & 1023;
	float f = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf((float)(m + 1024), e - 25) :
		ldexpf((float)m, -24);

	return h & 0x8000 ? -f : f;
}

/* ---- bit streams ---- */

struct bits {
	unsigned char *p;
	uint64_t acc;
	unsigned have;
};

static inline void put(struct bits *b, uint64_t value, unsigned n) /* n <= 32 */
{
	b->acc |= value << b->have;
	b->have += n;
	if (b->have >= 32) {
		uint32_t low = (uint32_t)b->acc;

		memcpy(b->p, &low, 4);
		b->p += 4;
		b->acc >>= 32;
		b->have -= 32;
	}
}

static void put_end(struct bits *b)
{
	for (; b->have; b->have = b->have > 8 ? b->have - 8 : 0, b->acc >>= 8)
		*b->p++ = (unsigned char)b->acc;
}

static inline void put_rice(struct bits *b, unsigned v, unsigned p)
{
	unsigned ones = v >> p;

	while (__builtin_expect(ones >= 24, 0)) {
		put(b, 0xffffff, 24);
		ones -= 24;
	}
	put(b, ((UINT64_C(1) << ones) - 1) | (uint64_t)(v & ((1u << p) - 1)) << (ones + 1),
		ones + 1 + p);
}

struct in {
	const unsigned char *p, *end;
	uint64_t acc;
	unsigned have;
	size_t over; /* zero bytes read behind the end */
};

static void refill(struct in *b)
{
	for (; b->have <= 56; b->have += 8)
		if (b->p < b->end)
			b->acc |= (uint64_t)*b->p++ << b->have;
		else
			b->over++;
}

static unsigned get(struct in *b, unsigned n) /* n <= 16, after a refill */
{
	unsigned v = (unsigned)(b->acc & ((1u << n) - 1));

	b->acc >>= n;
	b->have -= n;
	return v;
}

/* A Rice code; values above `most` are not valid and end the count there. */
static unsigned get_rice(struct in *b, unsigned p, unsigned most)
{
	unsigned ones = 0, run;

	for (;;) {
		refill(b);
		run = ~b->acc ? (unsigned)__builtin_ctzll(~b->acc) : 64;
		if (run < b->have)
			break;
		ones += b->have;
		b->acc = 0;
		b->have = 0;
		if (ones << p > most)
			return most + 1;
	}
	b->acc >>= run;
	b->have -= run;
	b->acc >>= 1;
	b->have--;
	refill(b);
	return (ones + run) << p | get(b, p);
}

/* ---- weights, 8 bits ---- */

enum { RICE_MOST = 8, WEIGHT_SIGNED = 0x80, WEIGHT_SUM = 0x40, K_MOST = 64 };

static int fits_u8(const float *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!(w[i] >= 0 && w[i] <= 65504)) /* also NaN */
			return 0;
	return 1;
}

static int fits_f16(const float *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabsf(w[i]) < 65520)) /* also NaN */
			return 0;
	return 1;
}

/* The parameter that suits n differences of this sum: one more bit each pays where it saves more
 * than one 1, which for geometric differences is from a mean of two quotients on. */
static unsigned rice_parameter(uint64_t sum, size_t n)
{
	unsigned p = 0;

	while (p < RICE_MOST && (sum >> p) > 2 * n)
		p++;
	return p;
}

/* Codes of a layer: q [n][k]; returns the exponent. */
static int quantise(const float *w, size_t n, unsigned k, uint8_t *q)
{
	float max = 0, scale;
	int e;

	for (size_t i = 0; i < n * k; i++)
		max = w[i] > max ? w[i] : max;
	frexpf(max, &e); /* max < 2^e; e = 0 for max = 0 */
	e = e < -100 ? -100 : e;
	if (max > 0 && max == ldexpf(1, e - 1))
		e--; /* a power of two is the top of its own scale */
	scale = ldexpf(255, -e);
	for (size_t i = 0; i < n * k; i++) {
		int x = (int)(w[i] * scale + .5f);

		q[i] = (uint8_t)(x > 255 ? 255 : x); /* rounding of the product */
	}
	return e;
}

static unsigned zigzag(int d)
{
	return d >= 0 ? 2 * (unsigned)d : 2 * (unsigned)-d - 1;
}

static int unzigzag(unsigned d)
{
	return d & 1 ? -(int)((d + 1) / 2) : (int)(d / 2);
}

static unsigned difference(const uint8_t *q, unsigned j, unsigned has_sign)
{
	int d = q[j - 1] - q[j];

	return has_sign ? zigzag(d) : (unsigned)d;
}

static int sum_of(const uint8_t *q, unsigned k)
{
	int sum = 0;

	for (unsigned j = 0; j < k; j++)
		sum += q[j];
	return sum;
}

enum { LAYER_HEAD = 4 }; /* i8 e, u8 smallest first rank, u16 mean sum; then u8 p[k], codes */

/* One layer, after a u16 of the bytes that follow: at most 11 bits for each of 128 * 64 codes. */
static unsigned char *pack_layer(const float *w, size_t n, unsigned k, uint8_t *q,
	unsigned char *out)
{
	unsigned char *head = out + 2, *p = head + LAYER_HEAD;
	struct bits b = { .p = p + k };
	uint64_t sum[K_MOST] = { 0 }, total = 0, off = 0;
	unsigned has_sign = 0, by_sum;
	uint8_t least = 255;
	uint16_t len, mean;
	int of[LAYOUT_CHUNK]; /* sums by token */

	head[0] = (unsigned char)quantise(w, n, k, q);
	for (size_t t = 0; t < n; t++) {
		least = q[t * k] < least ? q[t * k] : least;
		for (unsigned j = 1; j < k; j++)
			has_sign |= q[t * k + j] > q[t * k + j - 1];
	}
	for (size_t t = 0; t < n; t++) {
		sum[0] += (uint64_t)(q[t * k] - least);
		for (unsigned j = 1; j < k; j++)
			sum[j] += difference(q + t * k, j, has_sign);
		of[t] = sum_of(q + t * k, k);
		total += (uint64_t)of[t];
	}
	mean = (uint16_t)((total + n / 2) / n);
	for (size_t t = 0; t < n; t++)
		off += zigzag(of[t] - mean);
	by_sum = k > 1 && off < sum[k - 1];
	if (by_sum)
		sum[k - 1] = off;
	head[1] = least;
	memcpy(head + 2, &mean, 2);
	for (unsigned j = 0; j < k; j++)
		p[j] = (unsigned char)rice_parameter(sum[j], n);
	for (size_t t = 0; t < n; t++) {
		put_rice(&b, (unsigned)(q[t * k] - least), p[0]);
		for (unsigned j = 1; j < k; j++)
			put_rice(&b, by_sum && j == k - 1 ? zigzag(of[t] - mean) :
				difference(q + t * k, j, has_sign), p[j]);
	}
	put_end(&b);
	p[0] |= (has_sign ? WEIGHT_SIGNED : 0) | (by_sum ? WEIGHT_SUM : 0);
	len = (uint16_t)(b.p - head);
	memcpy(out, &len, 2);
	return b.p;
}

static int unpack_layer(const unsigned char *in, size_t len, size_t n, size_t stride, unsigned k,
	float *rows)
{
	const unsigned char *p = in + LAYER_HEAD;
	struct in b = { .p = p + k, .end = in + len };
	unsigned has_sign, by_sum, p0;
	uint16_t mean;
	float scale;

	if (len < LAYER_HEAD + k)
		return -1;
	scale = ldexpf(1, (int8_t)in[0]);
	memcpy(&mean, in + 2, 2);
	has_sign = p[0] & WEIGHT_SIGNED;
	by_sum = p[0] & WEIGHT_SUM;
	p0 = p[0] & ~(unsigned)(WEIGHT_SIGNED | WEIGHT_SUM);
	for (unsigned j = 0; j < k; j++)
		if ((j ? p[j] : p0) > RICE_MOST)
			return -1;
	for (size_t t = 0; t < n; t++, rows += stride) {
		int q = in[1] + (int)get_rice(&b, p0, 255), sum = 0;

		for (unsigned j = 0;;) {
			unsigned d;

			if (q < 0 || q > 255)
				return -1;
			rows[j] = (float)q / 255 * scale;
			sum += q;
			if (++j == k)
				break;
			d = get_rice(&b, p[j], 1 << 16);
			q = by_sum && j == k - 1 ? mean + unzigzag(d) - sum :
				q - (has_sign ? unzigzag(d) : (int)d);
		}
	}
	return b.over * 8 <= b.have ? 0 : -1;
}

/* ---- weights ---- */

size_t pack_weights_most(const struct layout *l, size_t n)
{
	/* By the choice of the parameter codes take at most 2 + 1 + 8 bits on average. */
	return 1 + n * l->k_row * 4 + l->n * 16 + l->k_row;
}

/* n numbers in 2 or 4 bytes each; returns what follows them. */
static unsigned char *put_plain(const float *x, size_t n, enum pack_form form, unsigned char *p)
{
	if (form == PACK_F32) {
		memcpy(p, x, n * 4);
		return p + n * 4;
	}
	for (size_t i = 0; i < n; i++, p += 2) {
		uint16_t h = half_of(x[i]);

		memcpy(p, &h, 2);
	}
	return p;
}

/* The form that holds all weights, at least as wide as the one that is asked for. */
static enum pack_form weights_form(const struct layout *l, size_t n, size_t cap, const float *w,
	enum pack_form form)
{
	for (size_t i = 0; i < l->n && form == PACK_U8; i++)
		if (l->layer[i].k > K_MOST)
			form = PACK_F16;
	for (size_t i = 0; i < l->n && form != PACK_F32; i++) {
		size_t at = cap * l->k_at[i], count = n * l->layer[i].k;

		if (form == PACK_U8 ? !fits_u8(w + at, count) : !fits_f16(w + at, count))
			form = PACK_F32;
	}
	return form;
}

size_t pack_weights(const struct layout *l, size_t n, size_t cap, const float *w,
	enum pack_form form, unsigned char *out)
{
	unsigned char *p = out + 1;
	uint8_t q[LAYOUT_CHUNK * K_MOST];

	form = weights_form(l, n, cap, w, form);
	*out = (unsigned char)form;
	for (size_t i = 0; i < l->n; i++) {
		const float *x = w + cap * l->k_at[i];
		unsigned k = l->layer[i].k;

		p = form == PACK_U8 ? pack_layer(x, n, k, q, p) : put_plain(x, n * k, form, p);
	}
	return (size_t)(p - out);
}

static int weights_u8(const struct layout *l, size_t n, const unsigned char *in, size_t len,
	float *rows)
{
	const unsigned char *end = in + len;

	for (size_t i = 0; i < l->n; i++) {
		uint16_t part;

		if (end - in < 2)
			return -1;
		memcpy(&part, in, 2);
		in += 2;
		if (part > (size_t)(end - in) || unpack_layer(in, part, n, l->k_row, l->layer[i].k,
			rows + l->k_at[i]))
			return -1;
		in += part;
	}
	return in == end ? 0 : -1;
}

/* n rows of k numbers of 2 or 4 bytes each; returns what follows them. */
static const unsigned char *plain_rows(const unsigned char *p, enum pack_form form, size_t n,
	unsigned k, size_t stride, float *rows)
{
	uint16_t h;

	for (size_t t = 0; t < n; t++, rows += stride) {
		for (unsigned j = 0; form == PACK_F16 && j < k; j++, p += 2) {
			memcpy(&h, p, 2);
			rows[j] = float_of(h);
		}
		if (form == PACK_F32) {
			memcpy(rows, p, k * 4);
			p += k * 4;
		}
	}
	return p;
}

int unpack_weights(const struct layout *l, size_t n, const unsigned char *in, size_t len,
	float *rows)
{
	const unsigned char *p = in + 1;

	if (!len || *in > PACK_U8)
		return -1;
	if (*in == PACK_U8)
		return weights_u8(l, n, p, len - 1, rows);
	if (len != 1 + n * l->k_row * (4u >> *in))
		return -1;
	for (size_t i = 0; i < l->n; i++)
		p = plain_rows(p, (enum pack_form)*in, n, l->layer[i].k, l->k_row, rows + l->k_at[i]);
	return 0;
}

int unpack_weights_layer(const struct layout *l, size_t i, size_t n, const unsigned char *in,
	size_t len, float *out)
{
	const unsigned char *p = in + 1, *end = in + len;
	unsigned k = l->layer[i].k;

	if (!len || *in > PACK_U8)
		return -1;
	if (*in != PACK_U8) {
		if (len != 1 + n * l->k_row * (4u >> *in))
			return -1;
		plain_rows(p + n * l->k_at[i] * (4u >> *in), (enum pack_form)*in, n, k, k, out);
		return 0;
	}
	for (size_t x = 0;; x++) {
		uint16_t part;

		if (end - p < 2)
			return -1;
		memcpy(&part, p, 2);
		p += 2;
		if (part > (size_t)(end - p))
			return -1;
		if (x == i)
			return unpack_layer(p, part, n, k, k, out);
		p += part;
	}
}

/* ---- margins ---- */

/* u8: 0 = below 2^-22 (0 on reading), 255 = infinity, else c - 1 is the exponent above -22 and two
 * bits of the mantissa, to nearest: 2^((c - 1) / 4 - 22) (1 + (c - 1) % 4 / 4), at most 2^32. A
 * layer is u8 largest code, u8 Rice parameter, u8 bytes that follow, and the Rice codes of what the
 * codes are below the largest. */
enum { MARGIN_STEP = 1 << 21, MARGIN_BASE = (127 - 22) << 2 };

static uint8_t margin_code(float m)
{
	uint32_t u;
	int c;

	if (isinf(m))
		return 255;
	memcpy(&u, &m, 4);
	c = (int)((u + MARGIN_STEP / 2) / MARGIN_STEP) - MARGIN_BASE + 1;
	return (uint8_t)(c < 1 ? 0 : c > 254 ? 254 : c);
}

static float margin_of(unsigned c)
{
	uint32_t u = (c - 1 + MARGIN_BASE) * MARGIN_STEP;
	float m;

	if (c == 0 || c == 255)
		return c ? INFINITY : 0;
	memcpy(&m, &u, 4);
	return m;
}

static unsigned char *pack_margin_layer(const float *m, size_t n, unsigned char *out)
{
	struct bits b = { .p = out + 3 };
	uint8_t code[LAYOUT_CHUNK], most = 0;
	uint64_t sum = 0;

	for (size_t t = 0; t < n; t++) {
		code[t] = margin_code(m[t]);
		most = code[t] > most ? code[t] : most;
	}
	for (size_t t = 0; t < n; t++)
		sum += most - code[t];
	out[0] = most;
	out[1] = (unsigned char)rice_parameter(sum, n);
	for (size_t t = 0; t < n; t++)
		put_rice(&b, most - code[t], out[1]);
	put_end(&b);
	out[2] = (unsigned char)(b.p - out - 3); /* at most 176: see pack_weights_most() */
	return b.p;
}

/* Returns what follows the layer, NULL if it is not one. */
static const unsigned char *unpack_margin_layer(const unsigned char *in, const unsigned char *end,
	size_t n, size_t stride, float *rows)
{
	struct in b = { .p = in + 3 };

	if (end - in < 3 || in[1] > RICE_MOST || end - in - 3 < in[2])
		return NULL;
	b.end = b.p + in[2];
	for (size_t t = 0; t < n; t++) {
		unsigned d = get_rice(&b, in[1], 255);

		if (d > in[0])
			return NULL;
		rows[t * stride] = margin_of(in[0] - d);
	}
	return b.over * 8 <= b.have ? in + 3 + in[2] : NULL;
}

size_t pack_margins_most(const struct layout *l, size_t n)
{
	return 1 + n * l->n * 4 + 8 * l->n;
}

/* Margins are >= 0 and may be infinite; anything else keeps all bits. */
static int margins_fit(const struct layout *l, size_t n, size_t cap, const float *m,
	enum pack_form form)
{
	float most = form == PACK_F16 ? 65504 : 0x1p32f;

	for (size_t i = 0; i < l->n; i++, m += cap)
		for (size_t t = 0; t < n; t++)
			if (!(m[t] >= 0) || (m[t] > most && !isinf(m[t])))
				return 0;
	return 1;
}

size_t pack_margins(const struct layout *l, size_t n, size_t cap, const float *m,
	enum pack_form form, unsigned char *out)
{
	unsigned char *p = out + 1;

	if (form == PACK_U8 && !margins_fit(l, n, cap, m, form))
		form = PACK_F16; /* raw logits as selection scores may be far apart */
	if (form == PACK_F16 && !margins_fit(l, n, cap, m, form))
		form = PACK_F32;
	*out = (unsigned char)form;
	for (size_t i = 0; i < l->n; i++, m += cap)
		p = form == PACK_U8 ? pack_margin_layer(m, n, p) : put_plain(m, n, form, p);
	return (size_t)(p - out);
}

int unpack_margins(const struct layout *l, size_t n, const unsigned char *in, size_t len,
	float *rows)
{
	const unsigned char *p = in + 1, *end = in + len;
	uint16_t h;

	if (!len || *in > PACK_U8 || (*in != PACK_U8 && len != 1 + n * l->n * (4 >> *in)))
		return -1;
	for (size_t i = 0; i < l->n && *in == PACK_U8; i++)
		if (!(p = unpack_margin_layer(p, end, n, l->n, rows + i)))
			return -1;
	for (size_t i = 0; i < l->n && *in != PACK_U8; i++)
		for (size_t t = 0; t < n; t++) {
			float *m = rows + t * l->n + i;

			if (*in == PACK_F32)
				memcpy(m, p, 4);
			else
				memcpy(&h, p, 2), *m = float_of(h);
			p += 4 >> *in;
		}
	return p == end ? 0 : -1;
}

int unpack_margins_layer(const struct layout *l, size_t i, size_t n, const unsigned char *in,
	size_t len, float *out)
{
	const unsigned char *p = in + 1, *end = in + len;

	if (!len || *in > PACK_U8)
		return -1;
	if (*in != PACK_U8) {
		if (len != 1 + n * l->n * (4u >> *in))
			return -1;
		plain_rows(p + n * i * (4u >> *in), (enum pack_form)*in, n, 1, 1, out);
		return 0;
	}
	for (size_t x = 0; x < i; x++) {
		if (end - p < 3 || end - p - 3 < p[2])
			return -1;
		p += 3 + p[2];
	}
	return unpack_margin_layer(p, end, n, 1, out) ? 0 : -1;
}
