#include "master/master.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/rng.h"
#include "common/base/xalloc.h"
#include "common/shm/limits.h"

#define LOCK_WAIT_SEC 60
#define OUT_SUFFIX "-out"

/* The bells alone take a descriptor for each worker slot in every process. */
void setup_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) < 0)
			log_warn(NULL, "cannot raise the limit of open files",
				 LOG_S("error", strerror(errno)));
	}
}

static void look_up_user(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
	const struct passwd *pw = getpwnam(name);

	if (!pw)
		fatal("user \"%s\" does not exist: create it (useradd --system %s) or set user in "
		      "[global]",
		      name, name);
	*ret_uid = pw->pw_uid;
	*ret_gid = pw->pw_gid;
}

void setup_users(struct master *m)
{
	const struct conf_global *g = conf_global(m->conf);

	if (m->debug || geteuid() != 0)
		return;
	snprintf(m->spool_user, sizeof(m->spool_user), "%s", g->user ? g->user : "sluice");
	look_up_user(m->spool_user, &m->spool_uid, &m->spool_gid);
	/* with `user` set, one account serves all; else workers have their own */
	if (g->user)
		snprintf(m->out_user, sizeof(m->out_user), "%s", g->user);
	else
		snprintf(m->out_user, sizeof(m->out_user), "sluice" OUT_SUFFIX);
	look_up_user(m->out_user, &m->out_uid, &m->out_gid);
	if (g->group) {
		const struct group *gr = getgrnam(g->group);

		if (!gr)
			fatal("group \"%s\" does not exist: create it or change group in [global]",
			      g->group);
		m->spool_gid = m->out_gid = gr->gr_gid;
	}
}

static void make_directory(const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	char *copy = xstrdup(path), *p;
	struct stat st;

	for (p = copy + 1; *p; p++)
		if (*p == '/') {
			*p = '\0';
			if (mkdir(copy, 0755) < 0 && errno != EEXIST)
				fatal("cannot make directory %s: %s", copy, strerror(errno));
			*p = '/';
		}
	free(copy);
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		fatal("cannot make directory %s: %s", path, strerror(errno));
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		fatal("%s is not a directory", path);
	/* CAP_CHOWN is all that is needed: root changes the mode of what is its own for the moment */
	if ((st.st_mode & 07777) != mode && (geteuid() == 0 || st.st_uid == geteuid())) {
		if (st.st_uid != geteuid() && chown(path, 0, (gid_t)-1) < 0)
			fatal("cannot take %s over: %s", path, strerror(errno));
		if (chmod(path, mode) < 0)
			fatal("cannot set the mode of %s: %s", path, strerror(errno));
	}
	if (geteuid() == 0 && chown(path, uid, gid) < 0)
		fatal("cannot give %s to its user: %s", path, strerror(errno));
}

/* The directory of an accounting file is made where there is none; one that is there is left alone. */
static void make_acct_directory(const struct master *m, const char *path)
{
	char *dir = xstrdup(path), *slash = strrchr(dir, '/');
	struct stat st;

	if (slash && slash != dir) {
		*slash = '\0';
		if (stat(dir, &st) < 0 && errno == ENOENT)
			make_directory(dir, 0750, m->spool_uid, m->spool_gid);
	}
	free(dir);
}

void setup_directories(struct master *m)
{
	const struct conf_global *g = conf_global(m->conf);
	size_t i;

	make_directory(g->spool_dir, 0750, m->spool_uid, m->spool_gid);
	/*
	 * The resolver makes its socket and cache here, as another user than ours: sticky, so that
	 * it cannot replace the lock or the control socket.
	 */
	make_directory(g->runtime_dir, m->out_uid ? 01775 : 0755, 0, m->out_gid);
	for (i = 0; i < conf_acct_file_count(m->conf); i++)
		make_acct_directory(m, conf_acct_file_at(m->conf, i)->path);
}

/* RUNTIME-DIR/_var_spool_sluice.lock: one family for one spool. */
static char *lock_path(const struct conf_global *g)
{
	char *name = xstrdup(g->spool_dir), *path, *p;

	for (p = name; *p; p++)
		if (*p == '/')
			*p = '_';
	path = xasprintf("%s/%s.lock", g->runtime_dir, name);
	free(name);
	return path;
}

/* Who of those that wrote themselves into the lock file still lives: "worker[mta1] 4711, …". */
static char *lock_holders(int fd)
{
	struct buf text = BUF_INIT, alive = BUF_INIT;
	struct slice rest, line;
	char *ret;

	if (lseek(fd, 0, SEEK_SET) == 0)
		(void)!fd_read_all(fd, 1 << 20, &text);
	rest = buf_slice(&text);
	while (slice_next(&rest, '\n', &line)) {
		ptrdiff_t space = slice_rchr(line, ' ');
		uint64_t pid;

		if (space < 0 || !slice_u64(slice_from(line, (size_t)space + 1), &pid))
			continue;
		if (kill((pid_t)pid, 0) == 0 || errno == EPERM)
			buf_addf(&alive, "%s%.*s", alive.n ? ", " : "", SLICE_ARG(line));
	}
	if (alive.n == 0)
		buf_add_str(&alive, "an unknown process");
	ret = buf_take(&alive);
	buf_done(&text);
	return ret;
}

