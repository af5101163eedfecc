/* fmt.h - numbers and times as people read them. Each writes to out[size] and returns out. */
#ifndef TUI_FMT_H
#define TUI_FMT_H

#include <stddef.h>
#include <stdint.h>

#define TUI_FMT 32 /* enough for any of these */

char *tui_fmt_count(char *out, size_t size, uint64_t n);     /* 184,220; 22.1 M; 3.05 G */
char *tui_fmt_rate(char *out, size_t size, double per_s);    /* 8,412 or 9.3; NAN: "–" */
char *tui_fmt_rel(char *out, size_t size, double rel);       /* 0.34, 4.10, 12.3, 256 */
char *tui_fmt_percent(char *out, size_t size, double share); /* 0.03 %, 4.2 %, 71 % */
char *tui_fmt_unit(char *out, size_t size, double x);        /* 0..1: .97, 1.00; NAN: "–" */
char *tui_fmt_clock(char *out, size_t size, double s);       /* 00:02:31, 3 d 04:10:00 */
char *tui_fmt_ago(char *out, size_t size, int64_t ns);       /* 8 s, 12 min, 3 h, 5 d */
/* ns from `then` to `now`, never negative; times of a database may be any number. */
int64_t tui_elapsed(int64_t now, int64_t then);
/* Local time of day; with the date if more than a day lies between it and now. */
char *tui_fmt_time(char *out, size_t size, int64_t t, int64_t now);

#endif
