#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/fd.h"
#include "common/base/xalloc.h"
#include "spooler/session_private.h"

static struct smtp_server *server_of(const struct session_mail *mail)
{
	const struct session_thread *t = mail->m.poster;

	return t->server;
}

static char *big_path(const struct session_mail *mail)
{
	return xasprintf("%s/%llu", server_of(mail)->big_dir, (unsigned long long)mail->m.msgid);
}

/* Keeps the budget in step with the memory that the message takes. */
static bool charge(struct session_mail *mail)
{
	int64_t more =
		(int64_t)(mail->m.body.cap + mail->head.cap) + mail->envelope - mail->charged;

	if (more == 0)
		return true;
	if (!intake_memory(server_of(mail)->intake, more) && more > 0)
		return false;
	mail->charged += more;
	return true;
}

bool session_envelope_fits(struct session_mail *mail)
{
	return mail->envelope < mail->charged + SESSION_ENVELOPE_STEP || charge(mail);
}

static void refuse_file(struct session_mail *mail, const char *what, int err)
{
	log_error(&mail->session->log, what, LOG_S("error", strerror(err)),
		  LOG_U("msgid", mail->m.msgid));
	session_mail_refuse(mail, "452 4.3.1 the message cannot be stored now; try again later");
}

static void spill(struct session_mail *mail)
{
	struct buf *body = &mail->m.body;

	if (fd_write_all(mail->big_fd, body->p, body->n) < 0) {
		refuse_file(mail, "cannot write the file of a big message", errno);
		return;
	}
	mail->spilled += body->n;
	buf_clear(body);
}

static void open_file(struct session_mail *mail)
{
	char *path = big_path(mail);

	/* Workers read it through their group. */
	mail->big_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (mail->big_fd < 0) {
		refuse_file(mail, "cannot make the file of a big message", errno);
	} else {
		mail->big = true;
		spill(mail);
	}
	free(path);
	/* A buffer that doubled up to here is more than the pieces need that follow. */
	if (mail->big && !session_mail_refused(mail) && mail->m.body.cap > SESSION_MEMORY_MAX) {
		buf_done(&mail->m.body);
		(void)charge(mail);
	}
}

void session_body_grown(struct session_mail *mail)
{
	if (session_mail_refused(mail))
		return;
	if (!charge(mail)) {
		session_mail_refuse(mail,
				    "452 4.3.1 too many messages are being received; try again "
				    "later");
		return;
	}
	if (!mail->big && mail->m.body.n > SESSION_MEMORY_MAX)
		open_file(mail);
	else if (mail->big && mail->m.body.n >= SESSION_SPILL_SIZE)
		spill(mail);
}

void session_body_end(struct session_mail *mail)
{
	if (session_mail_refused(mail))
		return;
	if (mail->big && mail->m.body.n)
		spill(mail);
	if (session_mail_refused(mail))
		return;
	mail->m.size = mail->spilled + mail->m.body.n;
	mail->m.big = mail->big;
	if (mail->big)
		session_body_release(mail);
}

void session_body_release(struct session_mail *mail)
{
	buf_done(&mail->m.body);
	(void)charge(mail);
}

void session_body_drop(struct session_mail *mail)
{
	session_body_release(mail);
	if (mail->big_fd >= 0)
		close(mail->big_fd);
	mail->big_fd = -1;
	if (mail->big) {
		char *path = big_path(mail);

		if (unlink(path) < 0 && errno != ENOENT)
			log_warn(NULL, "cannot remove the file of a refused message",
				 LOG_S("file", path), LOG_S("error", strerror(errno)));
		free(path);
	}
	mail->big = false;
}
