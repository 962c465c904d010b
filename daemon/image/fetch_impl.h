/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of fetch.h. A *flight* is one chunk on its way, known by (key of the content, chunk
 * number), whoever wants it. A *transfer* is one request for a part of a blob that brings flights;
 * its *pieces* are compressed streams with one or several chunks each. A flight that is wanted and
 * in no transfer waits in fetcher.wanted or fetcher.foreseen, or in fetcher.paused after a failure.
 * Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_FETCH_IMPL_H
#define FIRSTLIGHT_IMAGE_FETCH_IMPL_H

#include "base/limits.h"
#include "base/map.h"
#include "image/fetch.h"
#include "image/fetch_plan.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/sync.h"
#include "loop/work.h"

#define NS_PER_MS    1000000ull
#define FETCH_SLOTS  256  /* of the small tables below; a collision only forgets */
#define FETCH_RECENT 1024 /* and of this one only costs a second fetch */

struct content;
struct early;
struct fill;
struct transfer;

struct log_slot {
	uint64_t what, at_ns;
};

/* A chunk that was not here in time. */
struct late_chunk {
	uint64_t number, at_ns; /* of its object */
	uint32_t chunk;
};

/* How a content of several chunks is read. Bits are of chunks, by their number; of those that share
 * one only the first counts. */
#define FOLLOW_WORDS 4
struct follow {
	uint64_t number; /* of the object */
	uint64_t read[FOLLOW_WORDS], asked[FOLLOW_WORDS];
	uint64_t read_bytes, unused_bytes; /* of chunks: read; asked for here and not read */
	uint64_t from, end;                /* the chunk that was read last */
	unsigned reads, transfers;
};

/* A content of one chunk that was brought: newer than what a batch was told of the disk? */
struct recent {
	struct digest key;
	uint64_t turn;
};

struct fetcher {
	struct loop *loop;
	struct registry *registry;
	struct layers *layers;
	struct objects *objects;
	struct work *threads;
	struct scope scope;   /* transfers of demand, fills */
	struct map flights;   /* flight.node */
	struct list wanted;   /* flight.link, of demand */
	struct list foreseen; /* flight.link, of prediction */
	struct list paused;   /* flight.link */
	struct timer unpause;
	struct defer dispatch;
	struct list running; /* transfer.link */
	struct timer stalls;
	uint64_t looked_ns; /* when it was their turn last */
	struct timer gathered;
	unsigned gathers;
	unsigned waiting_ahead; /* fetch_foreseen()s */
	uint64_t gather_ns;     /* so long they are waited for */
	unsigned demands;       /* their transfers */
	unsigned predictions;
	uint64_t awaited; /* bytes that they have asked for and that have not come */
	unsigned backgrounds;
	unsigned follows;
	unsigned firsts;    /* tasks of fetch_first.c */
	struct waitq quiet; /* no demand waits any more; a background transfer has ended */
	struct list fills;  /* fill.link */
	unsigned fills_running;
	unsigned holds;
	unsigned knows[FETCH_SLOTS]; /* by layer */
	uint64_t demand_ns;          /* when a read last had to wait */
	uint64_t busy_ns;            /* since when that has happened again and again */
	uint32_t hot;                /* layer that was read last on demand: its fill goes first */
	struct waitq fills_changed;
	size_t buffered;     /* compressed bytes that transfers may hold */
	struct list room[2]; /* room_waiter.link: demand, background */
	struct map kept;     /* kept.node: chunks that are in memory only */
	struct list kept_order;
	size_t kept_bytes;
	struct timer kept_timer;
	struct list early;               /* struct early, in fetch_early.c */
	size_t early_bytes, early_held;  /* in all; that have memory */
	unsigned early_n, early_running; /* ranges; requests */
	uint64_t early_turn;             /* counts the ranges */
	struct timer early_timer;
	struct content *contents[FETCH_CACHED_OBJECTS];
	struct link_seen link;
	struct readahead ahead[FETCH_SLOTS];
	struct log_slot logged[FETCH_SLOTS];
	struct late_chunk late[FETCH_SLOTS];
	struct follow follow[FETCH_SLOTS];
	unsigned paths;                     /* are looked for, for the log */
	struct recent recent[FETCH_RECENT]; /* by the key's first bytes */
	uint64_t turn;                      /* counts them */
	void (*watch)(void *arg, struct object *obj);
	void *watch_arg;
	struct fetch_stats stats;
};

/* Key bytes of the map: no padding. */
struct flight_name {
	struct digest key;
	uint32_t chunk;
};

