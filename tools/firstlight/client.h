/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Talks to the daemon: dials, calls, and says in one line (and a hint) what went wrong. SIGINT,
 * SIGTERM and SIGHUP end a call: the daemon is told, and the command exits with 128 + the signal's
 * number.
 */
#ifndef FIRSTLIGHT_TOOLS_CLIENT_H
#define FIRSTLIGHT_TOOLS_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/task.h"

#define CLIENT_TIMEOUT_MS      30000      /* of a call, unless told */
#define CLIENT_FOREVER         UINT32_MAX /* as timeout_ms of a stream */

#define CONTROL_METHOD(name)   "/firstlight.control.v1.Control/" name
#define SNAPSHOTS_METHOD(name) "/containerd.services.snapshots.v1.Snapshots/" name

struct client;

/* Answers an exit code, or a negative code of client_* or client_fail(), which has the text. */
typedef int client_fn(struct client *c, void *arg);

/*
 * Runs fn as a task with a connection to the daemon at address, and answers the exit code for
 * main(). A failure is printed as that of command.
 */
int client_run(const char *command, const char *address, client_fn *fn, void *arg);

/* Like it; without a daemon fn runs with c NULL. */
int client_try(const char *command, const char *address, client_fn *fn, void *arg);

/* One message there, one back; ret_resp is client_free()'s. resp_type: &flc__…__descriptor. */
may_suspend int client_call(struct client *c, const char *method, const void *req,
			    const ProtobufCMessageDescriptor *resp_type, unsigned timeout_ms,
			    void *ret_resp) must_check;

/* A message of a stream; it is freed afterwards. Answers 0, or a negative code to end the call. */
typedef int client_message_fn(void *arg, void *msg);

/*
 * One message there, many back. timeout_ms is for all of them. 0 when the daemon has ended the
 * stream well; a negative code of fn ends it too, and is answered.
 */
may_suspend int client_stream(struct client *c, const char *method, const void *req,
			      const ProtobufCMessageDescriptor *resp_type, unsigned timeout_ms,
			      client_message_fn *fn, void *arg) must_check;

/* Connects again if the connection is of no use any more. */
may_suspend int client_reconnect(struct client *c) must_check;

void client_free(void *msg); /* NULL is allowed */

/* The failure that is printed when fn answers a negative code. Answers code. */
int client_fail(struct client *c, int code, const char *fmt, ...) printf_like(3, 4);

/* Its text so far, for a command that goes on all the same. */
const char *client_text(const struct client *c);

#endif
