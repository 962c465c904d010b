/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every limit of firstlight, by name. Units are in the names' last word or in the comment.
 * A limit that is reached is an answer (refuse, queue or wait), never a crash.
 */
#ifndef FIRSTLIGHT_BASE_LIMITS_H
#define FIRSTLIGHT_BASE_LIMITS_H

#include <stddef.h>

#define KiB(n) ((size_t)(n) << 10)
#define MiB(n) ((size_t)(n) << 20)

/* loop */
#define RING_ENTRIES       1024  /* submission slots; a full queue is flushed, never an error */
#define TASKS_MAX          16384 /* running tasks; spawn beyond it fails with -EAGAIN */
#define TASK_STACKS_POOLED 64    /* idle stacks kept for reuse */

/* worker threads */
#define WORK_QUEUE_MAX      32768 /* jobs of one pool, those that run too */
#define WORK_THREADS_FS     4
#define WORK_THREADS_REAPER 2
#define WORK_THREADS_IMAGE  4 /* tables of contents, records and files of objects */
#define WORK_THREADS_FETCH  4 /* decompression and hashing of what is fetched */

/* connections and RPCs */
#define CONNECTIONS_MAX         512
#define CONNECTION_STREAMS_MAX  256       /* concurrent streams of one connection */
#define GRPC_MESSAGE_IN_MAX     MiB(1)    /* one request message */
#define GRPC_MESSAGE_CLIENT_MAX MiB(16)   /* one response message that a client accepts */
#define GRPC_BUFFERED_MAX       MiB(64)   /* request bytes held, all connections together */
#define GRPC_STREAM_OUT_MAX     KiB(256)  /* response bytes queued on a stream before send waits */
#define GRPC_ERROR_TEXT_MAX     1024      /* bytes of a status message, before percent-encoding */
#define HEADER_LIST_MAX         KiB(16)   /* names + values of one header block */
#define H2_WINDOW_BYTES         KiB(1024) /* flow-control window that we offer */
#define H2_OUT_MAX              KiB(256)  /* bytes gathered for one write */
#define HANDSHAKE_TIMEOUT_MS    10000     /* from accept to the first complete SETTINGS */
#define WRITE_TIMEOUT_MS        60000     /* a peer that takes no byte for so long is dropped */
#define KEEPALIVE_IDLE_MS       300000    /* server: silence before a PING */
#define KEEPALIVE_TIMEOUT_MS    20000     /* no answer to a PING: the connection is closed */
#define RPC_TIMEOUT_MAX_MS      600000    /* a deadline later than this, or none, becomes this */
#define RPC_FOLLOW_MAX_MS       86400000ull /* the same for streams of progress and events */
#define DRAIN_TIMEOUT_MS        10000       /* SIGTERM: running RPCs may take so long */

/* starts of containers */
#define STARTS_MAX            1024    /* watched at once */
#define START_LEARNING_MAX    16      /* of these, that become a profile */
#define START_LEARN_MEMORY    MiB(64) /* while one does */
#define START_PROFILES_MEMORY MiB(16) /* decoded, while a start begins */
#define START_TOUCHES_MAX     32768   /* of one start */
#define START_WATCH_S         30      /* defaults of start.watch_s, */
#define START_QUIET_S         3       /* start.quiet_s */
#define START_WATCH_MAX_S     600
#define START_EXEC_MS         60000 /* from Prepare to its first program */
#define START_STEP_MS         50    /* it is looked after at least so often */
#define START_REPEATS         64    /* last touches among which FUSE's are looked for */
#define SPACES_MAX            4096  /* mount namespaces that are known */
#define SPACE_EVENTS_MAX      65536 /* that wait until it is known whose they are */
#define SPACE_TRIES           8     /* to find that out */
#define SPACE_RETRY_MS        5     /* after the first; doubled */
#define SPACE_MOUNTINFO_MAX   MiB(4)
#define STARTS_EXPECTED_MAX   64   /* images whose blobs are asked for early, at once */
#define FORESEE_STARTS_MAX    64   /* with a predictor each */
#define FORESEE_WISHES_MAX    1024 /* ranges of one start that are fetched at once */
#define RECORDERS_MAX         16   /* who wait for a recording */
#define RECORD_TIMEOUT_S      300

