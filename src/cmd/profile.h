/* profile.h - running a corpus, for `profile` and `demo`. */
#ifndef CMD_PROFILE_H
#define CMD_PROFILE_H

#include <moescope/trace.h>

#include "cmd/load.h"

struct profile_opt {
	const char *model, *db;
	enum moe_detail detail;
	enum moe_weights weights;
	const struct load_opts *load;
	long long generate, max_tokens;
	int no_perplexity, drop;
	int log_text; /* also the text of the tokens */
};

/* corpus [n_corpus] as corpus_read; *run gets the run's id. Ctrl-C ends early, not as an error. */
int profile_run(const struct profile_opt *o, char **corpus, int n_corpus, int64_t *run,
	struct moe_err *e);

#endif
