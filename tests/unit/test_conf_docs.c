/* links: common/base common/conf */
/* Every INI block in the documentation loads, and the generated reference is the one that the table makes. */
#include "tests/unit/conf_text.h"

#include <fcntl.h>
#include <glob.h>

#include "common/base/fd.h"

static void read_whole(const char *path, struct buf *to)
{
	int fd = open(path, O_RDONLY);

	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_eq(fd_read_all(fd, (size_t)64 << 20, to), 0, "%s", path);
	close(fd);
}

/* Loads the blocks between ```ini and ``` of one file; returns how many there are. */
static size_t load_blocks(const char *path)
{
	struct buf text = BUF_INIT, block = BUF_INIT;
	struct slice rest, line;
	bool inside = false;
	size_t count = 0;
	unsigned number = 0;

	read_whole(path, &text);
	rest = buf_slice(&text);
	while (slice_next(&rest, '\n', &line)) {
		number++;
		if (!inside && slice_eq_str(slice_trim(line), "```ini")) {
			inside = true;
			buf_clear(&block);
		} else if (inside && slice_eq_str(slice_trim(line), "```")) {
			char *messages;
			struct conf *c;

			/* blocks show a part of a file; what they name and do not define is added */
			if (strstr(buf_cstr(&block), "/warmup") &&
			    !strstr(buf_cstr(&block), "virtual-mta warmup"))
				buf_add_str(&block, "\n[virtual-mta warmup]\n");
			c = load_bytes(block.p, block.n, &messages);
			cr_expect_not_null(c, "%s: the block that ends in line %u:\n%s", path,
					   number, messages);
			conf_free(c);
			free(messages);
			inside = false;
			count++;
		} else if (inside) {
			buf_add_slice(&block, line);
			buf_add_char(&block, '\n');
		}
	}
	cr_expect_not(inside, "%s: a block does not end", path);
	buf_done(&text);
	buf_done(&block);
	return count;
}

/* Beside the files that blocks are written to, as it is beside sluice.conf. Returns its path. */
static char *put_providers(void)
{
	struct buf text = BUF_INIT;
	char *path;

	read_whole("etc/providers.conf", &text);
	path = text_file("providers.conf", text.p, text.n);
	buf_done(&text);
	return path;
}

Test(conf_docs, ini_blocks_load)
{
	char *providers = put_providers();
	static const char *const patterns[] = {"README.md", "docs/*.md", "docs/*/*.md"};
	size_t count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		glob_t g;

		if (glob(patterns[i], 0, NULL, &g) != 0)
			continue;
		for (size_t j = 0; j < g.gl_pathc; j++)
			count += load_blocks(g.gl_pathv[j]);
		globfree(&g);
	}
	cr_expect_geq(count, 10);
	unlink(providers);
	free(providers);
}

static void assert_fresh(void (*print)(FILE *to), const char *path)
{
	struct buf file = BUF_INIT;
	char *made = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&made, &n);

	print(f);
	fclose(f);
	read_whole(path, &file);
	cr_expect_str_eq(made, buf_cstr(&file), "%s is stale: run make docs", path);
	free(made);
	buf_done(&file);
}

Test(conf_docs, reference_and_manual_are_fresh)
{
	assert_fresh(conf_print_reference, "docs/reference/settings.md");
	assert_fresh(conf_print_manual, "docs/man/sluice.conf.5");
}
