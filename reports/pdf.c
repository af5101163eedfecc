/*
 * pdf.c - the page on paper: an installed browser prints it, in a directory of its own that goes
 * away, with no profile of anybody's and a page that may load nothing. The pictures stay vectors.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "reports/report.h"

#define LIMIT_MS 120000
#define MAX_PDF ((size_t)256 << 20)

static const char *const browsers[] = { "chromium", "chromium-browser", "google-chrome",
	"google-chrome-stable", "chrome", "microsoft-edge" };

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	remove(path);
	return 0;
}

static int print_with(const char *browser, const char *dir, const volatile sig_atomic_t *stop,
	struct moe_err *why)
{
	char profile[640], url[640], config[640];
	const char *const argv[] = { "env", "-u", "DISPLAY", config, browser, "--headless",
		"--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-extensions",
		"--disable-dev-shm-usage", "--no-pdf-header-footer", "--print-to-pdf-no-header", profile,
		"--print-to-pdf=page.pdf", url, geteuid() ? NULL : "--no-sandbox", NULL };

	snprintf(profile, sizeof profile, "--user-data-dir=%s/profile", dir);
	snprintf(config, sizeof config, "HOME=%s", dir);
	snprintf(url, sizeof url, "file://%s/page.html", dir);
	return report_child(dir, argv, "log", LIMIT_MS, MAX_PDF, stop, why);
}

static int read_all(const char *path, struct buf *out, struct moe_err *e)
{
	FILE *f = fopen(path, "re");
	char part[65536];
	size_t n;

	if (!f)
		return err_set(e, MOE_ERR_SYS, "the browser wrote no PDF");
	while ((n = fread(part, 1, sizeof part, f)) > 0)
		buf_add(out, part, n);
	fclose(f);
	if (out->len < 5 || memcmp(out->data, "%PDF-", 5))
		return err_set(e, MOE_ERR_SYS, "what the browser wrote is no PDF");
	return 0;
}

int report_pdf(const struct buf *page, const volatile sig_atomic_t *stop, struct buf *out,
	struct moe_err *e)
{
	const char *tmp = getenv("TMPDIR");
	char dir[256], path[320];
	int rc = 127, status = -1;
	size_t tried = 0;
	FILE *f;

	if ((size_t)snprintf(dir, sizeof dir, "%s/moescope-print-XXXXXX", tmp && *tmp == '/' ? tmp :
	    "/tmp") >= sizeof dir || !mkdtemp(dir))
		return err_errno(e, "making a directory for printing");
	snprintf(path, sizeof path, "%s/page.html", dir);
	f = fopen(path, "we");
	if (!f || fwrite(page->data, 1, page->len, f) != page->len || fclose(f)) {
		err_errno(e, "writing %s", path);
		goto out;
	}
	/* env says 127 where the program does not exist */
	for (; rc == 127 && tried < sizeof browsers / sizeof *browsers; tried++)
		rc = print_with(browsers[tried], dir, stop, e);
	if (rc < 0)
		goto out;
	if (rc == 127) {
		err_set(e, MOE_ERR_SYS, "a PDF is printed by Chromium, which is not installed (looked for "
			"%s, %s, %s ...); --format html gives a page that any browser prints", browsers[0],
			browsers[1], browsers[2]);
		goto out;
	}
	snprintf(path, sizeof path, "%s/page.pdf", dir);
	if (rc) {
		err_set(e, MOE_ERR_SYS, "%s could not print the page: status %d", browsers[tried - 1], rc);
		goto out;
	}
	status = read_all(path, out, e);
out:
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return status;
}
