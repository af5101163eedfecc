/*
 * chat.c - see chat.h.
 *
 * To add a family, do this: a row in rows[], and one in rules[] with what only its template
 * contains, before the rules that would catch it too. tests/ref/compare_chat.c writes the expected
 * texts.
 *
 * In a row's texts stands
 *	%s what was said     %t the same without white space at its ends
 *	%r system, user or assistant     %R with a capital     %U SYSTEM, HUMAN or ASSISTANT
 *	%p the system's text and an empty line, if it waits for a user's message (JOIN)
 */
#include "tok/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

enum chat_flag {
	TURN = 1,       /* `open` starts a turn, a reply ends it */
	BETWEEN = 2,    /* `open` stands between messages */
	JOIN = 4,       /* the system's text goes into the next user's message */
	JOIN_TRIM = 8,  /* the same, without white space at its ends */
	FIRST = 16,     /* a system's message counts only as the first one */
	AFTER_USER = 32 /* `ask` follows a user's message at the end, asked for or not */
};

struct chat_row {
	const char *name;
	const char *said[3];   /* [enum chat_role] a message; NULL = nothing is written */
	const char *ask;       /* makes the model reply; NULL = nothing is needed */
	const char *start;     /* before all; NULL = nothing */
	const char *no_system; /* before a first message that is not the system's */
	const char *open;
	unsigned flags;
};

#define ALL(S) { S, S, S }
#define END_OF_SENTENCE "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"
#define DS_USER "<\xef\xbd\x9cUser\xef\xbd\x9c>"
#define DS_ASSISTANT "<\xef\xbd\x9c" "Assistant\xef\xbd\x9c>"
#define HY_BEGIN "<\xef\xbd\x9chy_begin\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"
#define HY_USER "<\xef\xbd\x9chy_User\xef\xbd\x9c>"
#define HY_ASSISTANT "<\xef\xbd\x9chy_Assistant\xef\xbd\x9c>"
#define HY_PLACE(N) "<\xef\xbd\x9chy_place\xe2\x96\x81holder\xe2\x96\x81no\xe2\x96\x81" N "\xef\xbd\x9c>"
#define MINICPM_USER "<\xe7\x94\xa8\xe6\x88\xb7>"
#define PANGU_SYSTEM "[unused9]\xe7\xb3\xbb\xe7\xbb\x9f\xef\xbc\x9a"
#define PANGU_USER "[unused9]\xe7\x94\xa8\xe6\x88\xb7\xef\xbc\x9a"
#define PANGU_ASSISTANT "[unused9]\xe5\x8a\xa9\xe6\x89\x8b\xef\xbc\x9a"
#define YANDEX_USER " \xd0\x9f\xd0\xbe\xd0\xbb\xd1\x8c\xd0\xb7\xd0\xbe\xd0\xb2\xd0\xb0\xd1\x82\xd0\xb5\xd0\xbb\xd1\x8c: "
#define YANDEX_ASSISTANT " \xd0\x90\xd1\x81\xd1\x81\xd0\xb8\xd1\x81\xd1\x82\xd0\xb5\xd0\xbd\xd1\x82:"
#define CR_TURN(WHO) "<|START_OF_TURN_TOKEN|><|" WHO "_TOKEN|>"
#define CR_END "<|END_OF_TURN_TOKEN|>"
#define GRANITE ALL("<|start_of_role|>%r<|end_of_role|>%s<|end_of_text|>\n"), \
	"<|start_of_role|>assistant<|end_of_role|>"
#define EXAONE { "[|system|]%t[|endofturn|]\n", "[|user|]%t\n", "[|assistant|]%t[|endofturn|]\n" }, \
	"[|assistant|]"