/* containerd, as its client */
#define CONTAINERD_RECONNECT_MS  10000  /* it has lost us: so long it is waited for */
#define CONTAINERD_COLLECT_MS    300000 /* its collection of garbage */
#define CONTAINERD_DIAL_MS       5000
#define CONTAINERD_TIMEOUT_MS    30000   /* one call */
#define CONTAINERD_APPLY_MS      1800000 /* unpacking one layer */
#define CONTAINERD_INGEST_MS     3600000 /* one layer's bytes, waiting for other writers included */
#define CONTAINERD_LOCKED_MS     16 /* somebody else writes it: tried again after, doubled to */
#define CONTAINERD_LOCKED_MAX_MS 2000
#define CONTAINERD_WRITE_MAX     MiB(1) /* bytes of one message; its limit is 16 MiB */
#define CONTAINERD_MESSAGE_MEMORY                                                                  \
	MiB(64) /* one decoded answer; its limit is 16 MiB on the wire                             \
		 */

#define CONTAINERD_PREPARE_MS   90000 /* comes back to us and may look for an index */

#define OPERATOR_NAMESPACES_MAX 1024
#define DOCUMENT_NAMESPACES_MAX 32      /* where a manifest is looked for before its registry */
#define SCAN_KEYS_MAX           1000000 /* snapshots of containerd that a scan compares */
#define SCAN_LINES_MAX          100     /* differences that a scan tells one by one */
#define SCAN_REFUSED_MAX        1000    /* records that wait for containerd's collection */
#define SCAN_ROUNDS_MAX         64   /* how often a namespace is looked at again after a repair */
#define SCAN_RETRY_MS           1000 /* containerd is not there at the start; doubled to */
#define SCAN_RETRY_MAX_MS       60000
#define PREPARE_MANIFESTS_MAX   1024 /* manifests that are looked at for a layer */

/* pulls */
#define PULLS_MAX      64     /* at a time */
#define PULL_LEASE_S   86400  /* what an interrupted one has brought stays so long */
#define PULL_AWAY_MS   8000   /* for a registry's answer, if the image is here already */
#define PULL_LOCAL_MS  1000   /* between two looks at what is local */
#define PULL_BLOBS_MAX 3      /* layers that are downloaded at a time, to be unpacked */
#define PULL_PIECE     MiB(4) /* one request of such a layer */
#define PULL_PIECES    2      /* of one layer in memory */
#define PULL_PREPARES  3      /* containerd may forget a snapshot between two calls */

/* the control service */
#define CONTROL_EVENTS_QUEUE   256 /* events that wait for one follower; more are counted as lost */
#define CONTROL_FOLLOWERS_MAX  16  /* of events */
#define CONTROL_EVENT_MAX      KiB(8) /* bytes of one event */
#define CONTROL_MOUNTS_MAX     65536  /* mounts that one answer lists */
#define CONTROL_LAYERS_MAX     1024   /* layers of one inspected image or chain */
#define OBJECT_IMAGES_MAX      4      /* images that are named for a bad content */
#define CONTROL_VERIFY_RUNNING 1      /* verifications at a time */
#define CONTROL_PROGRESS_MS    250    /* between two messages of a stream of progress */
#define CONTROL_GC_TIMEOUT_MS  60000  /* how long gc waits for the trash to be empty */

/* metrics */
#define METRICS_CONNECTIONS_MAX 64      /* then the oldest is cut */
#define METRICS_BACKLOG         1024    /* connections that are not accepted yet */
#define METRICS_MEMORY          KiB(16) /* of one connection: a request's head */
#define METRICS_IDLE_S          5       /* a connection without a byte for so long is closed */
#define METRICS_REST_MS         1       /* between two turns of the server */
#define METRICS_RETRY_MS        3000    /* the address is not to be had */
#define METRICS_FRESH_MS        20      /* so long the same text is given again */
#define METRICS_HOSTS_MAX       32      /* registries that are told one by one */

