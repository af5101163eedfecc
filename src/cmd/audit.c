/*
 * audit.c - `moescope audit`: the verbs, and those that make a log and look after its keys.
 *
 * Every verb that changes the log or takes something out of it says who did so in a leaf of its
 * own.
 */
#include "cmd/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/rotate.h"
#include "audit/payload.h"
#include "base/err.h"
#include "cmd/audit_say.h"
#include "cmd/show.h"

struct audit_opts audit_o = { .sequence = -1,
	.layer = -1,
	.epsilon = 1e-4,
	.detail = LOG_ROUTES,
	.loss = LOG_STRICT,
	.retain = 183,
	.heartbeat = 10,
	.checkpoint = 60,
	.days = -1,
	.from = -1,
	.to = -1 };

/* ---- helpers ---- */

const char *audit_who(void)
{
	static char who[400]; /* one operator a process */

	if (!*who)
		admin_who(who, sizeof who, audit_o.operator_name);
	return who;
}

int audit_number(const char *what, const char *text, uint64_t *out, struct moe_err *e)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (end == text || *end || errno || *text == '-')
		return err_set(e, MOE_ERR_USAGE, "%s '%s': not a whole number", what, text);
	return 0;
}

char *audit_read_file(const char *path, size_t *n, struct moe_err *e)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	char *p = NULL;

	if (!f) {
		err_errno(e, "%s", path);
		return NULL;
	}
	if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode) || st.st_size > (64 << 20))
		err_set(e, MOE_ERR_INPUT, "%s: not a file of at most 64 MiB", path);
	else if (!(p = malloc((size_t)st.st_size + 1)))
		err_nomem(e, (unsigned long long)st.st_size, path);
	else {
		*n = fread(p, 1, (size_t)st.st_size, f);
		p[*n] = 0;
	}
	fclose(f);
	return p;
}

int audit_write_file(const char *path, const void *p, size_t n, struct moe_err *e)
{
	FILE *f;
	int bad;

	if (!strcmp(path, "-"))
		return fwrite(p, 1, n, stdout) == n ? 0 : err_errno(e, "standard output");
	f = fopen(path, "wb");
	if (!f)
		return err_errno(e, "%s", path);
	bad = fwrite(p, 1, n, f) != n || fflush(f) || fsync(fileno(f));
	if (bad)
		err_errno(e, "writing %s", path);
	if (fclose(f) && !bad)
		bad = err_errno(e, "writing %s", path);
	return bad ? -1 : 0;
}

int audit_access(const char *db, enum leaf_kind kind, const char *what, int64_t run, int64_t seq,
	int64_t token, struct moe_err *e)
{
	struct admin a;
	struct buf rec;
	int bad;

	if (audit_o.unlogged) {
		fputs("note: this access is not in the log (--unlogged)\n", stderr);
		return 0;
	}
	if (admin_open(&a, db, audit_o.key, 1, e))
		return err_wrap(e, "logging the access (--unlogged goes on without)");
	buf_init(&rec, 65536);
	record_begin(&rec, leaf_kind_name(kind));
	record_text(&rec, "what", what);
	record_int(&rec, "run", run);
	if (seq >= 0)
		record_int(&rec, "sequence", seq);
	if (token >= 0)
		record_int(&rec, "token", token);
	record_text(&rec, "who", audit_who());
	bad = log_record(&a.log, kind, (uint64_t)run, 0, NULL, &rec, e);
	buf_free(&rec);
	return admin_close(&a, bad, e) || bad ? -1 : 0;
}

int audit_action(struct admin *a, const char *what, struct moe_err *e)
{
	struct buf rec;
	int bad;

	buf_init(&rec, 65536);
	record_begin(&rec, "access");
	record_text(&rec, "what", what);
	record_text(&rec, "who", audit_who());
	bad = log_record(&a->log, LEAF_ACCESS, 0, 0, NULL, &rec, e);
	buf_free(&rec);
	return bad;
}

/* ---- init, rotate ---- */

static int write_pubkey(const struct note_key *k, const char *key_path, char *path, size_t size,
	struct moe_err *e)
{
	char text[NOTE_KEY_TEXT + 1];

	snprintf(path, size, "%s.pub", key_path);
	note_key_text(k, text);
	strcat(text, "\n");
	return audit_write_file(path, text, strlen(text), e);
}

