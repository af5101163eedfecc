/*
 * llama_tool.h - what the programs that call llama.cpp share. They are test tools: they trust their
 * inputs and end at the first error. LLAMA_CPP must be set when they run, as when they are built
 * (llama_build.sh): it has include/ (llama.h, ggml*.h) and lib/ (shared libraries, CPU backends).
 */
#ifndef LLAMA_TOOL_H
#define LLAMA_TOOL_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "ggml-backend.h"
#include "llama.h"

static const char *tool_name = "llama tool";

static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "%s: ", tool_name);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)user;
	if (level == GGML_LOG_LEVEL_ERROR)
		fputs(text, stderr);
}

/* Loads llama.cpp's backends. */
static void start(void)
{
	const char *dir = getenv("LLAMA_CPP");
	char lib[4096];

	if (!dir)
		die("LLAMA_CPP is not set");
	snprintf(lib, sizeof lib, "%s/lib", dir);
	llama_log_set(quiet, NULL);
	ggml_backend_load_all_from_path(lib);
}

#endif
