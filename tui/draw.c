/*
 * draw.c - see draw.h. Meanings become colours by palette.c.
 */
#define NCURSES_WIDECHAR 1
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* wcwidth */
#endif
#include "tui/draw.h"

#include <langinfo.h>
#include <ncurses.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "base/err.h"
#include "tui/panel.h"

static struct {
	int open;
	SCREEN *screen;
	struct tui_look look;
	attr_t attr[TUI_STYLE_MAX];
	struct tui_cell *before; /* [h][w], what stands on the terminal */
	cchar_t *row;            /* [w], scratch */
	int w, h, mouse_x, mouse_y;
} term;

/* ---- what a dying process still does; set up before it can be needed ---- */

static struct termios sane;
static char restore[512]; /* the sequences that leave the dashboard */
static size_t restore_len;
static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
#define N_FATAL (sizeof fatal / sizeof fatal[0])
static struct sigaction fatal_before[N_FATAL];

static int add_restore(int c)
{
	if (restore_len < sizeof restore)
		restore[restore_len++] = (char)c;
	return c;
}

static void prepare_restore(void)
{
	static const char *const caps[] = { "sgr0", "cnorm", "rmkx", "rmcup" };

	restore_len = 0;
	for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
		char *s = tigetstr(caps[i]);

		if (s && s != (char *)-1)
			tputs(s, 1, add_restore);
	}
	if (tigetstr("kmous") && tigetstr("kmous") != (char *)-1)
		for (const char *s = "\033[?1006l\033[?1000l"; *s; s++)
			add_restore(*s);
	add_restore('\r');
	add_restore('\n');
}

/* Only async-signal-safe calls. */
static void on_fatal(int sig)
{
	ssize_t n = write(STDOUT_FILENO, restore, restore_len);

	(void)n;
	tcsetattr(STDIN_FILENO, TCSANOW, &sane);
	for (size_t i = 0; i < N_FATAL; i++)
		if (fatal[i] == sig)
			sigaction(sig, &fatal_before[i], NULL);
	raise(sig);
}

static void catch_fatal(void)
{
	static char stack[32768]; /* for the case that the stack is what ran out */
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction sa = { .sa_handler = on_fatal, .sa_flags = SA_ONSTACK | SA_NODEFER };

	sigaltstack(&ss, NULL);
	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < N_FATAL; i++)
		sigaction(fatal[i], &sa, &fatal_before[i]);
}

/* ---- open and close ---- */

static int no_screen(struct moe_err *e, const char *why)
{
	return err_set(e, MOE_ERR_SYS, "%s, so the dashboard cannot be shown; "
		"`moescope top DB --once --text` prints it as plain text", why);
}

static int check_terminal(struct moe_err *e)
{
	const char *name = getenv("TERM");
	char why[160];
	int status;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return no_screen(e, "standard input and output are not both a terminal");
	if (!name || !*name)
		return no_screen(e, "TERM is not set");
	if (setupterm(NULL, STDOUT_FILENO, &status) != OK || !tigetstr("cup") ||
	    tigetstr("cup") == (char *)-1) {
		snprintf(why, sizeof why, "the terminal type TERM=%.60s is unknown or cannot move the "
			"cursor", name);
		return no_screen(e, why);
	}
	return 0;
}

static void set_colours(void)
{
	const char *no = getenv("NO_COLOR");

	term.look.colours = 0;
	if (!(no && *no) && has_colors() && start_color() == OK && use_default_colors() == OK)
		term.look.colours = COLORS >= 256 ? 256 : COLORS >= 16 ? 16 : COLORS >= 8 ? 8 : 0;
}

void tui_draw_palette(enum tui_palette palette, int light)
{
	for (short i = 0; i < TUI_STYLE_MAX; i++) {
		struct tui_paint p = tui_paint(palette, light, term.look.colours, i);

		if (term.look.colours)
			init_pair((short)(i + 1), p.fg, p.bg);
		term.attr[i] = (p.attr & TUI_BOLD ? A_BOLD : 0) |
			(p.attr & TUI_UNDERLINE ? A_UNDERLINE : 0) | (p.attr & TUI_REVERSE ? A_REVERSE : 0);
	}
	free(term.before); /* attributes may differ, too: every cell is set again */
	term.before = NULL;
}

static void terminal_size(int *w, int *h)
{
	struct winsize ws;

	*w = 80;
	*h = 24;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) && ws.ws_col && ws.ws_row) {
		*w = ws.ws_col;
		*h = ws.ws_row;
	}
	*w = *w > TUI_MAX_W ? TUI_MAX_W : *w;
	*h = *h > TUI_MAX_H ? TUI_MAX_H : *h;
}

int tui_draw_open(int mouse, struct moe_err *e)
{
	char w[16], h[16];
	int n_col, n_row;
	TERMINAL *asked;

	if (check_terminal(e))
		return -1;
	asked = cur_term;
	if (tcgetattr(STDIN_FILENO, &sane))
		return err_errno(e, "reading the terminal's settings");
	/* ncurses would otherwise allocate for a terminal of any size. */
	terminal_size(&n_col, &n_row);
	snprintf(w, sizeof w, "%d", n_col);
	snprintf(h, sizeof h, "%d", n_row);
	setenv("COLUMNS", w, 1);
	setenv("LINES", h, 1);
	prepare_restore();
	term.screen = newterm(NULL, stdout, stdin);
	unsetenv("COLUMNS");
	unsetenv("LINES");
	del_curterm(asked);
	if (!term.screen)
		return no_screen(e, "the terminal could not be set up");
	catch_fatal();
	term.open = 1;
	term.look.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	set_colours();
	tui_draw_palette(TUI_BLUE_RED, 0);
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(25);
	if (mouse) {
		mousemask(BUTTON1_PRESSED | BUTTON4_PRESSED | BUTTON5_PRESSED, NULL);
		mouseinterval(0);
	}
	curs_set(0);
	return 0;
}