/* snapshots */
#define LABEL_MAX             4096 /* key + value, bytes; containerd's own limit */
#define LABELS_MAX            256  /* labels of one snapshot */
#define LABELS_BYTES_MAX      KiB(256)
#define SNAPSHOT_NAME_MAX     4096 /* bytes */
#define SNAPSHOT_DEPTH_MAX    500  /* parents of one snapshot; overlayfs takes 500 lower layers */
#define SNAPSHOTS_MAX         4000000
#define MOUNT_OPTIONS_MAX     4095 /* bytes that mount(2) keeps of a page of options */
#define LIST_BLOCK            100  /* snapshots in one List message, as containerd's server */
#define FILTERS_MAX           64
#define FILTER_MAX            KiB(16) /* bytes of one filter */
#define REGEX_MATCH_STEPS_MAX 100000
#define USAGE_RETRIES         3
#define DIR_POOL_MAX          1024  /* unused directories that wait for a new snapshot */
#define DIR_POOL_DIR_BYTES    4096  /* a larger directory has been used */
#define DIR_POOL_KEEP_MS      10000 /* no new one for so long: they are removed */
#define DIR_POOL_SYNC_MS      1000  /* after it, they are made durable if no commit has done it */

/* store */
#define KV_BLOCK_CACHE    MiB(4)
#define KV_WRITE_BUFFER   MiB(4)
#define KV_OPEN_FILES_MAX 64
#define KV_OPEN_FREE_MIN  MiB(32) /* free space before a failed database is opened again */
#define COMMIT_GROUP_MAX  1024    /* changes in one synced write */

/* objects */
#define OBJECT_SIZE_MAX            (1ull << 44)
#define OBJECTS_BATCH_ENTRIES      4096   /* records in one change */
#define OBJECTS_BATCH_BYTES        MiB(4) /* their bytes, where it ends earlier */
#define OBJECTS_IDLE_MAX           512    /* open files that nobody uses */
#define OBJECTS_SYNC_MS            2000   /* between two syncfs */
#define OBJECTS_CHMOD_BATCH        1024
#define OBJECTS_REAP_BATCH         64    /* files deleted while changes of records wait */
#define OBJECTS_WALK_PAUSE_MS      10    /* between two of the 256 directories, after the start */
#define OBJECTS_ORPHANS_MAX        65536 /* names without records that one walk remembers */
#define OBJECTS_EVICT_CANDIDATES   512
#define OBJECTS_EVICT_PERCENT      95    /* of the cap: so far down */
#define OBJECTS_EVICT_AGE_MS       60000 /* used or written since: stays */
#define OBJECTS_EVICT_RETRY_MS     10000 /* doubled up to */
#define OBJECTS_EVICT_RETRY_MAX_MS 300000
#define OBJECTS_VERIFY_BATCH       64       /* contents that are hashed between two reports */
#define OBJECTS_VERIFY_BLOCK       KiB(512) /* bytes read at once */
#define OBJECTS_VERIFY_THREADS     2        /* of the store's: the others serve */

/* JSON, tables of contents, layer indexes */
#define JSON_DEPTH_MAX      32
#define JSON_TOKEN_MAX      MiB(1)  /* one string, or white space in a row */
#define JSON_TREE_MAX       MiB(32) /* memory of a tree of a small document */
#define TOC_COMPRESSED_MAX  MiB(64)
#define TOC_SIZE_MAX        MiB(512) /* uncompressed; it is parsed piece by piece */
#define INDEX_ENTRIES_MAX   2000000
#define INDEX_CHUNKS_MAX    8000000
#define INDEX_XATTRS_MAX    4000000  /* of all entries */
#define INDEX_STRINGS_MAX   MiB(512) /* paths, link targets, xattrs */
#define INDEX_FILE_MAX      MiB(1024)
#define INDEX_PATH_MAX      4096 /* bytes of a path or link target */
#define INDEX_DEPTH_MAX     1024 /* directories above an entry */
#define XATTRS_MAX          256  /* of one entry */
#define XATTRS_BYTES_MAX    KiB(64)
#define CHUNK_SIZE_MAX      MiB(64)
#define CHUNK_INNER_MAX     MiB(64) /* output dropped before a chunk in its stream */
#define LAYER_FDS_MAX       256
#define MERGE_INODES_MAX    4000000 /* inodes, and names, over all layers of a run */
#define MERGE_MEMORY_MAX    MiB(2048)
#define EROFS_IMAGE_MAX     MiB(2048)
#define ZSTD_WINDOW_LOG_MAX 27 /* 128 MiB; known writers use 8 MiB and less */