struct flight {
	struct map_node node;
	struct fetcher *f;
	struct flight_name name;
	struct digest digest; /* of the whole content */
	uint64_t content_size;
	uint32_t chunks_n;  /* of the content */
	struct object *obj; /* a reference; NULL: a content that is written whole */
	/* Where it is fetched from. */
	uint32_t layer, index; /* the chunk's number there */
	struct index_chunk c;
	uint32_t source, ref, skip_hosts, tries, rounds;
	bool transient;  /* a failure of this round may go away */
	bool along;      /* nobody has asked for it: the place is not by sources of obj */
	bool exact;      /* it is known what else is needed: no neighbours */
	bool ahead;      /* it is foreseen, and no read waits for it */
	bool again;      /* it was taken out of a transfer that stood still */
	bool unwritten;  /* has come, into memory */
	uint64_t looked; /* fetcher.early_turn when it was looked for there */
	/* Who wants it. */
	unsigned waiters;
	struct waitq done;
	bool ended;
	int result;
	struct err *err; /* of the last failure; NULL = none */
	/* Where it is now. */
	struct list link; /* in wanted, foreseen or paused */
	uint64_t due_ns;  /* of a paused one; else 0 */
	struct transfer *in;
	uint32_t slot, piece; /* in in->flights, in in->pieces once there are any */
	bool putting;         /* a zeros chunk: its task runs */
	bool bad;             /* its bytes were wrong; the transfer has not ended yet */
};

/* --- fetch.c: flights ------------------------------------------------------------------------- */

struct flight *flight_get(struct fetcher *f, const struct digest *key, uint32_t chunk);

/* What a flight is about, if it is new. */
struct flight_what {
	struct digest key, digest;
	uint64_t content_size;
	uint32_t chunk, chunks_n;
	uint32_t layer, index;
	const struct index_chunk *c;
	struct object *obj; /* takes a reference; may be NULL */
};
struct flight *flight_new(struct fetcher *f, const struct flight_what *w);
/* The same for a chunk of obj; its place is not set. */
struct flight *flight_for(struct fetcher *f, struct object *obj, uint32_t chunk);

/* It is to be asked for, from where its place says. */
void flight_want(struct fetcher *f, struct flight *fl);
/* It is there, or cannot be had: wakes all and forgets it. */
void flight_end(struct fetcher *f, struct flight *fl, int result, struct err *err);
/* A try has failed; who failed? It is tried again elsewhere if somebody waits. */
enum flight_fault {
	FAULT_BYTES,    /* of the host: wrong bytes */
	FAULT_REGISTRY, /* no bytes */
	FAULT_NONE      /* the transfer was stopped */
};
struct flight_failure {
	enum flight_fault fault;
	int code;
	uint32_t host, hosts_n;
};
void flight_failed(struct fetcher *f, struct flight *fl, const struct flight_failure *why,
		   struct err *err);
/* Where what is known of a content of one chunk lies. */
struct recent *recent_slot(struct fetcher *f, const struct digest *key);
/* Demand is under way: the background waits. */
bool fetch_busy(const struct fetcher *f);
/* May a line about `what` be written now? */
bool fetch_may_log(struct fetcher *f, uint64_t what);
struct readahead *fetch_ahead(struct fetcher *f, uint32_t layer);

/* --- fetch_report.c: the log line of a read that failed -----------------------------------------
 */

struct failed_read {
	struct object *obj;
	uint64_t off;
	uint32_t layer, chunk; /* 0, INDEX_NONE: not known */
};
may_suspend void report_failed_read(struct fetcher *f, const struct failed_read *r,
				    const char *error);

/* --- fetch_chunks.c: what the indexes say -------------------------------------------------------
 */

/* The chunk of obj that covers off, from any source. -EIO. */
struct chunk_found {
	uint32_t layer, chunk;       /* whose index says so; number within the content */
	const struct index_chunk *c; /* until the next call or suspend */
};
int chunk_at(struct fetcher *f, struct object *obj, uint64_t off, struct chunk_found *ret,
	     struct err *err);
/* Sets where fl is to be fetched, by the first good source from fl->source on. -ENOENT: no more. */
int chunk_place(struct fetcher *f, struct flight *fl, struct err *err);
void chunks_forget(struct fetcher *f);

struct batch_object {
	struct index_object o;
	struct object *obj; /* of several chunks or large: a reference; else NULL */
	uint32_t number;    /* in the index */
	uint8_t state;      /* enum object_state */
	bool failed;        /* obj could not be had */
};

/* Chunks [first, first + n) of a layer, with their objects and what of them is here. */
struct batch {
	uint32_t layer, first, n;
	uint64_t turn; /* when it asked for states */
	struct index_chunk *chunks;
	uint32_t *owner; /* of each chunk: in objects */
	struct batch_object *objects;
	size_t objects_n;
};
may_suspend int batch_read(struct fetcher *f, uint32_t layer, uint32_t first, uint32_t n,
			   struct batch *ret, struct err *err);
/* Asks again what is complete: time has passed. */
may_suspend int batch_states(struct fetcher *f, struct batch *b, struct err *err);
void batch_free(struct fetcher *f, struct batch *b);
/* Is chunk i not here? */
bool batch_missing(struct fetcher *f, const struct batch *b, uint32_t i);
/* Its number within its content. */
uint32_t batch_chunk_number(const struct batch *b, uint32_t i);
/* A flight for chunk i; NULL: one is under way already, or no memory. */
struct flight *batch_flight(struct fetcher *f, const struct batch *b, uint32_t i);
/* For the planner; i is the ref. */
struct plan_chunk plan_of(const struct index_chunk *c, uint32_t ref);

/* --- fetch_transfer.c ---------------------------------------------------------------------------
 */

