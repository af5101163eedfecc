/* token.h - a token as people can read it; its bytes are hostile and may be half a character. */
#ifndef TUI_TOKEN_H
#define TUI_TOKEN_H

#include "tui/grid.h"

/* The text between quotes, or the id where it was not logged; returns the columns used. */
int tui_token(struct tui_grid *g, int x, int y, int max, enum tui_style style, int32_t id,
	const char *bytes, int len);

/* The text for running reading: out gets safe UTF-8 of at most size - 1 bytes, with line breaks as
 * a visible sign; id as "#12 " where it was not logged. */
void tui_token_text(char *out, size_t size, int32_t id, const char *bytes, int len);

#endif
