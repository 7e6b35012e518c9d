#include "cli/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/xalloc.h"

#define SILENCE_SECONDS 120 /* between two lines of an answer */

static int no_connection(const char *path, char **ret_error)
{
	bool forbidden = errno == EACCES || errno == EPERM;

	*ret_error =
		xasprintf(forbidden ? "%s: %s: be root or a member of control-group"
				    : "%s: %s: is sluiced running, with the same configuration?",
			  path, strerror(errno));
	return forbidden ? CLI_REFUSED : CLI_NO_DAEMON;
}

static int connect_to(const char *path, int *ret_fd, char **ret_error)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct timeval silence = {.tv_sec = SILENCE_SECONDS};
	int fd;

	if (!slice_copy(slice_str(path), sun.sun_path, sizeof(sun.sun_path))) {
		*ret_error = xasprintf("%s: too long for a socket: set control-socket", path);
		return CLI_REFUSED;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)) < 0) {
		int rc = no_connection(path, ret_error);

		if (fd >= 0)
			close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

/* A daemon that refuses may close before it has read all: its answer counts, not what fails here. */
static void send_request(int fd, const char *command, json_t *args)
{
	json_t *request = json_pack("{s:s, s:o}", "command", command, "args", args);
	char *text = json_dumps(request, JSON_COMPACT);
	char *line = xasprintf("%s\n", text);
	size_t n = strlen(line), at = 0;
	ssize_t sent = 0;

	for (; at < n && sent >= 0; at += sent > 0 ? (size_t)sent : 0)
		sent = send(fd, line + at, n - at, MSG_NOSIGNAL);

	free(line);
	free(text);
	json_decref(request);
}

/* One line of the answer; -1: there are more to come, else the exit status. */
static int take_line(const char *text, const struct client_events *e, char **ret_error)
{
	json_t *line = json_loads(text, 0, NULL), *data = json_object_get(line, "data"),
	       *progress = json_object_get(line, "progress");
	const char *status = json_string_value(json_object_get(line, "status")),
		   *message = json_string_value(json_object_get(line, "message"));
	int rc = -1;

	if (!line) {
		*ret_error = xstrdup("the daemon gave an answer that is not understood: "
				     "are sluice and sluiced of the same version?");
		rc = CLI_REFUSED;
	}
	if (data)
		e->on_data(data, e->arg);
	if (progress && e->on_progress)
		e->on_progress(progress, e->arg);
	if (status && strcmp(status, "success") == 0) {
		rc = CLI_DONE;
	} else if (status) {
		*ret_error = xstrdup(message && *message ? message : "refused");
		rc = CLI_REFUSED;
	}
	json_decref(line);
	return rc;
}

static int read_answer(int fd, const struct client_events *e, char **ret_error)
{
	FILE *in = fdopen(fd, "r");
	char *text = NULL;
	size_t cap = 0;
	int rc = -1;

	if (!in) {
		close(fd);
		*ret_error = xstrdup(strerror(errno));
		return CLI_REFUSED;
	}
	errno = 0;
	while (rc < 0 && getline(&text, &cap, in) > 0)
		rc = take_line(text, e, ret_error);
	if (rc < 0) {
		*ret_error =
			xstrdup(errno == EAGAIN || errno == EWOULDBLOCK
					? "the daemon went silent: see its log"
					: "the daemon closed the connection before its answer was "
					  "complete: see its log");
		rc = CLI_NO_DAEMON;
	}
	free(text);
	fclose(in);
	return rc;
}

int client_run(const char *socket_path, const char *command, json_t *args,
	       const struct client_events *events, char **ret_error)
{
	int fd, rc;

	*ret_error = NULL;
	rc = connect_to(socket_path, &fd, ret_error);
	if (rc) {
		json_decref(args);
		return rc;
	}
	send_request(fd, command, args);
	return read_answer(fd, events, ret_error);
}
