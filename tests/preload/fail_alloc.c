/*
 * fail_alloc.c - LD_PRELOAD: the FAIL_AT-th allocation after the libraries are loaded fails, or
 * with FAIL_ALL=1 that one and all after it. FAIL_MARK names a file that is made when it happened.
 * For glibc; not for sanitized programs, which have an allocator of their own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static atomic_long left; /* allocations until the one that fails; 0 = not counting */
static int all;
static const char *mark;

__attribute__((constructor)) static void start(void)
{
	const char *at = getenv("FAIL_AT");

	all = getenv("FAIL_ALL") != NULL;
	mark = getenv("FAIL_MARK");
	atomic_store(&left, at ? atol(at) : 0);
}

static int fails(void)
{
	long n = atomic_load(&left);
	int fd;

	if (n <= 0)
		return n < 0 && all;
	if (atomic_fetch_sub(&left, 1) != 1)
		return 0;
	atomic_store(&left, -1);
	fd = mark ? open(mark, O_WRONLY | O_CREAT, 0644) : -1;
	if (fd >= 0)
		close(fd);
	return 1;
}

void *malloc(size_t n)
{
	if (!fails())
		return __libc_malloc(n);
	errno = ENOMEM;
	return NULL;
}

void *calloc(size_t n, size_t size)
{
	if (!fails())
		return __libc_calloc(n, size);
	errno = ENOMEM;
	return NULL;
}

void *realloc(void *p, size_t n)
{
	if (!fails())
		return __libc_realloc(p, n);
	errno = ENOMEM;
	return NULL;
}

void *aligned_alloc(size_t align, size_t n)
{
	return fails() ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
	void *p = fails() ? NULL : __libc_memalign(align, n);

	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}
