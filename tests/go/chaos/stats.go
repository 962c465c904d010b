// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"
)

// stats counts what happened; any goroutine may call it.
type stats struct {
	mu      sync.Mutex
	counts  map[string]int
	stall   time.Duration // longest time without an answer
	stallBy string
}

func (s *stats) count(what string) {
	s.mu.Lock()
	s.counts[what]++
	s.mu.Unlock()
}

func (s *stats) noteStall(d time.Duration, by string) {
	s.mu.Lock()
	if d > s.stall {
		s.stall, s.stallBy = d, by
	}
	s.mu.Unlock()
}

func (w *world) report() {
	s := &w.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]string, 0, len(s.counts))
	for k := range s.counts {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	calls := 0
	for _, k := range keys {
		fmt.Printf("  %-36s %8d\n", k, s.counts[k])
		if strings.HasPrefix(k, "rpc ") {
			calls += s.counts[k]
		}
	}
	took := time.Since(w.start).Seconds()
	fmt.Printf("chaos: seed %d: %.1f s, %d calls, %d kills, longest stall %.3f s (%s), %d violations\n",
		w.o.seed, took, calls, w.killCount(), s.stall.Seconds(), s.stallBy, len(w.violations))
}
