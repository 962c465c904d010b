// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand"
	"syscall"
	"time"
)

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int63n(int64(to-from)))
}

// killLoop kills at random moments until the time is over or something is wrong.
func (w *world) killLoop(end time.Time) {
	rng := rand.New(rand.NewSource(w.o.seed * 7919))
	nextWorker := time.Now().Add(between(rng, 300*time.Millisecond, 2*time.Second))
	nextKeeper := time.Now().Add(between(rng, 3*time.Second, 6*time.Second))
	for time.Now().Before(end) && !w.stopped() {
		time.Sleep(5 * time.Millisecond)
		now := time.Now()
		if w.o.killWorker && now.After(nextWorker) {
			if !w.killWorker() {
				return
			}
			if rng.Intn(8) == 0 { // at once again, in the middle of its start
				time.Sleep(between(rng, 0, 60*time.Millisecond))
				if !w.killWorker() {
					return
				}
			}
			nextWorker = time.Now().Add(between(rng, 300*time.Millisecond, 2*time.Second))
		}
		if w.o.killKeeper && now.After(nextKeeper) {
			if !w.killKeeper(rng) {
				return
			}
			nextKeeper = time.Now().Add(between(rng, 3*time.Second, 6*time.Second))
		}
	}
}

func (w *world) killWorker() bool {
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if pid := w.server.worker(); pid != 0 {
			w.server.mu.Lock()
			w.server.killed[pid] = true
			w.server.mu.Unlock()
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				w.tell("killed worker %d", pid)
				w.countKill("worker")
				return true
			}
		}
		if w.failed() {
			return false
		}
		if time.Since(start) > answerTimeMax {
			w.violate("the keeper has had no worker for %s\n%s", answerTimeMax, w.server.lastLog())
			return false
		}
	}
}

func (w *world) killKeeper(rng *rand.Rand) bool {
	worker, pid := w.server.worker(), w.server.pid()
	w.server.kill()
	w.tell("killed keeper %d", pid)
	w.countKill("keeper")
	if worker != 0 {
		go w.expectEnd(worker)
	}
	if rng.Intn(2) == 0 {
		time.Sleep(between(rng, 0, 300*time.Millisecond))
	}
	if err := w.server.spawn(); err != nil {
		w.violate("cannot start the server again: %v", err)
		return false
	}
	if rng.Intn(4) != 0 { // else it may be killed before it is ready
		return w.server.waitReady()
	}
	return true
}

// expectEnd checks that a worker does not outlive its keeper.
func (w *world) expectEnd(worker int) {
	for start := time.Now(); alive(worker); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > orphanTimeMax {
			w.violate("worker %d is alive %s after its keeper was killed", worker, orphanTimeMax)
			return
		}
	}
}

func (w *world) tell(format string, args ...interface{}) {
	if w.o.verbose {
		fmt.Printf("%10.3f %s\n", time.Since(w.start).Seconds(), fmt.Sprintf(format, args...))
	}
}
