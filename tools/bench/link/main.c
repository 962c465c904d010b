// SPDX-License-Identifier: Apache-2.0
/*
 * An emulated link between two network namespaces, for benchmarks:
 *
 *   link DIR RTT_MS RATE_MBIT
 *
 * makes DIR/server (10.77.0.1) and DIR/client (10.77.0.2), to be entered with nsenter --net=FILE,
 * each with a TUN device. What one side sends waits in a queue of one bandwidth-delay product (what
 * does not fit is dropped), leaves it at RATE_MBIT, and arrives RTT_MS / 2 later. Before it says
 * "ready", the link is measured from inside: round trips of one byte, and a bulk transfer. SIGUSR1
 * takes delay and rate away, for what nobody measures; SIGUSR2 brings them back. SIGTERM ends it.
 *
 * Packets may be up to 16000 bytes (TSO) and are handed over as they are, so that 1 Gbit/s takes
 * less than a processor; each is charged for the headers that its segments would have.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX (1 << 17)
/* A very short link still takes what TSO hands over at once. */
#define QUEUE_MIN      (1 << 18)
#define BURST          64 /* packets read before the other side has its turn */
#define PORT           7
#define PINGS          21
#define SEGMENT_HEADER 52 /* IPv4 and TCP with timestamps */

struct packet {
	struct packet *next;
	int64_t left_ns, due_ns; /* when its last bit left the queue; when it arrives */
	size_t charged, len;
	char data[];
};

/* One direction: read from in, written to out. */
struct lane {
	int in, out;
	struct packet *head, **tail; /* not arrived yet, oldest first */
	struct packet *waiting;      /* the first that had not left the queue */
	size_t queued;               /* bytes from waiting on */
	int64_t free_ns;             /* when the wire is free again */
	uint64_t packets, drops;
};

struct side {
	const char *name, *address;
	char path[4096];
	int ns, tun;
};

static struct side sides[2] = {{.name = "server", .address = "10.77.0.1"},
			       {.name = "client", .address = "10.77.0.2"}};
static struct lane lanes[2];
static int64_t delay_ns;
static double ns_per_byte;
static size_t queue_max;
static volatile sig_atomic_t ended, fast;
static pid_t owner; /* of the namespaces' files */

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	fprintf(stderr, "link: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", strerror(saved));
	va_end(args);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
	char command[256];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0) {
		errno = EINVAL;
		die("%s", command);
	}
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("%s", path);
	close(fd);
}

static int open_tun(void)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR,
				.ifr_name = "link0"};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int header = sizeof(struct virtio_net_hdr);

	if (fd < 0)
		die("/dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 ||
	    ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0)
		die("TUN device");
	return fd;
}

/* A namespace of its own, kept by a mount on its file. */
static void make_side(struct side *s, const char *dir)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd;

	snprintf(s->path, sizeof(s->path), "%s/%s", dir, s->name);
	fd = open(s->path, O_CREAT | O_RDONLY | O_CLOEXEC, 0600);
	if (home < 0 || fd < 0 || unshare(CLONE_NEWNET) < 0)
		die("namespace %s", s->path);
	close(fd);
	if (mount("/proc/self/ns/net", s->path, NULL, MS_BIND, NULL) < 0)
		die("mount %s", s->path);
	s->ns = open(s->path, O_RDONLY | O_CLOEXEC);
	s->tun = open_tun();
	write_file("/proc/sys/net/ipv4/tcp_wmem", "4096 262144 33554432");
	write_file("/proc/sys/net/ipv4/tcp_rmem", "4096 262144 33554432");
	/* Each connection finds out anew what the link is. */
	write_file("/proc/sys/net/ipv4/tcp_no_metrics_save", "1");
	run("ip link set lo up && ip addr add %s/24 dev link0 && "
	    "ip link set link0 mtu 1500 gso_max_size 16000 txqueuelen 1000 up",
	    s->address);
	if (s->ns < 0 || setns(home, CLONE_NEWNET) < 0)
		die("back from %s", s->path);
	close(home);
}