static int elsewhere(const char *db, const char *file, struct moe_err *e)
{
	return admin_same_directory(db, file)
		? err_set(e, MOE_ERR_USAGE,
				"%s: a key does not belong in the "
				"directory of the database; whoever takes one would have both",
				file)
		: 0;
}

/* An existing signing key, or a new one. */
static int take_key(struct note_secret *s, const char *origin, const char *path, struct moe_err *e)
{
	if (access(path, F_OK))
		return note_secret_create(s, origin, path, e);
	if (note_secret_load(s, path, e))
		return -1;
	if (strcmp(s->key.name, origin))
		return err_set(e, MOE_ERR_USAGE, "%s: the key is of '%s', the log's origin is '%s'", path,
			s->key.name, origin);
	return 0;
}

static int init(int argc, char **argv, struct moe_err *e)
{
	struct log_policy p = { .detail = audit_o.detail, .loss = audit_o.loss,
		.retain_days = audit_o.retain, .heartbeat_s = audit_o.heartbeat,
		.checkpoint_s = audit_o.checkpoint };
	unsigned char seal[SEAL_KEY];
	char pub[PATH_MAX], text[NOTE_KEY_TEXT];
	struct note_secret s;
	struct admin a;
	int bad;

	if (argc != 1)
		return err_set(
			e, MOE_ERR_USAGE, "init: one database is expected, %d operands were given", argc);
	if (!audit_o.origin || !audit_o.key)
		return err_set(e, MOE_ERR_USAGE, "init: --origin NAME and --key FILE are needed");
	if (!note_name_ok(audit_o.origin))
		return err_set(e, MOE_ERR_USAGE,
			"--origin '%s': a name without blanks and plus signs, at most %d "
			"bytes",
			audit_o.origin, NOTE_NAME_MAX);
	if (sodium_init() < 0)
		return err_set(e, MOE_ERR_SYS, "libsodium does not start");
	snprintf(p.origin, sizeof p.origin, "%s", audit_o.origin);
	if (elsewhere(argv[0], audit_o.key, e) ||
		(audit_o.seal && elsewhere(argv[0], audit_o.seal, e)) || admin_open_bare(&a, argv[0], e))
		return -1;
	bad = log_exists(a.db, e);
	if (bad == 1)
		err_set(e, MOE_ERR_INPUT, "it has an audit log already");
	bad = bad || take_key(&s, audit_o.origin, audit_o.key, e) ||
		write_pubkey(&s.key, audit_o.key, pub, sizeof pub, e);
	if (!bad && audit_o.seal)
		bad = access(audit_o.seal, F_OK) ? seal_key_create(seal, audit_o.seal, e) :
			seal_key_load(seal, audit_o.seal, e);
	if (!bad &&
		(!realpath(audit_o.key, p.key_path) ||
			(audit_o.seal && !realpath(audit_o.seal, p.seal_path))))
		bad = err_errno(e, "the key's path");
	if (!bad)
		bad = log_create(a.db, &p, &s, NULL, audit_who(), e);
	if (bad)
		err_wrap(e, "%s", argv[0]);
	bad = admin_close(&a, bad, e) || bad;
	if (!bad)
		note_key_text(&s.key, text);
	if (!bad && audit_o.json) {
		const struct say f[] = { { "database", argv[0], 0 }, { "origin", p.origin, 0 },
			{ "key", audit_o.key, 0 }, { "public_key_file", pub, 0 }, { "public_key", text, 0 },
			{ "seal", audit_o.seal, SAY_NULL } };

		audit_say("init", f, sizeof f / sizeof f[0]);
	} else if (!bad) {
		printf("log '%s' in %s; signed with %s\npublic key, for those who verify, in %s:\n%s\n",
			p.origin, show(argv[0]).s, show(audit_o.key).s, show(pub).s, text);
	}
	if (!bad)
		note_secret_forget(&s);
	return bad ? -1 : 0;
}