static const struct chat_row rows[] = {
	{ "chatml", ALL("<|im_start|>%r\n%s<|im_end|>\n"), "<|im_start|>assistant\n", 0, 0, 0, 0 },
	{ "llama2", { "%s\n", "%s [/INST]", "%s</s>" }, 0, "[INST] ", 0, "[INST] ", TURN },
	{ "llama2-sys", { "<<SYS>>\n%s\n<</SYS>>\n\n", "%s [/INST]", "%s</s>" }, 0, "[INST] ", 0, "[INST] ",
	  TURN },
	{ "llama2-sys-bos", { "<<SYS>>\n%s\n<</SYS>>\n\n", "%s [/INST]", "%s</s>" }, 0, "[INST] ", 0,
	  "<s>[INST] ", TURN },
	{ "llama2-sys-strip", { "<<SYS>>\n%t\n<</SYS>>\n\n", "%t [/INST]", "%t</s>" }, 0, "[INST] ", 0,
	  "[INST] ", TURN },
	{ "mistral-v1", { "%s\n\n", "%s [/INST]", " %s</s>" }, 0, 0, 0, " [INST] ", TURN },
	{ "mistral-v3", { "%s\n\n", "%s[/INST]", " %t</s>" }, 0, 0, 0, "[INST] ", TURN },
	{ "mistral-v3-tekken", { "%s\n\n", "%s[/INST]", "%s</s>" }, 0, 0, 0, "[INST]", TURN },
	{ "mistral-v7", { "[SYSTEM_PROMPT] %s[/SYSTEM_PROMPT]", "[INST] %s[/INST]", " %s</s>" }, 0, 0, 0, 0,
	  0 },
	{ "mistral-v7-tekken", { "[SYSTEM_PROMPT]%s[/SYSTEM_PROMPT]", "[INST]%s[/INST]", "%s</s>" }, 0, 0, 0,
	  0, 0 },
	{ "phi3", ALL("<|%r|>\n%s<|end|>\n"), "<|assistant|>\n", 0, 0, 0, 0 },
	{ "phi4", ALL("<|im_start|>%r<|im_sep|>%s<|im_end|>"), "<|im_start|>assistant<|im_sep|>", 0, 0, 0,
	  0 },
	{ "falcon3", ALL("<|%r|>\n%s\n"), "<|assistant|>\n", 0, 0, 0, 0 },
	{ "zephyr", ALL("<|%r|>\n%s<|endoftext|>\n"), "<|assistant|>\n", 0, 0, 0, 0 },
	{ "monarch", ALL("%r\n%s</s>\n"), "<s>assistant\n", 0, 0, "<s>", BETWEEN },
	{ "gemma", { 0, "<start_of_turn>user\n%p%t<end_of_turn>\n", "<start_of_turn>model\n%t<end_of_turn>\n" },
	  "<start_of_turn>model\n", 0, 0, 0, JOIN_TRIM },
	{ "orion", { 0, "Human: %p%s\n\nAssistant: </s>", "%s</s>" }, 0, 0, 0, 0, JOIN },
	{ "openchat", { "%s<|end_of_turn|>", "GPT4 Correct %R: %s<|end_of_turn|>",
	  "GPT4 Correct %R: %s<|end_of_turn|>" }, "GPT4 Correct Assistant:", 0, 0, 0, 0 },
	{ "vicuna", { "%s\n\n", "USER: %s\n", "ASSISTANT: %s</s>\n" }, "ASSISTANT:", 0, 0, 0, 0 },
	{ "vicuna-orca", { "SYSTEM: %s\n", "USER: %s\n", "ASSISTANT: %s</s>\n" }, "ASSISTANT:", 0, 0, 0, 0 },
	{ "deepseek", { "%s", "### Instruction:\n%s\n", "### Response:\n%s\n<|EOT|>\n" }, "### Response:\n", 0,
	  0, 0, 0 },
	{ "deepseek2", { "%s\n\n", "User: %s\n\n", "Assistant: %s" END_OF_SENTENCE }, "Assistant:", 0, 0, 0,
	  0 },
	{ "deepseek3", { "%s\n\n", DS_USER "%s", DS_ASSISTANT "%s" END_OF_SENTENCE }, DS_ASSISTANT, 0, 0, 0,
	  0 },
	{ "deepseek-ocr", ALL("%s"), 0, 0, 0, 0, 0 },
	{ "command-r", { CR_TURN("SYSTEM") "%t" CR_END, CR_TURN("USER") "%t" CR_END,
	  CR_TURN("CHATBOT") "%t" CR_END }, CR_TURN("CHATBOT"), 0, 0, 0, 0 },
	{ "llama3", ALL("<|start_header_id|>%r<|end_header_id|>\n\n%t<|eot_id|>"),
	  "<|start_header_id|>assistant<|end_header_id|>\n\n", 0, 0, 0, 0 },
	{ "llama4", ALL("<|header_start|>%r<|header_end|>\n\n%t<|eot|>"),
	  "<|header_start|>assistant<|header_end|>\n\n", 0, 0, 0, 0 },
	{ "chatglm3", ALL("<|%r|>\n %s"), "<|assistant|>", "[gMASK]sop", 0, 0, 0 },
	{ "chatglm4", ALL("<|%r|>\n%s"), "<|assistant|>\n", "[gMASK]<sop>", 0, 0, 0 },
	{ "glmedge", ALL("<|%r|>\n%s"), "<|assistant|>", 0, 0, 0, 0 },
	{ "minicpm", { "%t", MINICPM_USER "%t<AI>", "%t" }, 0, 0, 0, 0, 0 },
	{ "exaone3", EXAONE, 0, 0, 0, 0 },
	{ "exaone4", EXAONE, 0, 0, 0, 0 },
	{ "exaone-moe", ALL("<|%r|>\n%t<|endofturn|>\n"), "<|assistant|>\n", 0, 0, 0, 0 },
	{ "rwkv-world", { "System: %t\n\n", "User: %t\n\n", "Assistant: %t\n\n" }, "Assistant:", 0, 0, 0,
	  AFTER_USER },
	{ "granite", GRANITE, 0, 0, 0, 0 },
	{ "granite-4.0", GRANITE, 0, 0, 0, 0 },
	{ "granite-4.1", GRANITE, 0, 0, 0, 0 },
	{ "gigachat", { "%s<|message_sep|>", "user<|role_sep|>%s<|message_sep|>available functions"
	  "<|role_sep|>[]<|message_sep|>", "assistant<|role_sep|>%s<|message_sep|>" }, "assistant<|role_sep|>",
	  "<s>", 0, 0, FIRST },
	{ "megrez", ALL("<|role_start|>%r<|role_end|>%s<|turn_end|>"), "<|role_start|>assistant<|role_end|>",
	  0, 0, 0, 0 },
	{ "yandex", { 0, YANDEX_USER "%s\n\n", YANDEX_ASSISTANT " %s\n\n" }, YANDEX_ASSISTANT "[SEP]", 0, 0, 0,
	  0 },
	{ "bailing", ALL("<role>%U</role>%s"), "<role>ASSISTANT</role>", 0, 0, 0, 0 },
	{ "bailing-think", ALL("<role>%U</role>%s"), "<role>ASSISTANT</role><think>", 0, 0, 0, 0 },
	{ "bailing2", ALL("<role>%U</role>%s<|role_end|>"), "<role>ASSISTANT</role>", 0,
	  "<role>SYSTEM</role>detailed thinking off<|role_end|>", 0, 0 },
	{ "smolvlm", { "%s\n\n", "User: %s<end_of_utterance>\n", "Assistant: %s<end_of_utterance>\n" },
	  "Assistant:", "<|im_start|>", 0, 0, 0 },
	{ "dots1", { "<|system|>%s<|endofsystem|>", "<|userprompt|>%s<|endofuserprompt|>",
	  "<|response|>%s<|endofresponse|>" }, "<|response|>", 0, 0, 0, 0 },
	{ "hunyuan-moe", { "<|startoftext|>%s<|extra_4|>", "<|startoftext|>%s<|extra_0|>", "%s<|eos|>" }, 0, 0,
	  0, 0, 0 },
	{ "hunyuan-dense", { "%s" HY_PLACE("3"), HY_USER "%s" HY_ASSISTANT, HY_ASSISTANT "%s" HY_PLACE("2") },
	  0, 0, 0, 0, FIRST },
	{ "hunyuan-vl", { "%s" HY_PLACE("3"), "%s" HY_USER, "%s" HY_ASSISTANT }, 0, HY_BEGIN, 0, 0, FIRST },
	{ "gpt-oss", { "<|start|>%r<|message|>%s<|end|>", "<|start|>%r<|message|>%s<|end|>",
	  "<|start|>%r<|message|>%s<|return|>" }, "<|start|>assistant", 0, 0, 0, 0 },
	{ "kimi-k2", { "<|im_system|>system<|im_middle|>%s<|im_end|>", "<|im_user|>user<|im_middle|>%s<|im_end|>",
	  "<|im_assistant|>assistant<|im_middle|>%s<|im_end|>" }, "<|im_assistant|>assistant<|im_middle|>", 0, 0,
	  0, 0 },
	{ "seed_oss", { "<seed:bos>%r\n%s<seed:eos>", "<seed:bos>%r\n%s<seed:eos>",
	  "<seed:bos>%r\n%t<seed:eos>" }, "<seed:bos>assistant\n", 0, 0, 0, 0 },
	{ "grok-2", { "System: %t<|separator|>\n\n", "Human: %t<|separator|>\n\n",
	  "Assistant: %s<|separator|>\n\n" }, "Assistant:", 0, 0, 0, 0 },
	{ "pangu-embedded", { PANGU_SYSTEM "%s[unused10]", PANGU_USER "%s[unused10]",
	  PANGU_ASSISTANT "%s[unused10]" }, PANGU_ASSISTANT, 0, PANGU_SYSTEM "[unused10]", 0, 0 },
	{ "solar-open", ALL("<|begin|>%r<|content|>%s<|end|>"), "<|begin|>assistant", 0, 0, 0, 0 },
};
#define N_ROWS (sizeof rows / sizeof *rows)

