/*
 * resolver_server.h - RUNTIME-DIR/resolver.sock: requests of workers in, routes out (wire.h).
 */
#ifndef SLUICE_WORKER_RESOLVER_SERVER_H
#define SLUICE_WORKER_RESOLVER_SERVER_H

#include "worker/resolver_route.h"

#define RESOLVER_SOCKET "resolver.sock"

struct resolver_server_socket;

/* Listens (mode 0660). NULL with a reason in *ret_error (heap). routes is borrowed. */
struct resolver_server_socket *resolver_listen(struct loop *l, const char *runtime_dir,
					       struct routes *routes, char **ret_error);
/* Closes all connections; after it routes makes no more calls into this module: free it first. */
void resolver_unlisten(struct resolver_server_socket *s);

#endif
