/*
 * The control socket: one JSON object a line in, one a line out. Commands: rules (replaces the
 * plan), stats, mark, wait (answered when a counter gets there), flush, ids, drop, unlisten, listen,
 * quit.
 */
#ifndef TESTS_LIB_RECEIVER_CONTROL_H
#define TESTS_LIB_RECEIVER_CONTROL_H

#include <sys/un.h>

#include "tests/lib/receiver/listen.h"

static const struct {
	const char *name;
	size_t offset;
} counter_names[] = {
#define C(field)                                         \
	{                                                \
#field, offsetof(struct counters, field) \
	}
	C(connections), C(refused), C(limited), C(open),       C(mails),      C(messages), C(rcpts),
	C(rejected),	C(aborted), C(bytes),	C(handshakes), C(duplicates), C(seen),
#undef C
};

#define COUNTERS (sizeof(counter_names) / sizeof(counter_names[0]))

static uint64_t counter_value(const struct receiver *rc, size_t i)
{
	uint64_t value;

	memcpy(&value, (const char *)&rc->counters + counter_names[i].offset, sizeof(value));
	return value;
}

/* COUNTERS when there is none of that name. */
static size_t counter_index(const char *name)
{
	size_t i = 0;

	while (i < COUNTERS && (!name || strcmp(counter_names[i].name, name) != 0))
		i++;
	return i;
}

static void client_say(struct client *client, const struct text *text)
{
	size_t done = 0;

	while (done < text->n) {
		ssize_t n = send(client->watch.fd, text->p + done, text->n - done, MSG_NOSIGNAL);

		if (n < 0)
			return;
		done += (size_t)n;
	}
}

static void client_result(struct client *client, const char *error)
{
	struct text text = {0};

	text_puts(&text, error ? "{\"ok\":false,\"error\":" : "{\"ok\":true");
	if (error)
		text_json(&text, error, strlen(error));
	text_puts(&text, "}\n");
	client_say(client, &text);
	text_free(&text);
}

static void say_stats(struct receiver *rc, struct client *client)
{
	struct text text = {0};

	text_puts(&text, "{\"ok\":true");
	for (size_t i = 0; i < COUNTERS; i++)
		text_printf(&text, ",\"%s\":%llu", counter_names[i].name,
			    (unsigned long long)counter_value(rc, i));
	text_printf(&text, ",\"first\":%.6f,\"last\":%.6f", rc->counters.first, rc->counters.last);
	for (int i = 0; i < TALLY_KINDS; i++) {
		text_puts(&text, ",");
		tally_report(&text, (enum tally_kind)i);
	}
	text_puts(&text, "}\n");
	client_say(client, &text);
	text_free(&text);
}

/* Numbers up to `max` that were delivered not at all, or more than once (at most 1000 of each). */
static void say_ids(struct receiver *rc, struct client *client, size_t max)
{
	struct text text = {0};

	text_puts(&text, "{\"ok\":true");
	for (int twice = 0; twice < 2; twice++) {
		size_t n = 0, listed = 0;

		text_printf(&text, ",\"%s\":[", twice ? "duplicate" : "missing");
		for (size_t i = 0; i < max && i < rc->id_count; i++) {
			if (twice ? rc->ids[i] < 2 : rc->ids[i] > 0)
				continue;
			if (n++ < 1000)
				text_printf(&text, "%s%zu", listed++ ? "," : "", i);
		}
		text_printf(&text, "],\"%s_count\":%zu", twice ? "duplicate" : "missing", n);
	}
	text_puts(&text, "}\n");
	client_say(client, &text);
	text_free(&text);
}

static void drop_connections(struct receiver *rc, json_t *request)
{
	struct conn *next;

	for (struct conn *conn = rc->conns; conn; conn = next) {
		next = conn->next;
		if (glob_match(field_text(request, "listen"), conn->listen) &&
		    glob_match(field_text(request, "source"), conn->source))
			conn_close(rc, conn, "us", field_bool(request, "reset", false));
	}
}

static bool wait_over(struct receiver *rc, json_t *request)
{
	uint64_t value = counter_value(rc, counter_index(field_text(request, "counter")));
	double min = field_number(request, "min", -1), max = field_number(request, "max", -1);

	return (min < 0 || (double)value >= min) && (max < 0 || (double)value <= max);
}

static void control_answer_waiters(struct receiver *rc)
{
	for (struct client *client = rc->clients; client; client = client->next) {
		if (client->watch.dead || !client->waiting || !wait_over(rc, client->waiting))
			continue;
		json_decref(client->waiting);
		client->waiting = NULL;
		client_result(client, NULL);
	}
}