/* The first rule all of whose texts a template contains names its row. */
static const struct { const char *row, *has[3]; } rules[] = {
	{ "phi4", { "<|im_start|>", "<|im_sep|>" } },
	{ "smolvlm", { "<|im_start|>", "<end_of_utterance>" } },
	{ "chatml", { "<|im_start|>" } },
	{ "mistral-v7", { "[INST]", "[SYSTEM_PROMPT]" } },
	{ "mistral-v1", { "' [INST] ' + system_message" } },
	{ "mistral-v1", { "[AVAILABLE_TOOLS]", " [INST]" } },
	{ "mistral-v3-tekken", { "[AVAILABLE_TOOLS]", "\"[INST]\"" } },
	{ "mistral-v3", { "[AVAILABLE_TOOLS]", "[INST]" } },
	{ "llama2-sys-strip", { "[INST]", "content.strip()" } },
	{ "llama2-sys-bos", { "bos_token + '[INST]" } },
	{ "llama2-sys", { "[INST]", "<<SYS>>" } },
	{ "llama2", { "[INST]" } },
	{ "phi3", { "<|assistant|>", "<|end|>" } },
	{ "chatglm4", { "[gMASK]<sop>" } },
	{ "exaone-moe", { "<|assistant|>", "<|user|>", "<|tool_declare|>" } },
	{ "falcon3", { "<|assistant|>", "<|user|>", "</s>" } },
	{ "glmedge", { "<|assistant|>", "<|user|>" } },
	{ "glmedge", { "<|{{ item['role'] }}|>", "<|begin_of_image|>" } },
	{ "zephyr", { "<|user|>", "<|endoftext|>" } },
	{ "monarch", { "bos_token + message['role']" } },
	{ "gemma", { "<start_of_turn>" } },
	{ "orion", { "'\\n\\nAssistant: ' + eos_token" } },
	{ "openchat", { "GPT4 Correct " } },
	{ "vicuna-orca", { "USER: ", "ASSISTANT: ", "SYSTEM: " } },
	{ "vicuna", { "USER: ", "ASSISTANT: " } },
	{ "deepseek", { "### Instruction:", "<|EOT|>" } },
	{ "command-r", { "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>" } },
	{ "llama3", { "<|start_header_id|>", "<|end_header_id|>" } },
	{ "chatglm3", { "[gMASK]sop" } },
	{ "minicpm", { MINICPM_USER } },
	{ "deepseek2", { "'Assistant: ' + message['content'] + eos_token" } },
	{ "deepseek3", { DS_ASSISTANT, DS_USER, END_OF_SENTENCE } },
	{ "exaone4", { "[|system|]", "[|endofturn|]", "[|tool|]" } },
	{ "exaone3", { "[|system|]", "[|assistant|]", "[|endofturn|]" } },
	{ "rwkv-world", { "rwkv-world" } },
	{ "rwkv-world", { "{{- 'User: ' + message['content']|trim + '\\n\\n' -}}" } },
	{ "granite-4.0", { "<|start_of_role|>", "<tool_call>", "g4_default_system_message" } },
	{ "granite-4.0", { "<|start_of_role|>", "<tools>", "g4_default_system_message" } },
	{ "granite-4.1", { "<|start_of_role|>", "<tool_call>" } },
	{ "granite-4.1", { "<|start_of_role|>", "<tools>" } },
	{ "granite", { "<|start_of_role|>" } },
	{ "gigachat", { "message['role'] + additional_special_tokens[0] + message['content'] + "
	  "additional_special_tokens[1]" } },
	{ "megrez", { "<|role_start|>" } },
	{ "yandex", { YANDEX_ASSISTANT } },
	{ "bailing", { "<role>ASSISTANT</role>", "'HUMAN'" } },
	{ "bailing-think", { "<role>ASSISTANT</role>", "\"HUMAN\"", "<think>" } },
	{ "bailing2", { "<role>ASSISTANT</role>", "<role>HUMAN</role>", "<|role_end|>" } },
	{ "llama4", { "<|header_start|>", "<|header_end|>" } },
	{ "dots1", { "<|endofuserprompt|>" } },
	{ "hunyuan-moe", { "<|extra_0|>", "<|extra_4|>" } },
	{ "gpt-oss", { "<|start|>", "<|channel|>" } },
	{ "hunyuan-vl", { HY_ASSISTANT, HY_BEGIN } },
	{ "hunyuan-dense", { HY_ASSISTANT, HY_PLACE("3") } },
	{ "kimi-k2", { "<|im_assistant|>assistant<|im_middle|>" } },
	{ "seed_oss", { "<seed:bos>" } },
	{ "grok-2", { "'Assistant: '  + message['content'] + '<|separator|>" } },
	{ "pangu-embedded", { PANGU_SYSTEM "[unused10]" } },
	{ "solar-open", { "<|begin|>", "<|end|>", "<|content|>" } },
};