void setup_lock_note(const struct master *m, const char *who)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "%s %ld\n", who, (long)getpid());

	if (n > 0 && write(m->lock_fd, line, (size_t)n) != n)
		log_warn(NULL, "cannot write to the lock file", LOG_S("error", strerror(errno)));
}

static void lock_wait(const struct conf_global *g, int fd, const char *path, bool named)
{
	unsigned waited_ms = 0;
	bool told = false;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			fatal("cannot lock %s: %s", path, strerror(errno));
		if (!told || waited_ms >= LOCK_WAIT_SEC * 1000) {
			char *who = named ? lock_holders(fd)
					  : xstrdup("a sluiced with another runtime-dir");

			if (waited_ms >= LOCK_WAIT_SEC * 1000)
				fatal("spool %s is still in use by %s: stop that first",
				      g->spool_dir, who);
			log_warn(NULL, "the spool is in use; waiting up to 60 s",
				 LOG_S("spool", g->spool_dir), LOG_S("holders", who));
			free(who);
			told = true;
		}
		(void)poll(NULL, 0, 50);
		waited_ms += 50;
	}
}

/*
 * The lock file names its holders; the lock on the directory itself keeps away who has another
 * runtime-dir, or found it empty.
 */
void setup_lock(struct master *m)
{
	const struct conf_global *g = conf_global(m->conf);
	char *path = lock_path(g);

	m->lock_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (m->lock_fd < 0)
		fatal("cannot open the lock file %s: %s", path, strerror(errno));
	lock_wait(g, m->lock_fd, path, true);
	m->spool_fd = open(g->spool_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->spool_fd < 0)
		fatal("cannot open the spool %s: %s", g->spool_dir, strerror(errno));
	lock_wait(g, m->spool_fd, g->spool_dir, false);
	if (ftruncate(m->lock_fd, 0) < 0)
		log_warn(NULL, "cannot empty the lock file", LOG_S("error", strerror(errno)));
	setup_lock_note(m, "master");
	free(path);
}

static int make_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		fatal("cannot make an eventfd: %s (raise the limit of open files, or lower "
		      "max-workers)",
		      strerror(errno));
	return fd;
}

void setup_shared(struct master *m)
{
	const struct conf_global *g = conf_global(m->conf);
	struct shm_config c = {.max_workers = (uint32_t)g->max_workers,
			       .ring_size = g->outcome_ring_size,
			       .max_live_queues = (uint32_t)g->max_live_queues};
	int fds[2];
	uint32_t i;

	m->family = rng_u64();
	m->shm = shm_new(&c);
	m->by_slot = xcalloc(c.max_workers, sizeof(struct child *));
	m->bells = xcalloc(c.max_workers, sizeof(int));
	for (i = 0; i < c.max_workers; i++)
		m->bells[i] = make_eventfd();
	m->spooler_bell = make_eventfd();
	limits_set_bells(m->bells, c.max_workers);
	if (pipe2(fds, O_CLOEXEC) < 0)
		fatal("cannot make a pipe: %s", strerror(errno));
	m->death_read = fds[0];
	m->death_write = fds[1];
	m->conf_fd = setup_conf_fd(m->conf);
}

int setup_conf_fd(const struct conf *conf)
{
	struct slice text = conf_merged(conf);
	int fd = memfd_create("sluice.conf", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || fd_write_all(fd, text.p, text.n) < 0)
		fatal("cannot write the merged configuration: %s", strerror(errno));
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		fatal("cannot seal the merged configuration: %s", strerror(errno));
	return fd;
}

