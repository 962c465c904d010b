// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand"
	"net"
	"sort"
	"strings"
	"sync"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	callTimeout = 5 * time.Second
	// A call that was given up while its server lives may still take effect, so nobody asks before
	// this time whether it did, and nobody touches its names.
	settleAfter  = 5 * time.Second
	historySize  = 400
	historyShown = 30
	snapshotter  = "chaos"
)

// client makes random calls about its own names. Its goroutine holds mu during each step; only the
// self-test takes it from outside.
type client struct {
	w    *world
	id   string
	api  snapshotsapi.SnapshotsClient
	rng  *rand.Rand
	ctx  context.Context
	self []string // its names
	kept []string // names that the self-test took out of self

	mu      sync.Mutex
	model   map[string]*snap
	pending *change         // one call whose outcome is open, see settleAfter
	due     time.Time       // when to ask for it
	locked  map[string]bool // the names that it is about
	serial  int
	calm    bool // give no call up early: the storm is over

	waiting time.Time // since when this client has had no answer; zero = it has
	audited int       // kills seen at the last audit
	outage  bool      // a connection broke since then
	history []string
}

// change is what a call does if it happens: the new state of every name it touches, nil = absent.
type change struct {
	text    string
	after   map[string]*snap
	related []string // names that must stay as they are until the outcome is known: parents
}

func dialAll(w *world) (conns []*grpc.ClientConn) {
	for i := 0; i < w.o.conns; i++ {
		conn, err := grpc.Dial(w.server.socket(), grpc.WithInsecure(), grpc.WithAuthority("localhost"),
			grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2,
					MaxDelay: 200 * time.Millisecond},
				MinConnectTimeout: 3 * time.Second}),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
		if err != nil {
			panic(err) // does not connect yet, so it fails only for wrong options
		}
		conns = append(conns, conn)
	}
	return conns
}

func closeAll(conns []*grpc.ClientConn) {
	for _, conn := range conns {
		conn.Close()
	}
}

func newClient(w *world, id string, conn *grpc.ClientConn, rng *rand.Rand) *client {
	c := &client{w: w, id: id, api: snapshotsapi.NewSnapshotsClient(conn), rng: rng,
		ctx: context.Background(), model: map[string]*snap{}, locked: map[string]bool{}}
	for i := 0; i < w.o.names; i++ {
		c.self = append(c.self, fmt.Sprintf("default/%s/k%d", id, i))
	}
	return c
}

func (c *client) note(format string, args ...interface{}) {
	line := fmt.Sprintf("%10.3f %s %s", time.Since(c.w.start).Seconds(), c.id,
		fmt.Sprintf(format, args...))
	c.history = append(c.history, line)
	if len(c.history) > 2*historySize {
		c.history = append([]string(nil), c.history[historySize:]...)
	}
}

// violate reports a broken promise together with what this client did to the names.
func (c *client) violate(names []string, format string, args ...interface{}) {
	text := fmt.Sprintf(format, args...)
	var lines []string
	for i := len(c.history) - 1; i >= 0 && len(lines) < historyShown; i-- {
		for _, name := range names {
			if strings.Contains(c.history[i]+" ", name+" ") {
				lines = append(lines, "    "+c.history[i])
				break
			}
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(lines)))
	sort.Strings(lines)
	c.w.violate("%s: %s\n%s", c.id, text, strings.Join(lines, "\n"))
}

func unknown(code codes.Code) bool {
	return code == codes.Unavailable || code == codes.Canceled || code == codes.DeadlineExceeded
}

// rpc makes one call. It returns the code of its answer; after an unknown one it has slept a little.
func (c *client) rpc(name string, timeout time.Duration, fn func(context.Context) error) error {
	start := time.Now()
	if c.waiting.IsZero() {
		c.waiting = start
	}
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	err := fn(ctx)
	cancel()
	code := status.Code(err)
	c.w.stats.count("rpc " + name + " " + code.String())
	if d := time.Since(start); d > timeout+5*time.Second {
		c.violate(nil, "%s took %s although its deadline was %s", name, d, timeout)
	}
	stall := time.Since(c.waiting)
	if !unknown(code) {
		c.w.stats.noteStall(stall, c.id+" "+name)
		c.waiting = time.Time{}
		return err
	}
	if code == codes.Unavailable {
		c.outage = true
		if !c.w.o.killWorker && !c.w.o.killKeeper {
			c.violate(nil, "%s: Unavailable, although nothing was killed: %v", name, err)
		}
		time.Sleep(time.Duration(5+c.rng.Intn(20)) * time.Millisecond)
	} else if timeout < callTimeout {
		c.waiting = time.Time{} // we gave up by ourselves
	}
	if stall > answerTimeMax {
		c.violate(nil, "no answer for %s, the last try: %s: %v\n%s", stall, name, err,
			c.w.server.lastLog())
	}
	return err
}