const struct chat_row *chat_find(const char *name)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	return NULL;
}

const struct chat_row *chat_row_at(size_t i)
{
	return i < N_ROWS ? &rows[i] : NULL;
}

const char *chat_name(const struct chat_row *row)
{
	return row->name;
}

static int has(const char *s, size_t n, const char *what)
{
	size_t k = strlen(what);

	for (; n >= k; s++, n--) {
		const char *p = memchr(s, what[0], n - k + 1);

		if (!p)
			return 0;
		n -= (size_t)(p - s);
		s = p;
		if (!memcmp(s, what, k))
			return 1;
	}
	return 0;
}

const struct chat_row *chat_detect(const char *tmpl, size_t n)
{
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		size_t k = 0;

		while (k < 3 && rules[i].has[k] && has(tmpl, n, rules[i].has[k]))
			k++;
		if (k == 3 || !rules[i].has[k])
			return chat_find(rules[i].row);
	}
	return NULL;
}

/* ---- rendering ---- */

struct render {
	const struct chat_row *row;
	struct buf out;
	struct buf waiting; /* the system's text, with JOIN */
	struct tok_span *span;
	size_t n_span, cap_span, after_reply;
	int no_memory;
};

static void add_said(struct render *r, const char *s, size_t n)
{
	size_t start = r->out.len;

	if (!n)
		return;
	buf_add(&r->out, s, n);
	if (r->n_span == r->cap_span) {
		size_t cap = r->cap_span ? 2 * r->cap_span : 16;
		struct tok_span *p = realloc(r->span, cap * sizeof *p);

		if (!p) {
			r->no_memory = 1;
			return;
		}
		r->span = p;
		r->cap_span = cap;
	}
	r->span[r->n_span++] = (struct tok_span){ start, r->out.len };
}

