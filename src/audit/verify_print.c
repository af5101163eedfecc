/* verify_print.c - the verdict of a verification, in words and as JSON; see verify.h. */
#include "audit/verify.h"

#include <inttypes.h>
#include <stdio.h>

const char *finding_name(enum finding f)
{
	static const char *const name[] = { "TAMPERED", "MISSING", "INCOMPLETE", "REMARK" };

	return name[f];
}

const char *verify_verdict(const struct verify_result *v)
{
	return v->n[FIND_TAMPERED] || v->n[FIND_MISSING] ? "TAMPERED" :
		v->n[FIND_INCOMPLETE] ? "INCOMPLETE" : "VALID";
}

int verify_status(const struct verify_result *v)
{
	return v->n[FIND_TAMPERED] || v->n[FIND_MISSING] ? 1 :
		v->n[FIND_INCOMPLETE] || !v->leaves || v->anchored_size < v->leaves ? 2 : 0;
}

const char *verify_blind(size_t i, int anchored)
{
	static const char *const without[] = {
		"that the newest leaves and their checkpoints were not cut off together",
		"that whoever holds the signing key did not write the whole log anew",
		"that this is not an older copy that was continued on its own",
	};
	static const char *const with[] = {
		"that nothing after the newest anchor was cut off, or written anew with the signing key",
	};
	static const char *const always = "that the engine told the truth when it wrote: only a replay "
		"speaks to that";
	size_t n = anchored ? sizeof with / sizeof *with : sizeof without / sizeof *without;

	return i < n ? (anchored ? with : without)[i] : i == n ? always : NULL;
}

void verify_print(const struct verify_result *v, void *file)
{
	char root[2 * SHA_BYTES + 1];
	FILE *f = file;

	sodium_bin2hex(root, sizeof root, v->root, SHA_BYTES);
	fprintf(f, "%s: log '%s', %" PRIu64 " leaves, root %s\n", verify_verdict(v), v->origin,
		v->leaves, root);
	fprintf(f, "  %" PRIu64 " sessions, %" PRIu64 " batches of %" PRIu64 " tokens, %" PRIu64
		" checkpoints", v->sessions, v->batches, v->tokens, v->checkpoints);
	if (v->redacted || v->pruned || v->sealed || v->gaps || v->imported)
		fprintf(f, "; REDACTED(%" PRIu64 "), pruned %" PRIu64 ", sealed %" PRIu64 ", gaps %" PRIu64
			", imported runs %" PRIu64, v->redacted, v->pruned, v->sealed, v->gaps, v->imported);
	fprintf(f, "\n  signed: the first %" PRIu64 " leaves; ", v->signed_size);
	if (v->anchored)
		fprintf(f, "anchored outside: the first %" PRIu64, v->anchored_size);
	if (v->anchored && v->anchored_size < v->leaves)
		fprintf(f, ", not the last %" PRIu64 ":\n  those are as good as without an anchor",
			v->leaves - v->anchored_size);
	if (v->anchored)
		fputc('\n', f);
	else
		fprintf(f,
			"anchored outside: none. Tamper-evident against parties without the key,\n  up to "
			"the last checkpoint that you hold elsewhere\n");
	if (!v->deep)
		fprintf(f, "  not compared: the rows of decisions and sums with the log (--deep)\n");
	fputs("This cannot show:\n", f);
	for (size_t i = 0; verify_blind(i, v->anchored); i++)
		fprintf(f, "  - %s\n", verify_blind(i, v->anchored));
}

void verify_print_json(const struct verify_result *v, const char *findings, void *file)
{
	char root[2 * SHA_BYTES + 1];
	FILE *f = file;

	sodium_bin2hex(root, sizeof root, v->root, SHA_BYTES);
	fprintf(f, "{\"verdict\": \"%s\", \"status\": %d, \"anchored\": %s, \"deep\": %s, ",
		verify_verdict(v), verify_status(v), v->anchored ? "true" : "false",
		v->deep ? "true" : "false");
	fputs("\"origin\": \"", f);
	for (const char *p = v->origin; *p;
		 p++) { /* note_name_ok() lets no control character through */
		if (*p == '"' || *p == '\\')
			fputc('\\', f);
		fputc((unsigned char)*p < 0x20 ? '?' : *p, f);
	}
	fprintf(f,
		"\", \"leaves\": %" PRIu64 ", \"root\": \"%s\", \"sessions\": %" PRIu64
		", \"batches\": %" PRIu64 ", \"tokens\": %" PRIu64 ", \"checkpoints\": %" PRIu64
		", \"redacted\": %" PRIu64 ", \"pruned\": %" PRIu64 ", \"sealed\": %" PRIu64
		", \"gaps\": %" PRIu64 ", \"imported\": %" PRIu64 ", \"signed_leaves\": %" PRIu64
		", \"anchored_leaves\": %" PRIu64 ", \"unanchored_leaves\": %" PRIu64,
		v->leaves, root, v->sessions, v->batches, v->tokens, v->checkpoints, v->redacted, v->pruned,
		v->sealed, v->gaps, v->imported, v->signed_size, v->anchored_size,
		v->leaves - v->anchored_size);
	fprintf(f, ", \"findings\": [%s], \"cannot_show\": [", findings);
	for (size_t i = 0; verify_blind(i, v->anchored); i++)
		fprintf(f, "%s\"%s\"", i ? ", " : "", verify_blind(i, v->anchored));
	fprintf(f, "], \"fork\": %s}\n", v->fork ? v->fork : "null");
}