/* HTTP and registries */
#define HTTP_HEAD_MAX                KiB(64)
#define HTTP_CONNECTIONS_MAX         64
#define HTTP_HOST_CONNECTIONS_MAX    24 /* more than prediction and background take */
#define HTTP_CONNECT_TIMEOUT_MS      10000
#define HTTP_IDLE_TIMEOUT_MS         15000 /* no byte for so long */
#define MANIFEST_MAX                 MiB(4)
#define REGISTRY_ERROR_BODY_MAX      KiB(4)
#define REGISTRY_REQUESTS_MAX        32       /* at once, all hosts and classes */
#define REGISTRY_LARGE               KiB(512) /* not of the background: that stands still */
#define REGISTRY_BACKGROUND_MAX      3        /* of them for the background */
#define REGISTRY_TRIES               5
#define REGISTRY_ASK_TRIES           3   /* of a pull, where no connection can be made */
#define REGISTRY_UPLOADS_MAX         4   /* of one blob, each of the whole */
#define REGISTRY_WHAT_MAX            400 /* of an address: a digest, and a repository */
#define REGISTRY_REDIRECTS_MAX       10
#define REGISTRY_PLAIN_MAX           1000 /* hosts that are noted to speak plain HTTP */
#define REGISTRY_PLAIN_BYTES_MAX     KiB(256)
#define REGISTRY_LOGINS_MAX          64      /* hosts whose credentials a pull has brought */
#define REGISTRY_LOGIN_BYTES_MAX     KiB(16) /* namespace, user and secret of one */
#define REGISTRY_HOSTS_MAX           32      /* mirrors of one namespace */
#define REGISTRY_REQUEST_TIMEOUT_MS  60000
#define REGISTRY_RETRY_AFTER_MAX_MS  30000
#define CREDENTIAL_HELPER_TIMEOUT_MS 10000
#define CREDENTIAL_HELPER_OUT_MAX    KiB(64)
#define HTTP_BACKGROUND_WINDOW       KiB(192) /* received ahead on a pausable request's socket */
#define HTTP_READ_BUFFER             KiB(32)  /* libcurl reads up to 100 of them in one turn */
#define REF_MAX                      1024     /* bytes of a reference */
#define REF_PATH_MAX                 255
#define REGISTRY_PREDICTED_MAX       16     /* of REGISTRY_REQUESTS_MAX, for prediction */
#define REGISTRY_BYTES_A_SECOND      MiB(1) /* a large request gets so much more time */
#define REGISTRY_MEMORY_MAX          MiB(2) /* of one request, but for its body */
#define REGISTRY_PEERS_MAX           256    /* hosts that are remembered */
#define REGISTRY_NAMESPACES_MAX      256
#define REGISTRY_TOKENS_MAX          1024
#define REGISTRY_LOCATIONS_MAX       1024 /* places of blobs that are remembered */
#define REGISTRY_TOKEN_BODY_MAX      KiB(256)
#define REGISTRY_TOKEN_SKEW_S        5
#define REGISTRY_TOKEN_MIN_S         60
#define REGISTRY_TOKEN_MAX_S         86400
#define REGISTRY_TOKEN_TIMEOUT_MS    20000
#define REGISTRY_HOSTS_FRESH_MS      1000 /* then hosts.toml is read again */
#define REGISTRY_RETRY_MS            100  /* before a second try; then three times that */
#define BREAKER_FAILURES             5    /* in a row */
#define BREAKER_OPEN_MS              1000 /* the first time; doubled each time */
#define BREAKER_OPEN_MAX_MS          30000
#define HOSTS_FILE_MAX               KiB(256)
#define HOSTS_MEMORY_MAX             MiB(4) /* of one hosts.toml with its certificates */
#define CHALLENGES_MAX               8
#define CHALLENGE_VALUE_MAX          4096
#define DOCKER_CONFIG_MAX            MiB(1)

/* metadata images */
#define RUN_IDLE_MS     10000   /* without users for so long: unmounted */
#define SMALL_FILE_MAX  4096    /* bytes of a file that a full image holds itself, in a block */
#define SMALL_FILES_MAX 8192    /* of one image */
#define SMALL_BYTES_MAX MiB(16) /* of them in memory while it is made */