static void unmake_sides(void)
{
	if (getpid() != owner)
		return;
	for (int i = 0; i < 2; i++) {
		if (sides[i].path[0] && umount2(sides[i].path, MNT_DETACH) == 0)
			unlink(sides[i].path);
	}
}

/* --- packets ------------------------------------------------------------------------------------
 */

static size_t charge(const char *data, size_t len)
{
	const struct virtio_net_hdr *header = (const void *)data;
	size_t bytes = len - sizeof(*header);

	if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE && header->gso_size > 0)
		bytes += (bytes / header->gso_size) * SEGMENT_HEADER;
	return bytes;
}

static void enqueue(struct lane *l, const char *data, size_t len, int64_t now)
{
	size_t charged = charge(data, len);
	struct packet *p;

	l->packets++;
	p = l->queued + charged <= queue_max ? malloc(sizeof(*p) + len) : NULL;
	if (!p) {
		l->drops++;
		return;
	}
	memcpy(p->data, data, len);
	p->len = len;
	p->charged = charged;
	p->next = NULL;
	if (l->free_ns < now)
		l->free_ns = now;
	if (!fast)
		l->free_ns += (int64_t)((double)charged * ns_per_byte);
	p->left_ns = l->free_ns;
	p->due_ns = p->left_ns + (fast ? 0 : delay_ns);
	l->queued += charged;
	if (!l->waiting)
		l->waiting = p;
	*l->tail = p;
	l->tail = &p->next;
}

static void receive(struct lane *l)
{
	static char data[PACKET_MAX];

	for (int i = 0; i < BURST; i++) {
		ssize_t n = read(l->in, data, sizeof(data));

		if (n < (ssize_t)sizeof(struct virtio_net_hdr))
			return;
		enqueue(l, data, (size_t)n, now_ns());
	}
}

static void deliver(struct lane *l, int64_t now)
{
	while (l->waiting && l->waiting->left_ns <= now) {
		l->queued -= l->waiting->charged;
		l->waiting = l->waiting->next;
	}
	while (l->head && l->head->due_ns <= now) {
		struct packet *p = l->head;

		if (write(l->out, p->data, p->len) < 0)
			l->drops++;
		l->head = p->next;
		if (!l->head)
			l->tail = &l->head;
		free(p);
	}
}

static void run_link(pid_t measurer)
{
	struct pollfd polled[2] = {{.fd = lanes[0].in, .events = POLLIN},
				   {.fd = lanes[1].in, .events = POLLIN}};
	int status;

	while (!ended) {
		int64_t now = now_ns(), next = now + 1000000000;
		struct timespec wait;

		for (int i = 0; i < 2; i++) {
			deliver(&lanes[i], now);
			if (lanes[i].head && lanes[i].head->due_ns < next)
				next = lanes[i].head->due_ns;
		}
		if (measurer && waitpid(measurer, &status, WNOHANG) == measurer) {
			if (status != 0)
				exit(1);
			measurer = 0;
		}
		if (measurer && next > now + 10000000)
			next = now + 10000000;
		wait = (struct timespec){(next - now) / 1000000000, (next - now) % 1000000000};
		if (ppoll(polled, 2, &wait, NULL) <= 0)
			continue;
		for (int i = 0; i < 2; i++) {
			if (polled[i].revents)
				receive(&lanes[i]);
		}
	}
}

/* --- the measurement, in processes of its own ------------------------------------------------- */

static int socket_in(struct side *s)
{
	int fd, on = 1;

	if (setns(s->ns, CLONE_NEWNET) < 0)
		die("setns");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		die("socket");
	return fd;
}

