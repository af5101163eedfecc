/*
 * engine.h - a session from the options of a command: adapters, the expert cache and its policy,
 * cache-aware routing, and what the trace is told of them.
 */
#ifndef CMD_ENGINE_H
#define CMD_ENGINE_H

#include "cmd/load.h"

/* Adds the adapters to the model at the first call. NULL + e. Free it before load_free(l). */
struct session *engine_session(struct loaded *l, const struct load_opts *o, struct moe_err *e);

/* load_describe and the settings of this session; strings live until the next call. */
void engine_describe(const struct loaded *l, const struct session *s, const struct load_opts *o,
	const char *command, struct moe_run_desc *out);

/* One line on what the expert cache did, to stderr; nothing without one. */
void engine_print_cache(const struct loaded *l, const struct session *s);

#endif