/* fetching */
#define FETCH_READ_TIMEOUT_MS   60000    /* then a read gets EIO */
#define FETCH_REQUEST_MAX       MiB(4)   /* one request of neighbours, unless one chunk is larger */
#define FETCH_BUSY_REQUEST_MAX  MiB(1)   /* of the background, with demand since */
#define FETCH_QUIET_MS          2000     /* without demand: the background goes its own way */
#define FETCH_BUSY_MAX_MS       10000    /* it waits for that at most so long */
#define FETCH_GAP_MAX           KiB(64)  /* bytes between chunks that are fetched along */
#define FETCH_GAP_MIN           KiB(16)  /* of what is foreseen, on a slow link */
#define FETCH_REQUEST_COST_MS   2        /* of a request, beside its round trip */
#define FETCH_BUFFERED_MAX      MiB(32)  /* compressed bytes in memory; or one stream */
#define FETCH_GATHER_MS         20       /* what is foreseen waits for its neighbours */
#define FETCH_AHEAD_REQUEST_MAX KiB(512) /* one request of what is foreseen */
#define FETCH_KNOWN_ALONG       KiB(64)  /* with a read of what is known */
#define FETCH_AHEAD_MAX         MiB(2)   /* of that on the way, */
#define FETCH_AHEAD_EACH        KiB(256) /* of each request so much: small ones may be more */
#define FETCH_AHEAD_WAITING_MAX 16384    /* ranges of that; more are not fetched */
#define FETCH_STALL_MS          150      /* in the middle, or three trips: asked for once more */
#define FETCH_STALL_FIRST_MS    400      /* the same, before the first byte */
#define FETCH_STALL_LOOK_MS     50
#define FETCH_EARLY_MAX         MiB(16)  /* of blobs whose tables are not here yet, held; */
#define FETCH_EARLY_CALLED_MAX  MiB(32)  /* with what is being fetched now; */
#define FETCH_EARLY_QUEUE_MAX   MiB(256) /* known, and not asked for yet, */
#define FETCH_EARLY_RANGES_MAX  8192     /* in so many ranges */
#define FETCH_EARLY_PART        KiB(512) /* one request of that; */
#define FETCH_EARLY_REQUESTS    12       /* at once, */
#define FETCH_EARLY_HURRY       4        /* and so many more, for reads that wait */
#define FETCH_EARLY_IDLE_MS     10000    /* that nobody comes for */
#define FETCH_EARLY_LOOK_MS     1000     /* so often that is looked for */
#define FETCH_FIRST_MAX         MiB(256) /* before a layer's landmark, foreseen */
#define FETCH_FIRSTS_MAX        64       /* layers of which that is under way */
#define FETCH_FIRST_WHOLE_MAX   MiB(32)  /* whole contents; of larger ones little is read */
#define FETCH_FIRST_LOOK_MS     5        /* for the next of it */
#define FETCH_WAITING_MAX       8192     /* reads that wait */
#define FETCH_STREAM_MAX        MiB(80)  /* output to decode for one chunk */
#define FETCH_TRIP_START        KiB(512) /* bytes that come in a round trip, until that is seen */
#define FETCH_TRIP_MIN          KiB(64)
#define FETCH_TRIP_MAX          MiB(1)
#define FETCH_RATE_BYTES_MIN    KiB(128) /* in less the rate does not show */
#define FETCH_NEAR              KiB(512) /* on its way and so near: waited for */
#define FETCH_URGENT            MiB(2)   /* the same, of a background transfer that runs */
#define FETCH_PARTS_MAX         1024     /* chunks in one request */
#define FETCH_NEIGHBOURS_MAX    256      /* chunks behind a wanted one that are looked at */
#define FETCH_NEED_CHUNKS       64       /* chunks that one read waits for at a time */
#define FETCH_TRIES_MAX         64       /* of one chunk, then the read fails */
#define FETCH_WHOLE_MAX         MiB(4)   /* contents that are decoded into memory */
#define FETCH_JOB_BYTES         MiB(1)   /* output of small streams that one job decodes */
#define FETCH_MEMORY_MAX        MiB(128) /* contents that the disk does not take */
#define FETCH_MEMORY_IDLE_MS    60000    /* then they go */
#define FETCH_ADOPT_MS          1000     /* for an open object to see that it was written whole */
#define FETCH_DECODERS          4        /* jobs of one request at once */
#define FETCH_CACHED_OBJECTS    256      /* whose chunk lists are kept */
#define FETCH_CACHED_CHUNKS     256      /* of each */
#define FETCH_FILLS_MAX         4        /* layers at once in the background */
#define FOLLOW_LOOK             64       /* chunks that are looked at for one that is missing */
#define FOLLOW_TRANSFERS        2        /* at once, for one content */
#define FOLLOW_ALL_MAX          8        /* for all, */
#define FOLLOW_BESIDE_MAX       2        /* and while no more than these bring what is foreseen */
#define FOLLOW_PARTS_MAX        64       /* chunks in one request, */
#define FOLLOW_REQUEST_MAX      MiB(1)   /* in so much of the blob, unless it is one chunk */
#define FOLLOW_UNUSED_MAX       MiB(16)  /* of one content, before compression, that nobody reads */
#define FETCH_FILL_DELAY_MS     1000     /* of the background: a start goes first */
#define FETCH_PAUSE_MS          500      /* after a failure; doubled each time */
#define FETCH_WRONG_ROUNDS      2        /* of answers that make no sense, from all sources */
#define FETCH_PAUSE_MAX_MS      5000     /* for reads */
#define FETCH_FILL_PAUSE_MAX_MS 300000   /* for the background */
#define FETCH_FAILED_MS         1000     /* after a wait in vain, nobody begins a new one */
#define FETCH_PATHS_MAX         16       /* paths looked for at once, for the log */
#define FETCH_LOG_EVERY_MS      1000     /* one line for an object or layer */

