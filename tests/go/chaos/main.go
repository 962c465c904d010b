// SPDX-License-Identifier: Apache-2.0

// Command chaos is the crash test of the snapshots API. Many clients change snapshots while the
// worker and the keeper of the server are killed. Every client keeps an exact model of what was
// acknowledged, and every answer, every listing and every directory has to fit it.
//
// A call that ends without an answer (its connection broke, its deadline passed) may or may not
// have happened; a later Stat says which, and from then on it is fact.
package main

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

type options struct {
	server     string
	kind       string // firstlight: keeper and worker; overlay: one process
	dir        string
	keep       bool
	clients    int
	conns      int
	names      int
	duration   time.Duration
	seed       int64
	killWorker bool
	killKeeper bool
	selfTest   string
	verbose    bool
}

func parseOptions() options {
	var o options
	var seconds float64
	var kill string
	flag.StringVar(&o.server, "server", "build/firstlightd", "program under test")
	flag.StringVar(&o.kind, "kind", "firstlight", "what it is: firstlight or overlay (overlayserver)")
	flag.StringVar(&o.dir, "dir", "/var/tmp", "make the private directory here")
	flag.BoolVar(&o.keep, "keep", false, "keep the private directory; it is always kept on failure")
	flag.IntVar(&o.clients, "clients", 32, "clients at the same time")
	flag.IntVar(&o.conns, "conns", 8, "connections that the clients share")
	flag.IntVar(&o.names, "names", 12, "names that a client uses")
	flag.Float64Var(&seconds, "seconds", 60, "time of the storm")
	flag.Int64Var(&o.seed, "seed", 0, "repeat the decisions of a run; 0: take a new one")
	flag.StringVar(&kill, "kill", "worker,keeper", "whom to kill: worker, keeper, both, or none")
	flag.StringVar(&o.selfTest, "self-test", "", "do this damage behind the model's back, "+
		"and fail unless it is noticed: "+strings.Join(damageNames(), " "))
	flag.BoolVar(&o.verbose, "v", false, "print the kills")
	flag.Parse()
	o.duration = time.Duration(seconds * float64(time.Second))
	o.killWorker = strings.Contains(kill, "worker") && o.kind == "firstlight"
	o.killKeeper = strings.Contains(kill, "keeper")
	if flag.NArg() != 0 || (o.kind != "firstlight" && o.kind != "overlay") ||
		o.clients < 1 || o.conns < 1 || o.names < 2 || (o.selfTest != "" && !knownDamage(o.selfTest)) {
		flag.Usage()
		os.Exit(2)
	}
	if o.seed == 0 {
		o.seed = time.Now().UnixNano() % 1000000007
	}
	return o
}

func main() {
	o := parseOptions()
	fmt.Printf("chaos: seed %d, %d clients, %s of %s, kill worker=%v keeper=%v\n",
		o.seed, o.clients, o.duration, o.server, o.killWorker, o.killKeeper)
	dir, err := os.MkdirTemp(o.dir, "firstlight-chaos.")
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	w := newWorld(o, dir)
	w.run()
	w.server.kill()
	w.report()

	failed := w.failed()
	if o.selfTest != "" {
		failed = !failed
		if failed {
			fmt.Printf("chaos: the damage %q was NOT noticed: the checker is blind\n", o.selfTest)
		} else {
			fmt.Printf("chaos: the damage %q was noticed, as it must be\n", o.selfTest)
		}
	}
	unmountBelow(dir)
	if o.keep || (failed && o.selfTest == "") {
		fmt.Printf("chaos: the server's data and log are kept in %s\n", dir)
	} else if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		failed = true
	}
	if failed {
		fmt.Printf("chaos: FAILED; repeat with --seed %d\n", o.seed)
		os.Exit(1)
	}
	fmt.Println("chaos: passed")
}

// world is what the clients, the killer and the auditor share.
type world struct {
	o       options
	dir     string
	server  *server
	clients []*client
	shared  map[string]*snap // committed parents for all; never change after setup
	names   []string         // of shared, lowest first
	stats   stats
	start   time.Time

	mu         sync.Mutex
	violations []string
	stopping   bool
	kills      int // of any process so far
}

func newWorld(o options, dir string) *world {
	w := &world{o: o, dir: dir, shared: map[string]*snap{}, start: time.Now()}
	w.stats.counts = map[string]int{}
	w.server = newServer(w)
	return w
}

func (w *world) root() string { return filepath.Join(w.dir, "root") }

// violate notes that the server broke its promise. The storm ends at the first one.
func (w *world) violate(format string, args ...interface{}) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
	w.violations = append(w.violations, text)
	if len(w.violations) <= 5 {
		fmt.Printf("chaos: VIOLATION at %.3f s: %s\n", time.Since(w.start).Seconds(), text)
	}
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.violations) > 0
}

func (w *world) stopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopping
}

func (w *world) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
}

func (w *world) killCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kills
}

func (w *world) countKill(what string) {
	w.mu.Lock()
	w.kills++
	w.mu.Unlock()
	w.stats.count("killed " + what)
}

func (w *world) run() {
	if !w.server.start() {
		return
	}
	conns := dialAll(w)
	defer closeAll(conns)
	setup := newClient(w, "setup", conns[0], rand.New(rand.NewSource(w.o.seed)))
	if !setup.makeShared() {
		return
	}
	for i := 0; i < w.o.clients; i++ {
		rng := rand.New(rand.NewSource(w.o.seed*1000 + int64(i) + 1))
		w.clients = append(w.clients, newClient(w, fmt.Sprintf("c%02d", i), conns[i%len(conns)], rng))
	}
	w.storm(setup)
	if w.failed() {
		return
	}
	w.finish(setup)
}

// storm runs clients, auditor and killer, and returns when the last of them has stopped.
func (w *world) storm(auditor *client) {
	var group sync.WaitGroup
	background := func(fn func()) {
		group.Add(1)
		go func() {
			defer group.Done()
			fn()
		}()
	}
	for _, c := range w.clients {
		background(c.loop)
	}
	background(auditor.auditLoop)
	background(w.server.watch)
	if w.o.selfTest != "" {
		background(w.damage)
	}
	w.killLoop(time.Now().Add(w.o.duration))
	if !w.failed() && w.server.waitReady() {
		time.Sleep(time.Second) // work on an unharmed server for a moment
	}
	w.stop()
	group.Wait()
}