static int rotate(int argc, char **argv, struct moe_err *e)
{
	char pub[PATH_MAX], path[PATH_MAX], text[NOTE_KEY_TEXT];
	struct note_secret new;
	struct admin a;
	int bad;

	if (argc != 1 || !audit_o.new_key)
		return err_set(e, MOE_ERR_USAGE, "rotate: a database and --new-key FILE are expected");
	if (elsewhere(argv[0], audit_o.new_key, e) || admin_open(&a, argv[0], audit_o.key, 0, e))
		return -1;
	bad = log_checkpoint(&a.log, &a.key, e) || note_secret_create(&new, a.log.policy.origin,
		audit_o.new_key, e) || write_pubkey(&new.key, audit_o.new_key, pub, sizeof pub, e);
	if (!bad && !realpath(audit_o.new_key, path))
		bad = err_errno(e, "the key's path");
	if (!bad)
		bad = log_rotate(&a.log, &a.key, &new, path, audit_who(), e);
	bad = admin_close(&a, bad, e) || bad;
	if (!bad && audit_o.json) {
		const struct say f[] = { { "database", argv[0], 0 }, { "key", audit_o.new_key, 0 },
			{ "public_key_file", pub, 0 }, { "public_key", text, 0 } };

		note_key_text(&new.key, text);
		audit_say("rotate", f, sizeof f / sizeof f[0]);
	} else if (!bad)
		printf(
			"from here on %s signs; its public key is in %s\nthe old key still verifies the log: "
			"keep "
			"its public half, destroy the other\n",
			show(audit_o.new_key).s, show(pub).s);
	return bad ? -1 : 0;
}

/* ---- the verbs ---- */

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv, struct moe_err *e);
} verbs[] = {
	{ "init", init },
	{ "verify", audit_verify },
	{ "checkpoint", audit_checkpoint },
	{ "rotate", rotate },
	{ "anchor", audit_anchor },
	{ "prove", audit_prove },
	{ "redact", audit_redact },
	{ "retain", audit_retain },
	{ "hold", audit_hold },
	{ "unseal", audit_unseal },
	{ "export", audit_export },
	{ "explain", audit_explain },
	{ "replay", audit_replay },
};