/* looking for lazy layers */
#define RESOLVE_IMAGES_MAX 64      /* images whose layers are being looked for */
#define RESOLVE_LAYERS_MAX 512     /* of one image */
#define RESOLVE_KEEP_MS    60000   /* what was found and nobody asked for */
#define RESOLVE_TAIL_MIN   KiB(40) /* of a blob's end: two trips of a new connection */
#define RESOLVE_PARTS_MAX  4       /* requests at once for one table, */
#define RESOLVE_PARTS_ALL  12      /* and for those of one image */
#define RESOLVE_TAIL_MAX   KiB(1024)
#define RESOLVE_TAIL_SHARE 64      /* or that part of the blob */
#define RESOLVE_SIZES_MS   30      /* containerd may take to tell the sizes of blobs */
#define RESOLVE_TABLES_MAX MiB(64) /* compressed tables in memory; or one that is larger */
#define RESOLVE_TIMEOUT_MS 20000   /* then the layer takes the ordinary path */

/* what a start will read */
#define IMAGE_CONFIG_MAX    KiB(512) /* one image's config */
#define COMMAND_WORDS_MAX   64
#define ELF_NAME_MAX        256
#define ELF_NEEDED_MAX      64
#define ELF_PARTS_MAX       4
#define LD_CACHE_MAX        MiB(1)
#define PREFETCH_FILES_MAX  256      /* of one start */
#define PREFETCH_BYTES_MAX  MiB(128) /* of one start, before compression */
#define PREFETCH_WHOLE_MAX  MiB(4)   /* of larger files only what the loader reads */
#define PREFETCH_PATHS_MAX  KiB(16)  /* where one file may be */
#define PREFETCH_STARTS_MAX 32       /* at once */
#define PREFETCH_TIMEOUT_MS 10000    /* of one start: then the background goes on */
#define PREFETCH_FOLLOW_MS  30000    /* and then reads are followed for so long */

/* profiles of starts */
#define PROFILE_UNIT         KiB(128)                       /* accesses are told apart so far */
#define PROFILE_PATH_MAX     4096                           /* bytes */
#define PROFILE_USES_MAX     4096                           /* of one profile */
#define PROFILE_UNITS_MAX    32768                          /* of all its uses */
#define PROFILE_BYTES_MAX    KiB(512)                       /* of its record */
#define PROFILE_JSON_MAX     (GRPC_MESSAGE_IN_MAX - KiB(1)) /* one document that is read */
#define PROFILE_SPAN_MAX_US  4000000000u
#define PROFILE_JOIN_US      10000 /* neighbours used within so long are one use */
#define PROFILE_MERGE_STARTS 4     /* a start counts as one in so many, at least */
#define PROFILES_MAX         1024
#define PROFILES_BYTES_MAX   MiB(64) /* records of all of them */
#define EXTENTS_MAX          4096    /* chunks of one start that are known by place, */
#define EXTENTS_BLOBS_MAX    128     /* in so many layers; */
#define EXTENTS_BYTES_MAX    MiB(64) /* compressed */
#define RECORDING_EVENTS_MAX 32768   /* of one recorded start */
#define RECORDING_FILES_MAX  8192
#define RECORDING_JSON_MAX   MiB(16)

