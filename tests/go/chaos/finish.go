// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
)

// graceTime is what the server has to clear directories away after the last change.
const graceTime = 10 * time.Second

// finish checks everything when the storm is over, then removes everything.
func (w *world) finish(auditor *client) {
	w.eachClient((*client).finalAudit)
	if w.failed() || !w.checkDirs(auditor, "after the storm") {
		return
	}
	if w.o.kind == "firstlight" {
		w.stats.count("orderly restarts")
		if !w.server.terminate() || !w.server.start() {
			return
		}
		w.eachClient(func(c *client) { c.audit() })
		if w.failed() || !w.checkDirs(auditor, "after an orderly restart") {
			return
		}
	}
	w.eachClient((*client).removeAll)
	if w.failed() {
		return
	}
	auditor.removeShared()
	if found, ok := auditor.listAll(); !ok || len(found) != 0 {
		w.violate("everything was removed, but List tells %d snapshots", len(found))
	}
	if !w.failed() && w.checkDirs(auditor, "after everything was removed") {
		w.server.terminate()
	}
}

func (w *world) eachClient(fn func(*client)) {
	var group sync.WaitGroup
	for _, c := range w.clients {
		group.Add(1)
		go func(c *client) {
			defer group.Done()
			c.mu.Lock()
			defer c.mu.Unlock()
			fn(c)
		}(c)
	}
	group.Wait()
}

// finalAudit looks at every snapshot of this client: record, mounts, directories, files.
func (c *client) finalAudit() {
	if c.pending != nil {
		time.Sleep(time.Until(c.due))
		c.settlePending()
		if c.w.failed() {
			return
		}
	}
	c.calm = true
	c.audit()
	for _, name := range append(append([]string(nil), c.self...), c.kept...) {
		if c.w.failed() {
			return
		}
		c.checkStat(name)
		s := c.model[name]
		if s == nil {
			continue
		}
		if s.kind != kindCommitted {
			c.until(func() bool { return c.askMounts(name, true) })
			continue
		}
		key := name + "-look"
		if c.until(func() bool { return c.create(kindView, key, name, c.newLabels()) }) {
			c.until(func() bool { return c.askMounts(key, true) })
			c.until(func() bool { return c.removeKey(key) || c.model[key] == nil })
		}
	}
}

// removeAll removes the client's snapshots, children first.
func (c *client) removeAll() {
	for len(c.model) > 0 && !c.w.failed() {
		for _, name := range c.sorted() {
			if !c.hasChild(name) {
				c.removeKey(name)
			}
			if c.pending != nil {
				time.Sleep(time.Until(c.due))
				c.settlePending()
			}
		}
	}
}

func (c *client) sorted() (names []string) {
	for name := range c.model {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (c *client) removeShared() {
	c.calm = true
	c.model, c.w.shared = c.w.shared, map[string]*snap{}
	c.removeAll()
}

// checkDirs waits until the directories fit the records: one for each snapshot (a view of something
// may do without), none besides, and an empty trash.
func (w *world) checkDirs(c *client, when string) bool {
	problem := ""
	for start := time.Now(); time.Since(start) < graceTime; time.Sleep(100 * time.Millisecond) {
		if w.o.kind == "overlay" { // it clears leftovers of a crash away only when it is asked to
			c.api.Cleanup(context.Background(), &snapshotsapi.CleanupRequest{Snapshotter: snapshotter})
		}
		found, ok := c.listAll()
		if !ok {
			if w.failed() {
				return false
			}
			continue
		}
		if problem = w.dirProblem(found); problem == "" {
			return true
		}
	}
	w.violate("%s, %s later: %s", when, graceTime, problem)
	return false
}

func (w *world) dirProblem(found map[string]*snapshotsapi.Info) string {
	entries, err := os.ReadDir(filepath.Join(w.root(), "snapshots"))
	if err != nil {
		return err.Error()
	}
	views := 0
	for _, info := range found {
		if info.Kind == kindView && info.Parent != "" {
			views++
		}
	}
	known := w.knownDirs()
	strange, sample := 0, ""
	for _, e := range entries {
		dir := filepath.Join(w.root(), "snapshots", e.Name())
		if !known[dir] {
			strange++
			sample = dir
		}
		delete(known, dir)
	}
	for dir := range known {
		return fmt.Sprintf("directory %s is missing", dir)
	}
	if strange > views {
		return fmt.Sprintf("%d directories in ROOT/snapshots for %d records: %d of no known snapshot, "+
			"but only %d views; for instance %s", len(entries), len(found), strange, views, sample)
	}
	trash, err := os.ReadDir(filepath.Join(w.root(), "trash"))
	if err != nil && !os.IsNotExist(err) {
		return err.Error()
	}
	if len(trash) > 0 {
		return fmt.Sprintf("%d entries in ROOT/trash, for instance %s", len(trash), trash[0].Name())
	}
	return ""
}

// knownDirs are the directories of all snapshots in the models. Called when no client runs.
func (w *world) knownDirs() map[string]bool {
	known := map[string]bool{}
	add := func(s *snap) {
		if s.dir != "" {
			known[s.dir] = true
		}
	}
	for _, s := range w.shared {
		add(s)
	}
	for _, c := range w.clients {
		for _, s := range c.model {
			add(s)
		}
	}
	return known
}
