/* event.c - single events out of a view, and their canonical bytes; see event.h. */
#include "event/event.h"

#include <string.h>

#include "base/err.h"

enum { PART_LOGITS = 1, PART_BEFORE = 2, KNOWN_FLAGS = MOE_EV_NAN | MOE_EV_EDITED };

void moe_event_at(const struct moe_route_view *v, uint32_t i, struct moe_event *out)
{
	size_t pick = (size_t)i * v->k;

	out->seq = v->seq[i];
	out->pos = v->pos[i];
	out->token = v->token[i];
	out->layer = v->layer;
	out->n_expert = v->n_expert;
	out->k = v->k;
	out->phase = v->phase;
	out->flags = v->flags ? v->flags[i] : 0;
	out->margin = v->margin ? v->margin[i] : 0;
	out->experts = v->experts + pick;
	out->weights = v->weights + pick;
	out->logits = v->logits ? v->logits + (size_t)i * v->n_expert : NULL;
	out->before = v->before && (out->flags & MOE_EV_EDITED) ? v->before + pick : NULL;
}

static unsigned char *put16(unsigned char *p, uint16_t x)
{
	p[0] = (unsigned char)(x >> 8);
	p[1] = (unsigned char)x;
	return p + 2;
}

static unsigned char *put32(unsigned char *p, uint32_t x)
{
	return put16(put16(p, (uint16_t)(x >> 16)), (uint16_t)x);
}

static unsigned char *put_float(unsigned char *p, float f)
{
	uint32_t x;

	memcpy(&x, &f, sizeof x);
	return put32(p, x);
}