static int open_listener(const struct conf_listener *l, char **ret_error)
{
	struct sockaddr_storage sa;
	socklen_t len = ip_to_sockaddr(&l->ip, l->port, &sa);
	int fd, one = 1;

	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (sa.ss_family == AF_INET6)
			(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, 4096) < 0) {
		char text[IP_TEXT_MAX];

		*ret_error = xasprintf("%s:%u: cannot listen on %s port %u: %s", l->at.file,
				       l->at.line, ip_text(&l->ip, text), l->port, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static void check_source(const struct conf_origin *at, const char *vmta,
			 const struct conf_source_host *s)
{
	struct sockaddr_storage sa;
	socklen_t len = ip_to_sockaddr(&s->ip, 0, &sa);
	int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[IP_TEXT_MAX];

	if (fd < 0)
		return;
	if (bind(fd, (struct sockaddr *)&sa, len) < 0 && errno == EADDRNOTAVAIL)
		log_warn(NULL, "a source address is not on this machine: nothing can leave from it",
			 LOG_S("address", ip_text(&s->ip, text)), LOG_S("vmta", vmta),
			 LOG_S("file", at->file), LOG_U("line", at->line));
	close(fd);
}

void setup_check_sources(const struct conf *conf)
{
	size_t i, j;

	for (i = 0; i < conf_vmta_count(conf); i++) {
		const struct conf_vmta *v = conf_vmta_at(conf, i);

		for (j = 0; j < v->smtp_source_host.n; j++)
			check_source(&v->at, v->name, &v->smtp_source_host.v[j]);
	}
}

static int find_listener(const struct listener *set, size_t n, const struct conf_listener *l)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (ip_eq(&set[i].ip, &l->ip) && set[i].port == l->port)
			return set[i].fd;
	return -1;
}

int setup_listeners(const struct conf *conf, const struct listener *old, size_t old_count,
		    struct listener *ret, size_t *ret_count, char **ret_error)
{
	size_t n = conf_listener_count(conf), i;

	if (n > MASTER_LISTENERS_MAX) {
		*ret_error = xasprintf("there are %zu listeners; at most %d are possible", n,
				       MASTER_LISTENERS_MAX);
		return ERR_RANGE;
	}
	for (i = 0; i < n; i++) {
		const struct conf_listener *l = conf_listener_at(conf, i);
		int fd = find_listener(old, old_count, l);

		if (fd < 0)
			fd = open_listener(l, ret_error);
		if (fd < 0)
			break;
		ret[i] = (struct listener){.ip = l->ip, .port = l->port, .fd = fd};
	}
	*ret_count = i;
	if (i == n)
		return 0;
	while (i-- > 0)
		if (find_listener(old, old_count, conf_listener_at(conf, i)) < 0)
			close(ret[i].fd);
	*ret_count = 0;
	return ERR_SYS;
}

/* group of the control socket: so that its members can connect; what they may do is checked there */
static gid_t control_gid(const struct conf_global *g)
{
	const char *name = g->control_group ? g->control_group : g->monitor_group;
	const struct group *gr = name ? getgrnam(name) : NULL;

	if (name && !gr)
		fatal("group \"%s\" does not exist: create it, or change control-group or "
		      "monitor-group in [global]",
		      name);
	return gr ? gr->gr_gid : (gid_t)-1;
}

void setup_control_socket(struct master *m)
{
	const struct conf_global *g = conf_global(m->conf);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	gid_t gid = control_gid(g);
	/* two groups: both must be able to connect, and are told apart by their credentials */
	mode_t mode = g->control_group && g->monitor_group ? 0666 : gid != (gid_t)-1 ? 0660 : 0600;
	int fd;

	if (strlen(g->control_socket) >= sizeof(sa.sun_path))
		fatal("control-socket %s is longer than %zu bytes: choose a shorter path",
		      g->control_socket, sizeof(sa.sun_path) - 1);
	memcpy(sa.sun_path, g->control_socket, strlen(g->control_socket) + 1);
	(void)unlink(sa.sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 128) < 0)
		fatal("cannot open the control socket %s: %s", sa.sun_path, strerror(errno));
	if (gid != (gid_t)-1 && chown(sa.sun_path, (uid_t)-1, gid) < 0)
		log_warn(NULL, "cannot give the control socket to its group",
			 LOG_S("socket", sa.sun_path), LOG_S("error", strerror(errno)));
	if (chmod(sa.sun_path, mode) < 0)
		fatal("cannot set the mode of %s: %s", sa.sun_path, strerror(errno));
	m->control_listener = fd;
}

/* What master needs from here on: to become the children's users, low ports on reload, to end them. */
void setup_capabilities(const struct master *m)
{
	capng_select_t all = CAPNG_SELECT_BOTH;

	if (m->debug || geteuid() != 0)
		return;
	/* where systemd has set the bounding set already, nobody may change it any more */
	if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
		all = CAPNG_SELECT_CAPS;
	capng_clear(all);
	if (capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SETUID, CAP_SETGID,
			  CAP_NET_BIND_SERVICE, CAP_KILL, -1) < 0 ||
	    capng_apply(all) < 0)
		fatal("cannot drop capabilities: %s", strerror(errno));
}

void setup_log(const struct conf *conf, bool debug)
{
	const struct conf_global *g = conf_global(conf);

	log_set_level((enum log_level)g->log_level);
	if (debug)
		return;
	log_set_journal(strcmp(g->log, "journald") == 0);
	if (g->log[0] == '/') {
		int fd = open(g->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

		if (fd < 0)
			fatal("cannot open the log file %s: %s", g->log, strerror(errno));
		log_set_fd(fd);
	}
}
