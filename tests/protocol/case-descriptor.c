/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The map of the descriptors, and what two wrong ideas of it look like. */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STRIDE ((off_t)(UBLK_MAX_QUEUE_DEPTH * sizeof(struct ublk_io_desc)))

static int map(struct device *d, size_t len, int prot, off_t offset)
{
	void *at = mmap(NULL, len, prot, MAP_SHARED, d->char_fd, offset);

	if (at == MAP_FAILED)
		return -errno;
	munmap(at, len);
	return 0;
}

static void read_only(void)
{
	void *at;
	struct device d;

	device_new(&d, 0, 1, 32);
	say_result(map(&d, 4096, PROT_READ | PROT_WRITE, 0));
	at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, d.char_fd, 0);
	say_result(mprotect(at, 4096, PROT_READ | PROT_WRITE) ? -errno : 0);
	munmap(at, 4096);
	device_delete(&d);
}

static void exact_length(void)
{
	struct device d;

	device_new(&d, 0, 1, 256); /* 6144 bytes: two pages */
	say_result(map(&d, 4096, PROT_READ, 0));
	say_result(map(&d, 8192, PROT_READ, 0));
	say_result(map(&d, 12288, PROT_READ, 0));
	say_result(map(&d, 6144, PROT_READ, 0)); /* mmap itself rounds up */
	device_delete(&d);
}

static void offsets(void)
{
	struct device d;

	device_new(&d, 0, 2, 32);
	say_result(map(&d, 4096, PROT_READ, STRIDE));
	say_result(map(&d, 4096, PROT_READ, 2 * STRIDE));
	say_result(map(&d, 4096, PROT_READ, 4096)); /* accepted, and queue 0's */
	device_delete(&d);
}

static void one_process(void)
{
	struct device d;
	pid_t pid;

	device_new(&d, 0, 1, 1);
	say("ours ");
	say("%s", result_name(map(&d, 4096, PROT_READ, 0)));
	pid = fork();
	if (!pid) {
		say(", a child's %s", result_name(map(&d, 4096, PROT_READ, 0)));
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	device_delete(&d);
}

static void opened_once(void)
{
	struct device d;
	char path[32];
	int fd;

	device_new(&d, 0, 1, 1);
	snprintf(path, sizeof(path), "/dev/ublkc%u", d.info.dev_id);
	fd = open(path, O_RDWR);
	say_result(fd < 0 ? -errno : 0);
	device_delete(&d);
}

static void fields(void)
{
	const struct ublk_io_desc *desc;
	struct event event;
	struct device d;
	int job;

	client_new();
	device_live(&d, 0, 1, 4);
	job = client_begin(&d, JOB_WRITE, 40960, 8192, -1);
	event = wait_io(&d, UBLK_IO_OP_WRITE, 80);
	desc = desc_of(&d, &event);
	say("op %u, %u sectors at %llu, addr %s", desc->op_flags & UBLK_IO_OP_MASK,
	    desc->nr_sectors, (unsigned long long)desc->start_sector,
	    desc->addr == buffer_of(&d, 0, event.tag) ? "the fetch's" : "another");
	serve(&d, &event);
	client_end(&d, job, 4000);
	device_delete(&d);
}

/* Every tag of the queue has a request of its own, and nobody answers. */
static void fill(struct device *d, unsigned depth, int cpu, uint64_t first, bool *have)
{
	int64_t end = patient_ms() + 8000;
	struct event event;
	unsigned i, n = 0;

	/* What comes before them, such as a scan of partitions, is served. */
	serve_for(d, 100);
	for (i = 0; i < depth; i++)
		client_begin(d, JOB_READ, (first + i * 8) * 512, 512 + i % 4 * 512, cpu);
	while (n < depth && patient_ms() < end) {
		if (!next(d, &event, 100))
			continue;
		if (desc_of(d, &event)->start_sector < first) {
			serve(d, &event);
			continue;
		}
		have[event.queue * depth + event.tag] = true;
		n++;
	}
	if (n < depth)
		give_up("%u of %u tags are in use", n, depth);
}

/* What fill() left open is answered. */
static void empty(struct device *d, unsigned depth, bool *have)
{
	struct event event = { .kind = IO };

	for (event.queue = 0; event.queue < d->info.nr_hw_queues; event.queue++)
		for (event.tag = 0; event.tag < depth; event.tag++)
			if (have[event.queue * depth + event.tag])
				serve(d, &event);
	serve_for(d, 200);
}

/* The report's structure: eight bytes too long. Its array runs ahead of the driver's. */
struct long_desc {
	struct ublk_io_desc desc;
	uint64_t more;
};

static void desc_of_32_bytes(void)
{
	bool have[32] = { false };
	const struct long_desc *wrong;
	unsigned tag, right = 0, zero = 0;
	struct device d;

	client_new();
	device_live(&d, 0, 1, 32);
	fill(&d, 32, -1, 1024, have);
	wrong = (const void *)d.descs[0];
	for (tag = 0; tag < 32; tag++) {
		const struct ublk_io_desc *seen = &wrong[tag].desc;

		if (!memcmp(seen, &d.descs[0][tag], sizeof(*seen)))
			right++;
		else if (!seen->op_flags && !seen->nr_sectors && !seen->start_sector && !seen->addr)
			zero++;
	}
	say("of 32 tags %u right, %u empty, %u of others", right, zero, 32 - right - zero);
	empty(&d, 32, have);
	device_delete(&d);
}

static void wrong_stride(void)
{
	const struct ublk_io_desc *wrong;
	bool have[16] = { false };
	unsigned tag, own = 0, others = 0;
	struct device d;

	client_new();
	device_live(&d, 0, 2, 8);
	/* depth * 24, rounded up to a page: right for one queue only */
	wrong = mmap(NULL, 4096, PROT_READ, MAP_SHARED, d.char_fd, 4096);
	if (wrong == MAP_FAILED)
		give_up("map: %s", strerror(errno));
	fill(&d, 8, 0, 1024, have);
	fill(&d, 8, 1, 4096, have);
	for (tag = 0; tag < 8; tag++) {
		own += !memcmp(&wrong[tag], &d.descs[1][tag], sizeof(*wrong));
		others += !memcmp(&wrong[tag], &d.descs[0][tag], sizeof(*wrong));
	}
	say("of 8 tags of queue 1: %u its own, %u of queue 0", own, others);
	empty(&d, 8, have);
	munmap((void *)wrong, 4096);
	device_delete(&d);
}

static void descriptor_of_64_bytes(void)
{
	const struct ublk_io_desc *desc;
	struct event event;
	struct device d;
	const char *at;
	int job;

	need(UBLK_F_IO_DESC_SIZE);
	client_new();
	device_init(&d);
	d.info = (struct ublk_dev_info){ .nr_hw_queues = 1, .queue_depth = 2,
		.max_io_buf_bytes = IO_BYTES, .dev_id = UBLK_DEV_ID_ANY, .io_desc_size = 2048 / 8,
		.flags = UBLK_F_IO_DESC_SIZE };
	expect_zero(control(&d, UBLK_CMD_ADD_DEV, &d.info, sizeof(d.info), 0), "ADD_DEV");
	expect_zero(device_params(&d), "SET_PARAMS");
	device_open(&d); /* two tags fit one page in any size */
	fetch_all(&d);
	d.silent = true;
	expect_zero(start(&d), "START_DEV");
	job = client_begin(&d, JOB_READ, 8192, 4096, -1);
	if (!next(&d, &event, 4000))
		give_up("no request");
	at = (const char *)d.descs[0] + event.tag * 256;
	desc = (const void *)at;
	say("%u sectors at %llu", desc->nr_sectors, (unsigned long long)desc->start_sector);
	commit(&d, &event, 4096);
	client_end(&d, job, 4000);
	device_delete(&d);
}

static unsigned in_flight(const struct device *d)
{
	char path[64];
	unsigned reads = 0, writes = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/ublkb%u/inflight", d->info.dev_id);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%u %u", &reads, &writes) != 2)
		give_up("%s: %s", path, strerror(errno));
	fclose(file);
	return reads + writes;
}