enum piece_state { PIECE_COMING, PIECE_FULL, PIECE_DONE };

struct piece {
	uint64_t off, len, have;
	uint32_t first, n; /* in transfer.flights */
	enum piece_state state;
	bool nomem;
	uint8_t *data;
	struct list link; /* in transfer.ready */
};

struct transfer {
	struct list link; /* in fetcher.running */
	struct fetcher *f;
	struct scope *scope;   /* its decoders run here */
	struct fill *fill;     /* NULL = demand */
	struct object *follow; /* a reference; of what fetch_follow.c asks for */
	struct early *early;   /* NULL, or where its bytes are, or come sooner */
	enum fetch_class class;
	uint32_t layer;
	struct digest blob;
	enum codec codec;
	char *ref; /* for the registry */
	uint32_t skip_hosts;
	bool urgent;             /* of the background: a read waits for it now */
	bool alone;              /* a second try, or foreseen: nothing comes along */
	bool predicted;          /* counted in fetcher.predictions */
	bool fed;                /* its bytes come from early; else from the registry */
	uint64_t awaited;        /* its part of fetcher.awaited */
	struct flight **flights; /* NULL: taken away by somebody in a hurry */
	uint32_t flights_n, flights_cap;
	struct piece *pieces;   /* NULL until planned */
	uint32_t pieces_n, at;  /* the first that is not complete */
	uint64_t off, end, pos; /* in the blob; pos: next byte to come */
	uint64_t first_ns;      /* when the first came, */
	uint64_t moved_ns;      /* the last, or when it was asked for; 0: not yet */
	struct list ready;
	unsigned decoders;
	struct waitq idle; /* no decoder runs */
	size_t reserved;   /* of fetcher.buffered */
	struct blob_answer answer;
};

/* Takes wanted flights into transfers; at the end of the turn. */
void transfers_dispatch(struct defer *d);
/* Runs it as a task that ends with transfer_end(). -EAGAIN, -ENOMEM, -ECANCELED. */
int transfer_start(struct transfer *t);
struct transfer *transfer_new(struct fetcher *f, uint32_t layer, uint32_t ref, uint32_t flights_cap,
			      struct err *err);
/* In any order. */
void transfer_add(struct transfer *t, struct flight *fl);
/* Ends its flights, and it. */
void transfer_end(struct transfer *t, int code, struct err *err);
/* Its bytes are not needed any more. */
void piece_drop(struct transfer *t, struct piece *p);
/* Takes fl out of its transfer, if its bytes are not just there or near. */
bool transfer_overtake(struct flight *fl);
/* Nanoseconds without a byte, before the first or after it, that are no sign of a loss. */
uint64_t fetch_patience(const struct fetcher *f, bool begun);
/* Looks for transfers that stand still. */
void transfers_look(struct timer *t);

/* The next bytes have come; no more than it has asked for. -ECANCELED: it needs no more. */
int transfer_data(void *arg, uint64_t off, const void *data, size_t n);

/* --- fetch_early.c ------------------------------------------------------------------------------
 */

/* Takes flights whose bytes are here early into transfers. */
void early_dispatch(struct fetcher *f);
/* A read waits for t. */
void early_hurry(struct transfer *t);
/* Gives t its bytes as they come. -EAGAIN: the rest is to be had from the registry; what
 * transfer_data() answers. */
may_suspend int early_feed(struct transfer *t);
/* t ends. */
void early_leave(struct transfer *t);
void early_forget_old(struct timer *t);
void early_fini(struct fetcher *f);

/* --- fetch_decode.c -----------------------------------------------------------------------------
 */

/* A task: decodes, verifies and stores what is in t->ready. arg: struct transfer. */
may_suspend int transfer_decoder(void *arg);
/* --- fetch_room.c: the bound of compressed bytes ------------------------------------------------
 */

/* Until n more may be held; demand first, else first come, first served. -ECANCELED. */
may_suspend int room_take(struct fetcher *f, size_t n, enum fetch_class class);
void room_give(struct fetcher *f, size_t n);

/* --- fetch_memory.c: what the disk does not take ------------------------------------------------
 */

/* bytes: malloc()ed, taken. -ENOMEM. */
int memory_keep(struct fetcher *f, const struct flight_name *name, uint8_t *bytes,
		uint32_t size) must_check;
/* Until the next suspend; NULL. */
const uint8_t *memory_get(struct fetcher *f, const struct digest *key, uint32_t chunk);
/* It is on the disk now. */
void memory_drop(struct fetcher *f, const struct digest *key, uint32_t chunk);
void memory_forget_old(struct timer *t);
void memory_fini(struct fetcher *f);

/* --- fetch_follow.c -----------------------------------------------------------------------------
 */

/* A transfer for obj, a reference that is taken, has ended. */
void follow_ended(struct fetcher *f, struct object *obj, int result);

/* --- fetch_fill.c -------------------------------------------------------------------------------
 */

/* Chunk `index` of its layer could not be had. */
void fill_failed(struct fill *fl, uint32_t index, const struct flight_failure *why);
may_suspend void fills_stop(struct fetcher *f);

#endif