static void ids_reset(struct receiver *rc)
{
	if (rc->ids)
		memset(rc->ids, 0, rc->id_count);
	rc->counters.seen = rc->counters.duplicates = 0;
	rc->counters.first = rc->counters.last = 0;
	rc->counters.messages = rc->counters.rcpts = 0;
}

static void control_command(struct receiver *rc, struct client *client, json_t *request)
{
	const char *name = field_text(request, "cmd"), *member = NULL;

	if (!name) {
		client_result(client, "no cmd");
	} else if (strcmp(name, "rules") == 0) {
		bool done = plan_load(&rc->plan, request, &member);

		client_result(client, done ? NULL : member);
	} else if (strcmp(name, "stats") == 0) {
		say_stats(rc, client);
	} else if (strcmp(name, "ids") == 0) {
		say_ids(rc, client, (size_t)field_number(request, "max", 1e18));
	} else if (strcmp(name, "reset") == 0) {
		ids_reset(rc);
		client_result(client, NULL);
	} else if (strcmp(name, "mark") == 0) {
		tally_mark();
		client_result(client, NULL);
	} else if (strcmp(name, "flush") == 0) {
		if (rc->journal.open)
			journal_flush(&rc->journal);
		client_result(client, NULL);
	} else if (strcmp(name, "wait") == 0) {
		if (counter_index(field_text(request, "counter")) < COUNTERS)
			client->waiting = json_incref(request);
		else
			client_result(client, "no such counter");
	} else if (strcmp(name, "drop") == 0) {
		drop_connections(rc, request);
		client_result(client, NULL);
	} else if (strcmp(name, "unlisten") == 0) {
		size_t n = listener_close(rc, field_text(request, "listen"));

		client_result(client, n ? NULL : "no such listener");
	} else if (strcmp(name, "listen") == 0) {
		listen_range(rc, field_text(request, "listen"));
		client_result(client, NULL);
	} else if (strcmp(name, "quit") == 0) {
		rc->stop = true;
		client_result(client, NULL);
	} else {
		client_result(client, "unknown cmd");
	}
}

static void client_end(struct client *client)
{
	close(client->watch.fd);
	client->watch.dead = true;
	text_free(&client->in);
	json_decref(client->waiting);
	client->waiting = NULL;
}

static void client_ready(struct receiver *rc, struct watch *watch, uint32_t events)
{
	struct client *client = (struct client *)(void *)watch;
	char *lf;
	ssize_t n;

	(void)events;
	text_room(&client->in, 65536);
	n = recv(watch->fd, client->in.p + client->in.n, 65536, MSG_DONTWAIT);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			client_end(client);
		return;
	}
	client->in.n += (size_t)n;
	while (client->in.n && (lf = memchr(client->in.p, '\n', client->in.n))) {
		size_t length = (size_t)(lf - client->in.p);
		json_error_t error;
		json_t *request = json_loadb(client->in.p, length, 0, &error);

		if (request)
			control_command(rc, client, request);
		else
			client_result(client, error.text);
		json_decref(request);
		text_drop(&client->in, length + 1);
	}
}

static void control_ready(struct receiver *rc, struct watch *watch, uint32_t events)
{
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC);
	struct client *client;

	(void)events;
	if (fd < 0)
		return;
	client = need(calloc(1, sizeof(*client)));
	client->watch = (struct watch){.ready = client_ready, .fd = fd};
	client->next = rc->clients;
	rc->clients = client;
	watch_add(rc, &client->watch, EPOLLIN);
}

static void control_listen(struct receiver *rc, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	static struct watch only;
	struct watch *watch = &only;

	if (strlen(path) >= sizeof(address.sun_path))
		die("--control %s: longer than a socket's name may be", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	unlink(path);
	*watch = (struct watch){
		.ready = control_ready,
		.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
	};
	if (watch->fd < 0 || bind(watch->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(watch->fd, 16) < 0)
		die("%s: %s", path, strerror(errno));
	watch_add(rc, watch, EPOLLIN);
}

static void stdin_ready(struct receiver *rc, struct watch *watch, uint32_t events)
{
	char buf[256];

	(void)events;
	if (read(watch->fd, buf, sizeof(buf)) <= 0)
		rc->stop = true;
}

static void watch_stdin(struct receiver *rc)
{
	static struct watch watch = {.ready = stdin_ready, .fd = 0};

	watch_add(rc, &watch, EPOLLIN);
}

#endif