static void all_tags(void)
{
	unsigned i, looks;
	struct device d;
	int jobs[256];

	client_new();
	device_live(&d, 0, 2, 32);
	/* In order to use all of them at once, the first ones wait until as many are there. */
	for (i = 0; i < 64; i++)
		jobs[i] = client_begin(&d, JOB_READ, i * 4096, 4096, 0);
	for (; i < 128; i++)
		jobs[i] = client_begin(&d, JOB_READ, i * 4096, 4096, 1);
	for (looks = 0; in_flight(&d) < 64 && looks < 200; looks++)
		doze(100);
	for (i = 0; i < 128; i++)
		if (client_end(&d, jobs[i], 8000) != 4096)
			give_up("read %u", i);
	say("%u and %u of 32", (unsigned)__builtin_popcount(d.seen[0]),
	    (unsigned)__builtin_popcount(d.seen[1]));
	device_delete(&d);
}

const struct claim descriptor_claims[] = {
	{ "char-device-opens-once", "ublk_ch_open", opened_once, ALWAYS("-EBUSY") },
	{ "descriptors-are-read-only", "ublk_ch_mmap", read_only,
	  { { 0, "-EPERM, -EACCES" },
	    { KERNEL(6, 18), "-EPERM, 0" },
	    { KERNEL(7, 3), "-EPERM, -EACCES" } } },
	{ "descriptors-length-is-exact", "ublk_ch_mmap", exact_length,
	  ALWAYS("-EINVAL, 0, -EINVAL, 0") },
	{ "descriptors-offset", "ublk_ch_mmap", offsets, ALWAYS("0, -EINVAL, 0") },
	{ "descriptors-for-one-process", "ublk_ch_mmap", one_process,
	  ALWAYS("ours 0, a child's -EINVAL") },
	{ "descriptor-fields", "ublk_setup_iod", fields,
	  ALWAYS("op 1, 16 sectors at 80, addr the fetch's") },
	{ "symptom-descriptor-of-32-bytes", "ublk_get_iod", desc_of_32_bytes,
	  ALWAYS("of 32 tags 1 right, 8 empty, 23 of others") },
	{ "symptom-wrong-stride", "ublk_ch_mmap", wrong_stride,
	  ALWAYS("of 8 tags of queue 1: 0 its own, 8 of queue 0") },
	{ "descriptor-size-is-the-stride", "ublk_get_iod", descriptor_of_64_bytes,
	  { { 0, NOT_OFFERED }, { KERNEL(7, 2), "8 sectors at 16" } } },
	{ "all-tags-of-all-queues", "ublk_queue_rq", all_tags, ALWAYS("32 and 32 of 32") },
	{ 0 },
};
