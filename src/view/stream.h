/*
 * stream.h - the tokens of one sequence with what one layer's router did: for reading along.
 */
#ifndef VIEW_STREAM_H
#define VIEW_STREAM_H

#include "view/view.h"

enum { VIEW_STREAM_BYTES = 32 };

struct view_stream_token {
	int32_t id;
	uint32_t pos;
	uint8_t phase;
	uint16_t expert;       /* top choice at the layer */
	double weight, margin; /* NAN where the run keeps none */
	int len;               /* bytes of text, -1 = not logged; more than the array holds are cut */
	char bytes[VIEW_STREAM_BYTES]; /* hostile; a character may be split over tokens */
};

struct view_stream {
	int64_t sequence, before, after; /* sequence.id; its neighbours, 0 = none */
	uint64_t seq, n_seq;             /* the engine's number; sequences of the selection */
	char name[128], domain[64];
	int open;                        /* not ended yet */
	uint16_t layer, n_expert, k;
	uint64_t n_all;                  /* tokens of the sequence that are logged */
	int with_text;                   /* some token's text is known */
	size_t n;
	struct view_stream_token *token; /* [n], by position */
	char why[256];
};

/* The last `most` tokens of a sequence up to position `until` (-1 = its end). sequence 0 = the
 * newest of the filter's run and domain. li: index of the MoE layer. */
int view_stream(struct reader *r, const struct load_filter *f, int64_t sequence, int64_t until,
	size_t li, size_t most, struct view_stream *out, struct moe_err *e);
void view_stream_free(struct view_stream *v);

#endif
