/*
 * audit_explain.h - what `moescope audit explain` found out about one token, and how it is shown.
 * audit_explain.c and audit_explain_run.c fill it in, audit_explain_show.c prints it.
 */
#ifndef CMD_AUDIT_EXPLAIN_H
#define CMD_AUDIT_EXPLAIN_H

#include <moescope/event.h>

#include "audit/payload.h"
#include "audit/sha.h"
#include "base/buf.h"
#include "cmd/load.h"
#include "trace/reader.h"

/* How common an expert is: the share of tokens that chose it. domain < 0: the token has none. */
struct explain_share { double run, domain; };

/* The same prefix with one chosen expert masked at this position and layer. */
struct explain_mask {
	uint16_t expert;
	int in_place;                 /* who came in for it; -1 = the set changed in another way */
	double kl, p_before,
		p_after; /* KL of the next token in nats; of the token that was likeliest */
	int32_t top_before, top_after;
};

struct explain_layer {
	uint16_t layer, n_expert, k;
	uint16_t experts[MOE_MAX_EXPERT], before[MOE_MAX_EXPERT]; /* [k] */
	int edited;                   /* a hook changed the choice: `before` is the router's own */
	float weights[MOE_MAX_EXPERT], margin;
	int have_scores;
	float scores[MOE_MAX_EXPERT];
	int next;                     /* the expert that would have come, -1 = unknown */
	/* Of decisions of this layer with a smaller margin; of an encrypted run only `run` is known,
	 * and it is about the sequence: the others are not opened for this. */
	struct explain_share below;
	struct explain_share *share;  /* [k] of the chosen ones */
	struct explain_mask *mask;    /* [n_mask] */
	size_t n_mask;
};

struct explain {
	struct reader *r;
	struct run_info info;
	uint64_t seq, pos, leaf;
	int32_t token;
	int64_t domain;
	uint8_t phase;
	int opens;                    /* what is shown is what the leaf commits to */
	int sealed;                   /* it was encrypted */
	char domain_name[64];
	struct explain_layer *f;      /* [n_moe_layer] */
	struct loaded l;              /* with --model */
	int rerun;                    /* the prefix was run again */
	uint64_t rerun_differs;       /* layers where that chose other experts than recorded */
	char then[2 * SHA_BYTES + 1], now[2 * SHA_BYTES + 1]; /* SHA-256 of the model */
	int64_t only_layer;           /* -1 = all */
	unsigned char seal[SEAL_KEY]; /* with --seal */
};

/* Run the prefix of n_prefix tokens again with --model and fill in what that tells. */
int explain_with_model(struct explain *x, int32_t *prefix, uint64_t n_prefix, struct moe_err *e);
/* Scores and next of a layer from its n_expert logits. */
void explain_take_logits(const struct explain *x, struct explain_layer *f, const float *logits);
int explain_is_one_of(const uint16_t *experts, size_t k, int expert);

/* Append it as text for a terminal, as a JSON object, as a page of its own (no script, nothing from
 * elsewhere, whatever names and tokens hold). */
void explain_text(const struct explain *x, struct buf *b);
void explain_json(const struct explain *x, struct buf *b);
void explain_page(const struct explain *x, struct buf *b);

#endif