void tui_draw_close(void)
{
	if (!term.open)
		return;
	endwin();
	delscreen(term.screen);
	for (size_t i = 0; i < N_FATAL; i++)
		sigaction(fatal[i], &fatal_before[i], NULL);
	free(term.before);
	free(term.row);
	memset(&term, 0, sizeof term);
}

struct tui_look tui_draw_look(void)
{
	return term.look;
}

void tui_draw_size(int *w, int *h)
{
	terminal_size(w, h);
	if (*w != COLS || *h != LINES)
		resizeterm(*h, *w);
}

/* ---- cells ---- */

/* The C library and utf8proc may disagree on a width; then the layout would slide. */
static wchar_t shown(const struct tui_cell *c, int wide)
{
	wchar_t ch = (wchar_t)c->cp;

	return c->cp < 0x7f || wcwidth(ch) == (wide ? 2 : 1) ? ch : L'?';
}

/* One row of the grid as ncurses wants it; returns the number of characters. */
static int convert(const struct tui_cell *c, int w, cchar_t *out)
{
	int n = 0;

	for (int x = 0; x < w; x++) {
		int wide = x + 1 < w && !c[x + 1].cp;
		wchar_t s[3] = { shown(&c[x], wide), 0, 0 };
		short pair = term.look.colours ? (short)(c[x].style + 1) : 0;

		if (!c[x].cp)
			continue;
		if (c[x].mark && wcwidth((wchar_t)c[x].mark) == 0)
			s[1] = (wchar_t)c[x].mark;
		setcchar(&out[n++], s, term.attr[c[x].style], pair, NULL);
		if (wide && s[0] == L'?') {
			s[1] = 0;
			setcchar(&out[n++], s, term.attr[c[x].style], pair, NULL);
		}
	}
	return n;
}

void tui_draw_put(const struct tui_grid *g)
{
	size_t row = (size_t)g->w * sizeof *g->cell;
	int all = g->w != term.w || g->h != term.h || !term.before;

	if (all) {
		struct tui_cell *b = realloc(term.before, row * (size_t)g->h);
		cchar_t *r;

		if (b)
			term.before = b;
		r = b ? realloc(term.row, (size_t)g->w * sizeof *r) : NULL;
		if (r)
			term.row = r;
		term.w = b && r ? g->w : 0;
		term.h = g->h;
		if (!b || !r)
			return; /* no memory: the next frame tries again */
		erase();
	}
	for (int y = 0; y < g->h; y++) {
		const struct tui_cell *c = g->cell + (size_t)y * (size_t)g->w;
		struct tui_cell *b = term.before + (size_t)y * (size_t)g->w;

		if (!all && !memcmp(b, c, row))
			continue;
		memcpy(b, c, row);
		mvadd_wchnstr(y, 0, term.row, convert(c, g->w, term.row));
	}
	refresh();
}

void tui_draw_again(void)
{
	clearok(curscr, TRUE);
	refresh();
}

static int mouse_key(void)
{
	MEVENT m;

	if (getmouse(&m) != OK)
		return TUI_KEY_ESC;
	term.mouse_x = m.x;
	term.mouse_y = m.y;
	if (m.bstate & BUTTON4_PRESSED)
		return TUI_KEY_WHEEL_UP;
	if (m.bstate & BUTTON5_PRESSED)
		return TUI_KEY_WHEEL_DOWN;
	return m.bstate & (BUTTON1_PRESSED | BUTTON1_CLICKED) ? TUI_KEY_CLICK : tui_draw_key();
}

void tui_draw_mouse(int *x, int *y)
{
	*x = term.mouse_x;
	*y = term.mouse_y;
}

int tui_draw_key(void)
{
	int k = getch();

	switch (k) {
	case ERR: return TUI_KEY_NONE;
	case KEY_UP: return TUI_KEY_UP;
	case KEY_DOWN: return TUI_KEY_DOWN;
	case KEY_LEFT: return TUI_KEY_LEFT;
	case KEY_RIGHT: return TUI_KEY_RIGHT;
	case KEY_HOME: return TUI_KEY_HOME;
	case KEY_END: return TUI_KEY_END;
	case KEY_PPAGE: return TUI_KEY_PGUP;
	case KEY_NPAGE: return TUI_KEY_PGDN;
	case KEY_BTAB: return TUI_KEY_BACKTAB;
	case KEY_ENTER: case '\r': case '\n': return TUI_KEY_ENTER;
	case KEY_BACKSPACE: case 127: case 8: return TUI_KEY_BACKSPACE;
	case KEY_MOUSE: return mouse_key();
	case '\t': return TUI_KEY_TAB;
	case 27: return TUI_KEY_ESC;
	default:
		if (k >= KEY_F(1) && k <= KEY_F(10))
			return TUI_KEY_F1 + (k - KEY_F(1));
		return k > 0 && k < 256 ? k : TUI_KEY_ESC; /* something was pressed */
	}
}