// ask makes a call that changes nothing. done = there was an answer and it fits.
func (c *client) ask(name, key string, want answers, fn func(context.Context) error) (done bool) {
	err := c.rpc(name, callTimeout, fn)
	code := status.Code(err)
	if unknown(code) {
		return false
	}
	c.note("%s %s -> %s", name, key, code)
	if !want.has(code) {
		c.violate([]string{key}, "%s %s answered %v, but must answer %v; the model: %s",
			name, key, answer(err), want, c.lookup(key))
		return false
	}
	return true
}

func answer(err error) string {
	if err == nil {
		return "OK"
	}
	return fmt.Sprintf("%s (%s)", status.Code(err), status.Convert(err).Message())
}

// mutate makes a call that may change something. It returns true if the answer was OK; the model
// has the change then.
func (c *client) mutate(ch *change, want answers, fn func(context.Context) error) bool {
	timeout, short := callTimeout, false
	if !c.calm && c.pending == nil && c.rng.Intn(40) == 0 {
		timeout, short = time.Duration(1+c.rng.Intn(30))*time.Millisecond, true
	}
	op, _, _ := strings.Cut(ch.text, " ")
	err := c.rpc(op, timeout, fn)
	code := status.Code(err)
	c.note("%s -> %s", ch.text, code)
	switch {
	case unknown(code) && !want.has(codes.OK):
		return false // it could not have changed anything
	case code == codes.Unavailable && !short:
		c.settle(ch)
		return false
	case unknown(code):
		if c.pending != nil { // a second deadline passed: the server is very slow
			time.Sleep(time.Until(c.due))
			c.settlePending()
		}
		c.hold(ch)
		return false
	case !want.has(code):
		c.violate(ch.names(), "%s answered %s, but must answer %v; the model: %s",
			ch.text, answer(err), want, c.states(ch))
		return false
	case code == codes.FailedPrecondition && op == "Remove" &&
		!strings.Contains(status.Convert(err).Message(), "remove"):
		c.violate(ch.names(), "%s: the message lacks the word remove: %s", ch.text, answer(err))
		return false
	case code != codes.OK:
		return false
	}
	c.apply(ch)
	return true
}

func (ch *change) names() (names []string) {
	for name := range ch.after {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (c *client) states(ch *change) string {
	var parts []string
	for _, name := range append(ch.names(), ch.related...) {
		parts = append(parts, name+" "+c.lookup(name).String())
	}
	return strings.Join(parts, "; ")
}

func (c *client) apply(ch *change) {
	for name, s := range ch.after {
		if s == nil {
			delete(c.model, name)
		} else {
			c.model[name] = s
		}
	}
}

// hold leaves the names of a call alone until it is certain that it is over.
func (c *client) hold(ch *change) {
	c.pending, c.due = ch, time.Now().Add(settleAfter)
	for _, name := range append(ch.names(), ch.related...) {
		if c.w.shared[name] == nil {
			c.locked[name] = true
		}
	}
}

func (c *client) settlePending() {
	ch := c.pending
	c.pending, c.locked = nil, map[string]bool{}
	c.settle(ch)
}

// settle finds out whether a call without an answer has happened. Half of it is a violation.
func (c *client) settle(ch *change) {
	infos := map[string]*snapshotsapi.Info{}
	before, after := "", ""
	for _, name := range ch.names() {
		info, ok := c.statUntilAnswer(name)
		if !ok {
			return
		}
		infos[name] = info
		if d := differs(c.model[name], info); d != "" {
			before += fmt.Sprintf(" %s: %s;", name, d)
		}
		if d := differs(ch.after[name], info); d != "" {
			after += fmt.Sprintf(" %s: %s;", name, d)
		}
	}
	switch {
	case after == "":
		c.w.stats.count("settled: happened")
		c.note("%s had happened", ch.text)
		c.apply(ch)
	case before == "":
		c.w.stats.count("settled: did not happen")
		c.note("%s had not happened", ch.text)
	default:
		var found []string
		for _, name := range ch.names() {
			found = append(found, name+" "+infoText(infos[name]))
		}
		c.violate(ch.names(), "%s had no answer and left neither the old state (%s) nor the new one "+
			"(%s); found: %s", ch.text, before, after, strings.Join(found, "; "))
		return
	}
	for name, info := range infos {
		c.model[name].learn(info)
	}
}

// statUntilAnswer returns nil for a name that does not exist, and !ok when the test has to end.
func (c *client) statUntilAnswer(name string) (*snapshotsapi.Info, bool) {
	for !c.w.failed() {
		var resp *snapshotsapi.StatSnapshotResponse
		err := c.rpc("Stat", callTimeout, func(ctx context.Context) (err error) {
			resp, err = c.api.Stat(ctx, &snapshotsapi.StatSnapshotRequest{
				Snapshotter: snapshotter, Key: name})
			return err
		})
		code := status.Code(err)
		switch {
		case unknown(code):
			continue
		case code == codes.OK:
			if resp.Info.Name != name {
				c.violate([]string{name}, "Stat %s answered about %q", name, resp.Info.Name)
				return nil, false
			}
			return &resp.Info, true
		case code == codes.NotFound:
			return nil, true
		}
		c.violate([]string{name}, "Stat %s answered %s", name, answer(err))
	}
	return nil, false
}