/* Answers PINGS bytes, then sends until the other side has enough. */
static void measured_server(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int listener = socket_in(&sides[0]), fd, on = 1;
	static char data[1 << 16];

	if (bind(listener, (void *)&a, sizeof(a)) < 0 || listen(listener, 1) < 0)
		die("listen");
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("accept");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (int i = 0; i < PINGS && read(fd, data, 1) == 1; i++) {
		if (write(fd, data, 1) != 1)
			die("write");
	}
	while (write(fd, data, sizeof(data)) > 0)
		;
	exit(0);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void measure(double seconds)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd = socket_in(&sides[1]), on = 1;
	int64_t rtt[PINGS], start, end, bytes = 0;
	static char data[1 << 16];
	ssize_t n = 1;

	inet_pton(AF_INET, sides[0].address, &a.sin_addr);
	for (int i = 0; connect(fd, (void *)&a, sizeof(a)) < 0; i++) {
		if (i == 500)
			die("connect");
		usleep(10000);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (int i = 0; i < PINGS; i++) {
		start = now_ns();
		if (write(fd, "", 1) != 1 || read(fd, data, 1) != 1)
			die("ping");
		rtt[i] = now_ns() - start;
	}
	qsort(rtt, PINGS, sizeof(rtt[0]), by_value);
	/* The first half is for the congestion window. */
	start = now_ns();
	end = start + (int64_t)(seconds * 2e9);
	while (now_ns() < end && (n = read(fd, data, sizeof(data))) > 0) {
		if (now_ns() < end - (int64_t)(seconds * 1e9))
			start = now_ns();
		else
			bytes += n;
	}
	if (n <= 0)
		die("bulk");
	printf("ready: RTT %.2f ms, %.1f Mbit/s\n", (double)rtt[PINGS / 2] / 1e6,
	       (double)bytes * 8e3 / (double)(now_ns() - start));
	fflush(stdout);
	exit(0);
}

static pid_t start_measurement(double seconds)
{
	pid_t server = fork(), client;

	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		measured_server();
	}
	client = server > 0 ? fork() : -1;
	if (client < 0)
		die("fork");
	if (client == 0)
		measure(seconds);
	return client;
}

static void on_end(int signal)
{
	(void)signal;
	ended = 1;
}

static void on_user(int signal)
{
	fast = signal == SIGUSR1;
}

int main(int argc, char **argv)
{
	double rtt_ms = argc == 4 ? atof(argv[2]) : 0, mbit = argc == 4 ? atof(argv[3]) : 0;
	struct sigaction on_term = {.sa_handler = on_end}, on_usr = {.sa_handler = on_user};

	if (rtt_ms <= 0 || mbit <= 0) {
		fprintf(stderr, "usage: link DIR RTT_MS RATE_MBIT\n");
		return 2;
	}
	delay_ns = (int64_t)(rtt_ms * 1e6 / 2);
	ns_per_byte = 8e3 / mbit;
	queue_max = (size_t)(rtt_ms * 1e6 / ns_per_byte);
	if (queue_max < QUEUE_MIN)
		queue_max = QUEUE_MIN;
	prctl(PR_SET_TIMERSLACK, 1);
	sigaction(SIGTERM, &on_term, NULL);
	sigaction(SIGINT, &on_term, NULL);
	sigaction(SIGUSR1, &on_usr, NULL);
	sigaction(SIGUSR2, &on_usr, NULL);
	signal(SIGPIPE, SIG_IGN);
	owner = getpid();
	atexit(unmake_sides);
	for (int i = 0; i < 2; i++)
		make_side(&sides[i], argv[1]);
	for (int i = 0; i < 2; i++) {
		lanes[i] = (struct lane){.in = sides[i].tun, .out = sides[!i].tun};
		lanes[i].tail = &lanes[i].head;
	}
	run_link(start_measurement(1 + rtt_ms / 100));
	fprintf(stderr, "link: to the client: %lu packets, %lu dropped\n",
		(unsigned long)lanes[0].packets, (unsigned long)lanes[0].drops);
	return 0;
}
