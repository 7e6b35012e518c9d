#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/xalloc.h"
#include "common/dns/dns.h"
#include "common/ipc/child.h"
#include "common/loop/stream.h"
#include "common/spool/spool.h"
#include "worker/connection.h"
#include "worker/condemn.h"
#include "worker/context.h"
#include "worker/feed.h"
#include "worker/hosts.h"
#include "worker/inhand.h"
#include "worker/duties.h"
#include "worker/notice.h"
#include "worker/post.h"
#include "worker/probe.h"
#include "worker/queue.h"
#include "worker/resume.h"
#include "worker/reroute.h"
#include "worker/reselect.h"
#include "worker/shared.h"
#include "worker/show.h"
#include "worker/site.h"
#include "worker/slots.h"
#include "worker/sweep.h"
#include "worker/transaction.h"
#include "worker/warmup.h"

#define PROCESS_MAGIC 0x70726f63u
#define TICK USEC_PER_SEC
#define SPOOL_AGAIN (100 * USEC_PER_MSEC)
#define STOP_LOOK (10 * USEC_PER_MSEC)
#define MASTER_GONE_TIME \
	(3 * USEC_PER_SEC) /* with what follows it less than the 5 s that master gives */
/* At the end: for QUITs, and for the committer to take what is in the ring. */
#define FAREWELL_TIME USEC_PER_SEC
#define CLOCK_JUMP (60 * MSEC_PER_SEC)
#define HOSTS_TIDY_TICKS 60

/* The process around a struct worker. */
struct process {
	unsigned magic;
	const struct heritage *h;
	struct worker w;
	struct ipc_child *master;
	struct loop_io *bell;
	struct loop_timer *tick, *open_again, *stop_look;
	uint64_t ticks;
	int64_t clock_offset; /* wall minus monotonic, ms */
	usec_t stop_by;
	bool farewell; /* open transactions were given up: only the ring is left */
	bool said_waiting;
};

/* --- configuration --- */

static bool apply_conf(struct process *p, int fd, uint64_t generation)
{
	struct worker *w = &p->w;
	struct conf_messages msgs = {0};
	struct conf *c = conf_read_fd(fd, &msgs), *old = w->conf;

	conf_messages_done(&msgs);
	if (!c)
		return false;
	w->conf = c;
	w->conf_gen = (uint32_t)generation;
	w->vmta = conf_vmta_find(c, slice_str(w->vmta_name));
	atomic_store(&w->slot->max_smtp_out, w->vmta ? w->vmta->max_smtp_out : 0);
	if (!p->h->debug)
		log_set_level((enum log_level)conf_global(c)->log_level);
	if (w->queues)
		queues_reconfigure(w);
	if (w->slots)
		slots_adopt(w);
	conf_free(old);
	return true;
}

/* --- the spool --- */

static void learn_vmta(struct worker *w)
{
	struct spool_read *r;
	uint32_t id;

	if (spool_read_begin(w->spool, &r) < 0)
		return;
	if (spool_vmta_find(r, slice_str(w->vmta_name), &id) == 0) {
		w->vmta_id = id;
		atomic_store(&w->slot->vmta_id, id);
	}
	spool_read_end(r);
}

static bool open_spool(struct process *p)
{
	struct worker *w = &p->w;
	const struct spool_options o = {.dir = conf_global(w->conf)->spool_dir};
	char *error = NULL;
	int rc;

	if (!w->spool) {
		rc = spool_open(&o, &w->spool, &error);
		if (rc < 0) {
			w->spool = NULL;
			if (rc != ERR_NOT_FOUND)
				fatal("cannot open the spool: %s", error ? error : err_text(rc));
			free(error);
			return false;
		}
	}
	if (!w->vmta_id)
		learn_vmta(w);
	return w->vmta_id != 0;
}

/* Until the spooler has made what we read. */
static void on_open_again(void *arg)
{
	struct process *p;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	if (open_spool(p)) {
		feed_wake(p->w.feed);
		return;
	}
	if (!p->said_waiting)
		log_debug(NULL, "waiting for the spooler to make the spool");
	p->said_waiting = true;
	loop_timer_set(p->open_again, SPOOL_AGAIN);
}

/* --- stopping --- */

struct open_count {
	uint32_t transactions, slots;
	bool give_up;
};