static int is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct chat_message trimmed(struct chat_message m)
{
	while (m.n && is_blank(m.s[m.n - 1]))
		m.n--;
	while (m.n && is_blank(*m.s))
		m.s++, m.n--;
	return m;
}

static void add_waiting(struct render *r)
{
	if (!r->waiting.len)
		return;
	add_said(r, r->waiting.data, r->waiting.len);
	buf_str(&r->out, "\n\n");
	buf_clear(&r->waiting);
}

static void add_message(struct render *r, struct chat_message m)
{
	static const char *const role[3][3] = { { "system", "user", "assistant" },
		{ "System", "User", "Assistant" }, { "SYSTEM", "HUMAN", "ASSISTANT" } };

	for (const char *p = r->row->said[m.role]; p && *p; p++) {
		if (*p != '%') {
			buf_char(&r->out, *p);
			continue;
		}
		switch (*++p) {
		case 'r': buf_str(&r->out, role[0][m.role]); break;
		case 'R': buf_str(&r->out, role[1][m.role]); break;
		case 'U': buf_str(&r->out, role[2][m.role]); break;
		case 'p': add_waiting(r); break;
		default: /* s, t */
			if (*p == 't')
				m = trimmed(m);
			add_said(r, m.s, m.n);
			if (m.role == CHAT_ASSISTANT)
				r->after_reply = r->out.len;
		}
	}
}