static int run(int argc, char **argv, struct moe_err *e)
{
	char list[300] = "";

	for (size_t i = 0; argc && i < sizeof verbs / sizeof verbs[0]; i++)
		if (!strcmp(argv[0], verbs[i].name))
			return verbs[i].run(argc - 1, argv + 1, e);
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		snprintf(
			list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", verbs[i].name);
	return argc ? err_set(e, MOE_ERR_USAGE, "no verb '%s'; there are: %s", argv[0], list) :
		err_set(e, MOE_ERR_USAGE, "what to do is missing; one of: %s", list);
}

static const struct opt opts[] = {
	{ "key", 'k', OPT_TEXT, &audit_o.key, "FILE",
		"the signing key; made by init (default: as the log "
		"remembers)",
		0, 0 },
	{ "pubkey", 'p', OPT_TEXT, &audit_o.pubkey, "FILE", "verify: the public key that you trust", 0,
		0 },
	{ "new-key", 0, OPT_TEXT, &audit_o.new_key, "FILE", "rotate: the key that follows", 0, 0 },
	{ "origin", 0, OPT_TEXT, &audit_o.origin, "NAME", "init: the log's name, as example.org/chat",
		0, 0 },
	{ "detail", 0, OPT_ENUM, &audit_o.detail, "sums|routes|full",
		"init: what is logged (default routes)", 0, 0 },
	{ "loss", 0, OPT_ENUM, &audit_o.loss, "strict|best-effort",
		"init: what happens when it cannot be "
		"(default strict)",
		0, 0 },
	{ "retain", 0, OPT_INT, &audit_o.retain, "DAYS",
		"init: payloads are kept this long (default 183)", 1, 36500 },
	{ "heartbeat", 0, OPT_INT, &audit_o.heartbeat, "S",
		"init: longest silence in a run (default 10)", 1, 86400 },
	{ "sign-every", 0, OPT_INT, &audit_o.checkpoint, "S",
		"init: seconds between checkpoints of a run "
		"(default 60)",
		1, 86400 },
	{ "seal", 0, OPT_TEXT, &audit_o.seal, "FILE",
		"init: encrypt payloads; this key wraps a key per subject; unseal, explain, replay: it",
		0, 0 },
	{ "anchor", 0, OPT_TEXT, &audit_o.anchor, "FILE",
		"verify: checkpoints that were kept elsewhere", 0, 0 },
	{ "deep", 0, OPT_FLAG, &audit_o.deep, NULL, "verify: compare every row with what was logged", 0,
		0 },
	{ "headers", 0, OPT_FLAG, &audit_o.headers, NULL, "verify: only the tree, signatures and order",
		0, 0 },
	{ "run", 0, OPT_INT, &audit_o.run, "N", "the run (default the newest)", 1, 1e15 },
	{ "layer", 'l', OPT_INT, &audit_o.layer, "L", "explain: only this layer", 0, 511 },
	{ "model", 'm', OPT_TEXT, &audit_o.model, "FILE", "replay, explain: the model to run again", 0,
		0 },
	{ "html", 0, OPT_TEXT, &audit_o.html, "FILE", "explain: write a page", 0, 0 },
	{ "sequence", 0, OPT_INT, &audit_o.sequence, "SEQ", "replay: only this sequence", 0, 9e15 },
	{ "epsilon", 0, OPT_REAL, &audit_o.epsilon, "X",
		"replay: a margin below this explains another choice "
		"(default 0.0001)",
		0, 1 },
	{ "anyway", 0, OPT_FLAG, &audit_o.anyway, NULL,
		"replay: compare although something else than recorded is given", 0, 0 },
	{ "from", 0, OPT_INT, &audit_o.from, "LEAVES", "prove: size of the earlier checkpoint", 1,
		9e15 },
	{ "to", 0, OPT_INT, &audit_o.to, "LEAVES", "prove: size of the later one", 1, 9e15 },
	{ "closed", 0, OPT_FLAG, &audit_o.sealed, NULL, "prove: without what the leaf commits to", 0,
		0 },
	{ "request", 0, OPT_TEXT, &audit_o.request, "FILE",
		"anchor: write a time stamp request (RFC 3161)", 0, 0 },
	{ "stamp", 0, OPT_TEXT, &audit_o.stamp, "FILE", "anchor: keep this time stamp response", 0, 0 },
	{ "ca", 0, OPT_TEXT, &audit_o.stamp_ca, "FILE", "anchor: certificates that vouch for it", 0,
		0 },
	{ "basis", 0, OPT_TEXT, &audit_o.basis, "TEXT", "redact, hold: on what ground", 0, 0 },
	{ "release", 0, OPT_FLAG, &audit_o.release, NULL, "hold: lift it", 0, 0 },
	{ "days", 0, OPT_INT, &audit_o.days, "N", "retain: older than this (default: as init said)", 0,
		36500 },
	{ "unlogged", 0, OPT_FLAG, &audit_o.unlogged, NULL,
		"prove, explain, replay, unseal, export: no record "
		"of the access",
		0, 0 },
	{ "operator", 0, OPT_TEXT, &audit_o.operator_name, "NAME", "who acts (default: the login)", 0,
		0 },
	{ "out", 'o', OPT_TEXT, &audit_o.out, "FILE", "where the result goes (default standard output)",
		0, 0 },
	{ "json", 0, OPT_FLAG, &audit_o.json, NULL, "print JSON", 0, 0 },
	LOAD_OPTS(audit_o.load),
	{ 0 },
};

const struct cmd cmd_audit = {
	"audit",
	"VERB DB ...",
	"Keep and check a tamper-evident log of a database's runs",
	"  init DB                 start a log: needs --origin and --key; every run is logged from "
	"then on\n"
	"  verify DB               is it what it was? needs --pubkey; exit 0 valid, 1 tampered,\n"
	"                          2 incomplete, or leaves under no anchor, 3 error\n"
	"  checkpoint DB           sign what is there and print the checkpoint\n"
	"  rotate DB               sign with another key from here on: needs --new-key\n"
	"  anchor DB               put the checkpoint elsewhere: --out FILE appends it; --request "
	"FILE and\n"
	"                          --stamp FILE ask for a time stamp and keep the answer\n"
	"  prove DB SEQ TOKEN      a proof for third parties; `moescope-verify --proof` checks it\n"
	"  prove DB                that one checkpoint continues another: --from and --to\n"
	"  explain DB SEQ TOKEN    what the routers decided for a token, and how near it was to "
	"another choice\n"
	"  replay DB [RUN]         run recorded sequences again and compare: needs --model\n"
	"  redact DB RUN [SEQ]     destroy what was logged of it, and log that: needs --basis\n"
	"  retain DB               destroy payloads that are older than the log promised to keep them\n"
	"  hold DB RUN [SEQ]       keep it from both, or --release it: needs --basis\n"
	"  unseal DB SEQ TOKEN     show decisions that were encrypted: needs --seal\n"
	"  export DB RUN [SEQ]     a bundle with records, proofs and instructions: needs --out "
	"DIRECTORY\n"
	"\n"
	"SEQ is the engine's number of a sequence, TOKEN a position in it. The log shows what was "
	"recorded\n"
	"and that nobody changed it; it shows no causes.\n",
	opts,
	run,
};