static void stop_site(struct site *s, void *arg)
{
	struct open_count *n = arg;
	struct connection *c, *next;

	n->slots += s->slots;
	warmup_settle(s);
	for (c = TAILQ_FIRST(&s->connections); c; c = next) {
		next = TAILQ_NEXT(c, link);
		connection_retire(c);
		if (!c->txn)
			continue;
		n->transactions++;
		if (n->give_up)
			transaction_on_loss(c->txn, "shutdown");
	}
}

static void stop_queue(struct queue *q, void *arg)
{
	stop_site(q->home, arg);
}

static void stop_done(struct process *p)
{
	log_debug(NULL, "worker stops");
	loop_stop(p->w.loop);
}

static void on_stop_look(void *arg)
{
	struct process *p;
	struct open_count n = {0};
	usec_t now;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	now = loop_now(p->w.loop);
	n.give_up = now >= p->stop_by && !p->farewell;
	queues_each(&p->w, stop_queue, &n);
	shared_each(&p->w, stop_site, &n);
	if (n.give_up) {
		p->farewell = true;
		p->stop_by = now + FAREWELL_TIME;
	} else if (now >= p->stop_by) {
		log_warn(NULL,
			 "stops with transactions under way: shutdown-timeout is over; their mail "
			 "may be delivered twice");
		stop_done(p);
		return;
	}
	if (n.transactions == 0 && n.slots == 0 && post_is_empty(p->w.post)) {
		stop_done(p);
		return;
	}
	loop_timer_set(p->stop_look, STOP_LOOK);
}

/* Nobody is there to send it later. */
static void tell_now(struct queue *q, void *arg)
{
	(void)arg;
	notice_tick(q->site, true);
}

static void stop(struct process *p, usec_t within)
{
	usec_t by = loop_now(p->w.loop) + within;

	if (p->w.stopping && by >= p->stop_by)
		return;
	p->w.stopping = true;
	p->stop_by = by;
	queues_each(&p->w, tell_now, NULL);
	atomic_store(&p->w.slot->state, SHM_WORKER_DRAINING);
	on_stop_look(p);
}

/* --- master --- */

static enum ipc_conf_answer on_conf(struct ipc_message *m, uint64_t generation, void *arg)
{
	struct process *p;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	return apply_conf(p, m->fds[0], generation) ? IPC_CONF_TAKEN : IPC_CONF_UNUSABLE;
}

static void on_command(struct ipc_message *m, void *arg)
{
	struct process *p;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	show_answer(&p->w, m->fds[0], dec_bytes(&m->payload));
	m->fds[0] = -1;
}

static void on_stop(usec_t within, void *arg)
{
	struct process *p;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	stop(p, within);
}

static void on_master_gone(void *arg)
{
	on_stop(MASTER_GONE_TIME, arg);
}

static const struct ipc_child_role role = {.name = "worker",
					   .conf = on_conf,
					   .control = on_command,
					   .stop = on_stop,
					   .gone = on_master_gone};

static void on_bell(int what, void *arg)
{
	struct process *p;

	(void)what;
	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	bell_quiet(p->h->bells[p->h->slot]);
	slots_pump(&p->w);
	warmups_look(&p->w);
	if (p->w.vmta_id)
		feed_wake(p->w.feed);
}

/* --- once a second --- */

static int64_t clock_offset(const struct worker *w)
{
	return (int64_t)loop_wall(w->loop) - (int64_t)(loop_now(w->loop) / USEC_PER_MSEC);
}

static void watch_clock(struct process *p)
{
	struct worker *w = &p->w;
	int64_t offset = clock_offset(w), jump = offset - p->clock_offset;

	p->clock_offset = offset;
	if (jump < (int64_t)CLOCK_JUMP && jump > -(int64_t)CLOCK_JUMP)
		return;
	log_error(NULL, "the wall clock has jumped: nothing expires before one more attempt",
		  LOG_I("seconds", jump / (int64_t)MSEC_PER_SEC));
	w->epoch = loop_now(w->loop);
	w->epoch_wall = loop_wall(w->loop);
	if (w->vmta_id)
		feed_rewind(w->feed);
}