static void add_all(struct render *r, const struct chat_message *m, size_t n)
{
	unsigned flags = r->row->flags;
	int in_turn = r->row->start != NULL;

	for (size_t i = 0; i < n; i++) {
		if (!i && m->role != CHAT_SYSTEM && r->row->no_system)
			buf_str(&r->out, r->row->no_system);
		if (((flags & TURN) && !in_turn) || ((flags & BETWEEN) && i))
			buf_str(&r->out, r->row->open);
		in_turn = m[i].role != CHAT_ASSISTANT;
		if (m[i].role == CHAT_SYSTEM && (flags & (JOIN | JOIN_TRIM))) {
			struct chat_message x = flags & JOIN_TRIM ? trimmed(m[i]) : m[i];

			buf_add(&r->waiting, x.s, x.n);
			continue;
		}
		if (i && m[i].role == CHAT_SYSTEM && (flags & FIRST))
			continue;
		add_message(r, m[i]);
	}
}

int chat_render(const struct chat_row *row, const struct chat_message *m, size_t n, int ask,
	struct chat_text *out, struct moe_err *e)
{
	struct render r = { .row = row };
	int failed;

	memset(out, 0, sizeof *out);
	buf_init(&r.out, (size_t)1 << 31);
	buf_init(&r.waiting, (size_t)1 << 31);
	if (row->start)
		buf_str(&r.out, row->start);
	add_all(&r, m, n);
	if (row->flags & AFTER_USER)
		ask = n && m[n - 1].role == CHAT_USER;
	if (ask && row->ask)
		buf_str(&r.out, row->ask);
	failed = r.out.failed || r.waiting.failed || r.no_memory;
	buf_free(&r.waiting);
	if (failed) {
		err_nomem(e, r.out.len, "a conversation");
		buf_free(&r.out);
		free(r.span);
		return -1;
	}
	*out = (struct chat_text){ r.out.data, r.out.len, r.span, r.n_span, r.after_reply };
	return 0;
}

void chat_text_free(struct chat_text *t)
{
	free(t->s);
	free(t->outside);
	memset(t, 0, sizeof *t);
}
