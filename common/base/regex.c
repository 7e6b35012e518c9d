#include "common/base/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/xalloc.h"

#define OPTIONS (PCRE2_CASELESS | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C)
/* Steps of a match: some milliseconds at most, and hundredths of one once it has been too long. */
#define STEPS 100000
#define STEPS_AGAIN 2000
#define HEAP_KIB 4096

struct regex {
	pcre2_code *code;
	atomic_bool looked; /* the translation was tried */
	atomic_bool gave_up;
};

static pthread_mutex_t translating = PTHREAD_MUTEX_INITIALIZER;

struct regex *regex_new(struct slice text, struct buf *why)
{
	struct regex *r;
	pcre2_code *code;
	PCRE2_SIZE at = 0;
	PCRE2_UCHAR message[160];
	int error;

	code = pcre2_compile((PCRE2_SPTR)text.p, text.n, OPTIONS, &error, &at, NULL);
	if (!code) {
		if (pcre2_get_error_message(error, message, sizeof(message)) < 0)
			message[0] = '\0';
		buf_addf(why, "at offset %zu: %s", at, (const char *)message);
		return NULL;
	}
	r = xcalloc(1, sizeof(*r));
	r->code = code;
	return r;
}

void regex_free(struct regex *r)
{
	if (!r)
		return;
	pcre2_code_free(r->code);
	free(r);
}

/* Where memory cannot be made executable this fails, and matches are interpreted. */
static void translate(struct regex *r)
{
	if (atomic_load(&r->looked))
		return;
	pthread_mutex_lock(&translating);
	if (!atomic_load(&r->looked)) {
		(void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
		atomic_store(&r->looked, true);
	}
	pthread_mutex_unlock(&translating);
}

static enum regex_result gave_up(struct regex *r)
{
	return atomic_exchange(&r->gave_up, true) ? REGEX_GAVE_UP_AGAIN : REGEX_GAVE_UP;
}

/* Working memory of a thread; the bound is set for each match. */
struct workspace {
	pcre2_match_data *data;
	pcre2_match_context *bound;
};

static pthread_key_t workspace_key;
static pthread_once_t workspace_once = PTHREAD_ONCE_INIT;

static void workspace_free(void *arg)
{
	struct workspace *w = arg;

	pcre2_match_data_free(w->data);
	pcre2_match_context_free(w->bound);
	free(w);
}

static void workspace_make_key(void)
{
	if (pthread_key_create(&workspace_key, workspace_free) != 0)
		fatal("no key for the memory of matches");
}

static struct workspace *workspace_get(void)
{
	struct workspace *w;

	pthread_once(&workspace_once, workspace_make_key);
	w = pthread_getspecific(workspace_key);
	if (w)
		return w;
	w = xcalloc(1, sizeof(*w));
	w->data = pcre2_match_data_create(1, NULL);
	w->bound = pcre2_match_context_create(NULL);
	if (!w->data || !w->bound || pthread_setspecific(workspace_key, w) != 0)
		fatal("out of memory for matches");
	pcre2_set_heap_limit(w->bound, HEAP_KIB);
	return w;
}

static int run(const struct regex *r, struct slice subject)
{
	struct workspace *w = workspace_get();
	PCRE2_SPTR s = (PCRE2_SPTR)(subject.n ? subject.p : "");
	int rc;

	pcre2_set_match_limit(w->bound, atomic_load(&r->gave_up) ? STEPS_AGAIN : STEPS);
	rc = pcre2_match(r->code, s, subject.n, 0, 0, w->data, w->bound);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter has a stack of its own */
		rc = pcre2_match(r->code, s, subject.n, 0, PCRE2_NO_JIT, w->data, w->bound);
	return rc;
}

enum regex_result regex_match(struct regex *r, struct slice subject)
{
	int rc;

	translate(r);
	rc = run(r, subject);
	if (rc >= 0)
		return REGEX_YES;
	return rc == PCRE2_ERROR_NOMATCH ? REGEX_NO : gave_up(r);
}