static void on_tick(void *arg)
{
	struct process *p;
	struct worker *w;

	CAST_MAGIC(p, arg, PROCESS_MAGIC);
	w = &p->w;
	atomic_store_explicit(&w->slot->heartbeat, loop_now(w->loop), memory_order_relaxed);
	watch_clock(p);
	queues_tidy(w);
	queues_report_limits(w);
	sweep_run(w->sweep);
	if (++p->ticks % HOSTS_TIDY_TICKS == 0)
		hosts_tidy(w->hosts);
	loop_timer_set(p->tick, TICK);
}

/* --- the process --- */

static void raise_descriptors(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static void worker_setup(struct process *p)
{
	struct worker *w = &p->w;

	w->dns = dns_client_new(w->loop, conf_global(w->conf)->runtime_dir);
	w->tls = stream_tls_client_new();
	w->epoch = loop_now(w->loop);
	w->epoch_wall = loop_wall(w->loop);
	w->post = post_new(w);
	w->inhand = inhand_new(w);
	w->hosts = hosts_new(w->loop);
	w->slots = slots_new(w);
	w->probes = probes_new(w);
	w->sites = sites_new(w);
	w->duties = duties_new(w);
	w->resumes = resumes_new();
	w->feed = feed_new(w);
	w->sweep = sweep_new(w);
	w->reroutes = reroutes_new(w);
	w->reselects = reselects_new(w);
	w->warmups = warmups_new(w);
	w->condemned = condemned_list_new();
	w->queues = queues_new(w);
	slots_adopt(w);
	p->clock_offset = clock_offset(w);
}

/* Nothing is said to anybody any more; leases that are left are master's to give back. */
static void worker_teardown(struct process *p)
{
	struct worker *w = &p->w;

	limit_unwait_all(w->shm, p->h->slot);
	counter_set(w->counters, COUNTER_RECIPIENTS_IN_HAND, 0);
	counter_set(w->counters, COUNTER_CONNECTIONS_OUT_OPEN, 0);
	queues_free(w->queues);
	reroutes_free(w->reroutes);
	reselects_free(w->reselects);
	warmups_free(w->warmups);
	inhand_free(w->inhand);
	sweep_free(w->sweep);
	condemned_list_free(w->condemned);
	feed_free(w->feed);
	duties_free(w->duties);
	resumes_free(w->resumes);
	shared_free_all(w);
	sites_free(w->sites);
	probes_free(w->probes);
	slots_free(w->slots);
	hosts_free(w->hosts);
	post_free(w->post);
	dns_client_free(w->dns);
	stream_tls_free(w->tls);
	spool_close(w->spool);
	ipc_child_free(p->master);
	loop_io_free(p->bell);
	loop_timer_free(p->tick);
	loop_timer_free(p->open_again);
	loop_timer_free(p->stop_look);
	loop_free(w->loop);
	conf_free(w->conf);
	p->magic = 0;
	free(p);
}

static void listen_to_master(struct process *p)
{
	struct loop *l = p->w.loop;

	p->master = ipc_child_new(l, p->h, &role, p);
	p->bell = loop_io_new(l, p->h->bells[p->h->slot], LOOP_READ, on_bell, p);
	p->tick = loop_timer_new(l, on_tick, p);
	p->open_again = loop_timer_new(l, on_open_again, p);
	p->stop_look = loop_timer_new(l, on_stop_look, p);
}

int worker_main(const struct heritage *h)
{
	struct process *p = xcalloc(1, sizeof(*p));
	struct worker *w = &p->w;

	p->magic = PROCESS_MAGIC;
	p->h = w->h = h;
	w->magic = WORKER_MAGIC;
	w->vmta_name = h->vmta;
	w->shm = h->shm;
	w->slot = shm_worker(h->shm, h->slot);
	w->counters = &w->slot->counters;
	w->loop = loop_new();
	raise_descriptors();
	if (!apply_conf(p, h->conf_fd, p->h->conf_gen))
		fatal("the configuration handed over by master cannot be read");
	worker_setup(p);
	listen_to_master(p);
	on_open_again(p);
	on_tick(p);
	atomic_store(&w->slot->state, SHM_WORKER_RUNNING);
	ipc_child_ready(p->master);
	log_debug(NULL, "worker serves", LOG_S("orphan", worker_is_orphan(w) ? "yes" : "no"));
	loop_run(w->loop);
	worker_teardown(p);
	return 0;
}
