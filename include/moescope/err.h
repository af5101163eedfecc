/*
 * err.h - how every function of moescope says that something went wrong.
 *
 * Functions return 0 (or a pointer) on success and -1 (or NULL) on failure, and take a
 * struct moe_err as their last parameter. The lowest level states the fact and the numbers;
 * callers put their context in front: "opening m.gguf: tensor x ends at 91234, file has 90112".
 * Nothing but the command line prints an error or exits.
 */
#ifndef MOESCOPE_ERR_H
#define MOESCOPE_ERR_H

/* The kinds of failure; the command line uses them as its exit status. */
enum moe_err_code {
	MOE_OK = 0,
	MOE_ERR_USAGE = 2, /* the call or the command line makes no sense */
	MOE_ERR_INPUT = 3, /* a file, database or text is not what it should be */
	MOE_ERR_SYS = 4    /* the system refused: memory, disk, permission, thread */
};

struct moe_err {
	enum moe_err_code code;
	char msg[512]; /* UTF-8, one line, no trailing newline; cut with "..." if longer */
};

#endif
