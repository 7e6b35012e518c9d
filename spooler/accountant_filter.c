#include "spooler/accountant_filter.h"

/* Shell-like, only '*'; ASCII case-insensitive; linear back-tracking. */
static bool glob(struct slice pattern, struct slice s)
{
	size_t p = 0, i = 0, star = SIZE_MAX, from = 0;

	while (i < s.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = p++;
			from = i;
		} else if (p < pattern.n && ascii_lower(pattern.p[p]) == ascii_lower(s.p[i])) {
			p++;
			i++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			i = ++from;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*')
		p++;
	return p == pattern.n;
}

static void split(struct slice s, struct slice *ret_domain, struct slice *ret_vmta,
		  const char *no_slash)
{
	ptrdiff_t slash = slice_rchr(s, '/');

	*ret_domain = slash < 0 ? s : slice_sub(s, 0, (size_t)slash);
	*ret_vmta = slash < 0 ? slice_str(no_slash) : slice_from(s, (size_t)slash + 1);
}

bool accountant_filter_takes(const struct conf_strings *patterns, struct slice queue)
{
	struct slice domain, vmta;
	bool takes = false;

	if (!patterns->n)
		return true;
	split(queue, &domain, &vmta, "");
	for (size_t i = 0; i < patterns->n; i++) {
		struct slice pattern = slice_str(patterns->v[i]), pd, pv;

		takes = !pattern.n || pattern.p[0] != '!';
		split(slice_from(pattern, takes ? 0 : 1), &pd, &pv, "*");
		if (glob(pd, domain) && glob(pv, vmta))
			return takes;
	}
	return !takes;
}