/* predictions */
#define PREDICT_PROFILES_MAX  8                 /* for one start */
#define PREDICT_UNITS_MAX     32768             /* of all of them */
#define PREDICT_WEIGHT_MIN    (65536u * 3 / 10) /* a use with less is not predicted */
#define PREDICT_UNSURE_MIN    (65536u / 2 + 1)  /* while it is not known which program it is */
#define PREDICT_AHEAD_MS      1000              /* what the link delivers in so long is asked for */
#define PREDICT_AHEAD_MIN     MiB(2)            /* or so much, where that is more */
#define PREDICT_AHEAD_MAX     MiB(64)
#define PREDICT_PAGE_AHEAD    MiB(32)   /* read from the disk and not used yet */
#define PREDICT_BYTES_MAX     MiB(1024) /* asked for, for one start */
#define PREDICT_RANGE_MAX     MiB(4)    /* one range */
#define PREDICT_JOIN_UNITS    64        /* a neighbour that is used so much later comes along */
#define PREDICT_NEAR_UNITS    64        /* accesses so far ahead move the position at once, */
#define PREDICT_JUMP_ACCESSES 4         /* farther ones when they are so many */
#define PREDICT_BEHIND_UNITS  64        /* the position is so far past it: not used */
#define PREDICT_JUDGE_MS      2000      /* here for so long and overdue: not used */
#define PREDICT_JUDGE_BYTES   MiB(4)    /* judged, before precision means anything */
#define PREDICT_PRECISION_MIN 50        /* percent */
#define PREDICT_RATE_BYTES    KiB(512)  /* in one measurement of the link */
#define PREDICT_RATE_START    12500000  /* bytes a second, until that is seen */

/* accesses */
#define ACCESS_RING_BYTES    MiB(1) /* records that the loop has not read yet */
#define ACCESS_TOUCHED_MAX   65536  /* bitmaps that the kernel keeps, in 8 MiB of memory */
#define ACCESS_IGNORED_MAX   4096   /* mount namespaces */
#define ACCESS_DEVICES_MAX   4096   /* of small files */
#define ACCESS_BURST         256    /* records read in a row */
#define ACCESS_REASON_MAX    256    /* bytes of why something does not run */
#define ACCESS_MOUNTINFO_MAX MiB(16)

/* FUSE objects */
#define FILL_TASKS_MAX     4096  /* requests that have a task; more wait in a list */
#define FILL_REQUESTS_MAX  65536 /* requests without an answer, then no more are taken */
#define FILL_REQUEST_BYTES KiB(16)
#define FILL_BURST         64     /* requests taken in a row */
#define FILL_READ_MAX      MiB(1) /* one READ */
#define FILL_READ_TRIES    8      /* where contents are in memory only, and go too soon */
#define FILL_READAHEAD_MAX MiB(1)
#define FILL_BACKGROUND    128 /* READs of the kernel's readahead at once */
#define FILL_BUFFERS_MAX   32  /* of FILL_READ_MAX; a READ has one when its bytes are on disk */
#define FILL_BUFFERS_IDLE  4
#define FILL_PROBES_MAX    256 /* slots that are looked at for one open node */
#define FILL_RETRY_MS      20  /* something else is full */
#define FILL_STALE_MOUNTS  16  /* mounts of dead keepers, one above the other */

/* keeper */
#define WORKER_BACKOFF_MAX_MS 5000
#define WORKER_STABLE_MS      10000 /* a worker that lived so long is restarted without delay */
#define WORKER_START_TRIES    8     /* workers that never became ready, then the keeper ends */
#define FILL_UNSERVED_MS      60000 /* no worker lasts: then what waits in the mount gets EIO */
#define ROOT_LOCK_WAIT_MS     3000  /* for a predecessor that is just dying */

/* configuration */
#define CONFIG_FILE_MAX MiB(1)

#endif
