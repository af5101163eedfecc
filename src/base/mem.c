/*
 * mem.c - see mem.h. Linux promises more memory than it has and kills whoever uses it; a control
 * group kills at its own limit, long before the machine is full.
 *
 * Both versions of control groups: a group and every group above it has a limit and what is used of
 * it. Pages of files count as used there, but the kernel takes them back: they are room.
 */
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define COPY_OUT 4096 /* below, what is fetched costs less than what passes the caches */

/* Where a version keeps its figures, and which lines of memory.stat count pages of files. */
static const struct version {
	const char *controller; /* in /proc/self/cgroup: "ID:CONTROLLERS:PATH" */
	const char *dir, *limit, *used, *file[2];
} versions[] = {
	{ "", "", "memory.max", "memory.current", { "inactive_file", "active_file" } },
	{ "memory", "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
		{ "total_inactive_file", "total_active_file" } },
};

/* The number that a file begins with; 0 = it has none ("max" is none). */
static int read_number(const char *path, unsigned long long *out)
{
	FILE *f = fopen(path, "r");
	int ok = f && fscanf(f, "%llu", out) == 1;

	if (f)
		fclose(f);
	return ok;
}

static unsigned long long file_pages(const char *dir, const struct version *v)
{
	unsigned long long sum = 0, x;
	char path[1200], line[128], key[64];
	FILE *f;

	snprintf(path, sizeof path, "%s/memory.stat", dir);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%63s %llu", key, &x) == 2 && (!strcmp(key, v->file[0]) ||
			!strcmp(key, v->file[1])))
			sum += x;
	if (f)
		fclose(f);
	return sum;
}

/* Room in one group; UINT64_MAX without a limit. */
static uint64_t room_in(const char *dir, const struct version *v)
{
	unsigned long long limit, used, file;
	char path[1200];

	snprintf(path, sizeof path, "%s/%s", dir, v->limit);
	if (!read_number(path, &limit))
		return UINT64_MAX;
	snprintf(path, sizeof path, "%s/%s", dir, v->used);
	if (!read_number(path, &used))
		return UINT64_MAX;
	file = file_pages(dir, v);
	used = used > file ? used - file : 0;
	return limit > used ? limit - used : 0;
}

/* The tightest of a group and those above it, up to the mount: in a container the path may name
 * groups that are not visible, and the mount is the container's own. */
static uint64_t room_up(const char *mount, char *group, const struct version *v)
{
	uint64_t least = UINT64_MAX, room;
	char dir[1100], *slash;

	for (;;) {
		snprintf(dir, sizeof dir, "%s%s%s", mount, v->dir, group);
		room = room_in(dir, v);
		least = room < least ? room : least;
		slash = strrchr(group, '/');
		if (!slash)
			return least;
		*slash = 0;
	}
}

uint64_t mem_group_room(const char *list, const char *mount)
{
	FILE *f = fopen(list, "r");
	uint64_t least = UINT64_MAX, room;
	char line[1024];

	while (f && fgets(line, sizeof line, f)) {
		char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;

		if (!group)
			continue;
		*group++ = 0;
		group[strcspn(group, "\n")] = 0;
		for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
			if (strcmp(names + 1, versions[i].controller))
				continue;
			room = room_up(mount, group, &versions[i]);
			least = room < least ? room : least;
		}
	}
	if (f)
		fclose(f);
	return least;
}

uint64_t mem_available(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long long kib = 0;
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t all, room;
	char line[128];

	while (f && !kib && fgets(line, sizeof line, f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
			kib = 0;
	if (f)
		fclose(f);
	all = kib ? (uint64_t)kib << 10 : pages > 0 &&
		size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
	room = mem_group_room("/proc/self/cgroup", "/sys/fs/cgroup");
	return room < all ? room : all;
}

void mem_copy_out(void *to, const void *from, size_t n)
{
#ifdef __SSE2__
	const char *in = from;
	char *out = to;
	size_t i = -(uintptr_t)out % 16;

	if (n >= COPY_OUT) {
		memcpy(out, in, i);
		for (; i + 16 <= n; i += 16)
			_mm_stream_si128((void *)(out + i), _mm_loadu_si128((const void *)(in + i)));
		memcpy(out + i, in + i, n - i);
		_mm_sfence();
		return;
	}
#endif
	memcpy(to, from, n);
}