static uint16_t get16(const unsigned char *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const unsigned char *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static float get_float(const unsigned char *p)
{
	uint32_t x = get32(p);
	float f;

	memcpy(&f, &x, sizeof f);
	return f;
}

static size_t bytes_of(size_t k, size_t n_expert, unsigned parts)
{
	return EVENT_HEAD + k * (2 + 4) + (parts & PART_BEFORE ? k * 2 : 0) +
		(parts & PART_LOGITS ? n_expert * 4 : 0);
}

static unsigned parts_of(const struct moe_event *ev)
{
	return (ev->logits ? PART_LOGITS : 0u) | (ev->before ? PART_BEFORE : 0u);
}

size_t event_bytes(const struct moe_event *ev)
{
	return bytes_of(ev->k, ev->n_expert, parts_of(ev));
}

/* The bounds that hold for every event, whichever way it came. */
static int check_head(const struct moe_event *ev, struct moe_err *e)
{
	if (ev->n_expert < 1 || ev->n_expert > MOE_MAX_EXPERT)
		return err_set(e, MOE_ERR_INPUT, "event: %d experts, allowed are 1 to %d", ev->n_expert,
			MOE_MAX_EXPERT);
	if (ev->k < 1 || ev->k > ev->n_expert)
		return err_set(e, MOE_ERR_INPUT, "event: %d picks of %d experts", ev->k, ev->n_expert);
	if (ev->layer >= MOE_MAX_LAYER)
		return err_set(e, MOE_ERR_INPUT, "event: layer %d, allowed are 0 to %d", ev->layer,
			MOE_MAX_LAYER - 1);
	if (ev->phase > MOE_DECODE)
		return err_set(e, MOE_ERR_INPUT, "event: phase %d is unknown", ev->phase);
	if (ev->flags & ~KNOWN_FLAGS)
		return err_set(e, MOE_ERR_INPUT, "event: flags 0x%02x hold unknown bits", ev->flags);
	return 0;
}

static int check_ids(const uint16_t *id, const struct moe_event *ev, const char *what,
	struct moe_err *e)
{
	for (size_t i = 0; i < ev->k; i++)
		if (id[i] >= ev->n_expert)
			return err_set(e, MOE_ERR_INPUT, "event: %s of rank %zu is expert %d of %d", what, i,
				id[i], ev->n_expert);
	return 0;
}

size_t event_encode(const struct moe_event *ev, unsigned char *out, size_t size,
	struct moe_err *e)
{
	size_t len = event_bytes(ev), i;
	unsigned char *p = out;

	if (check_head(ev, e) || check_ids(ev->experts, ev, "choice", e) ||
		(ev->before && check_ids(ev->before, ev, "earlier choice", e)))
		return 0;
	if (len > size) {
		err_set(e, MOE_ERR_INPUT, "event: %zu bytes do not fit in %zu", len, size);
		return 0;
	}
	*p++ = EVENT_VERSION;
	*p++ = (unsigned char)parts_of(ev);
	*p++ = ev->phase;
	*p++ = ev->flags;
	p = put32(put32(p, (uint32_t)(ev->seq >> 32)), (uint32_t)ev->seq);
	p = put32(put32(p, ev->pos), (uint32_t)ev->token);
	p = put16(put16(put16(put16(p, ev->layer), ev->n_expert), ev->k), 0);
	p = put_float(p, ev->margin);
	for (i = 0; i < ev->k; i++)
		p = put16(p, ev->experts[i]);
	for (i = 0; i < ev->k; i++)
		p = put_float(p, ev->weights[i]);
	for (i = 0; ev->before && i < ev->k; i++)
		p = put16(p, ev->before[i]);
	for (i = 0; ev->logits && i < ev->n_expert; i++)
		p = put_float(p, ev->logits[i]);
	return len;
}

int event_decode(const unsigned char *in, size_t size, struct event_store *store,
	struct moe_event *out, size_t *used, struct moe_err *e)
{
	const unsigned char *p = in + EVENT_HEAD;
	struct moe_event ev = { 0 };
	size_t len, i;

	if (size < EVENT_HEAD)
		return err_set(e, MOE_ERR_INPUT, "event: %zu bytes, the head alone takes %d", size,
			EVENT_HEAD);
	if (in[0] != EVENT_VERSION)
		return err_set(e, MOE_ERR_INPUT, "event: version %d, this program reads %d", in[0],
			EVENT_VERSION);
	if ((in[1] & ~(PART_LOGITS | PART_BEFORE)) || get16(in + 26))
		return err_set(e, MOE_ERR_INPUT,
			"event: parts 0x%02x and reserved 0x%04x hold unknown bits", in[1], get16(in + 26));
	ev.phase = in[2];
	ev.flags = in[3];
	ev.seq = (uint64_t)get32(in + 4) << 32 | get32(in + 8);
	ev.pos = get32(in + 12);
	ev.token = (int32_t)get32(in + 16);
	ev.layer = get16(in + 20);
	ev.n_expert = get16(in + 22);
	ev.k = get16(in + 24);
	ev.margin = get_float(in + 28);
	if (check_head(&ev, e))
		return -1;
	len = bytes_of(ev.k, ev.n_expert, in[1]);
	if (len > size)
		return err_set(e, MOE_ERR_INPUT, "event: takes %zu bytes, %zu are there", len, size);
	for (i = 0; i < ev.k; i++, p += 2)
		store->experts[i] = get16(p);
	for (i = 0; i < ev.k; i++, p += 4)
		store->weights[i] = get_float(p);
	if (in[1] & PART_BEFORE) {
		for (i = 0; i < ev.k; i++, p += 2)
			store->before[i] = get16(p);
		ev.before = store->before;
	}
	if (in[1] & PART_LOGITS) {
		for (i = 0; i < ev.n_expert; i++, p += 4)
			store->logits[i] = get_float(p);
		ev.logits = store->logits;
	}
	ev.experts = store->experts;
	ev.weights = store->weights;
	if (check_ids(ev.experts, &ev, "choice", e) ||
		(ev.before && check_ids(ev.before, &ev, "earlier choice", e)))
		return -1;
	*out = ev;
	*used = len;
	return 0;
}
