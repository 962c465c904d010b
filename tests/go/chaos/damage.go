// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"golang.org/x/sys/unix"
)

// damage is what the self-test does behind the model's back, to prove that the checker sees it.
type damage struct {
	name string
	do   func(w *world, c *client) bool // false: not possible with this client now
}

// damages is a function because the table's entries use code that refers to the table.
func damages() []damage {
	return []damage{
		{"lost", damageLost},     // an acknowledged snapshot disappears
		{"back", damageBack},     // a removed one is there again
		{"half", damageHalf},     // a key is committed, and the key stays
		{"labels", damageLabels}, // an acknowledged label changes
		{"file", damageFile},     // a file in a committed snapshot disappears
		{"dir", damageDir},       // a snapshot's directory disappears
		{"work", damageWork},     // an active snapshot's work directory disappears
		{"orphan", damageOrphan}, // a directory without a record
		{"trash", damageTrash},   // something stays in the trash
		{"hang", damageHang},     // no answers for longer than is allowed
		{"crash", damageCrash},   // a process dies by itself
	}
}

func damageNames() (names []string) {
	for _, d := range damages() {
		names = append(names, d.name)
	}
	return names
}

func knownDamage(name string) bool { return contains(damageNames(), name) }

// damage waits until the storm has gone on for a while, then does it with a client that fits.
func (w *world) damage() {
	time.Sleep(w.o.duration / 3)
	for !w.stopped() {
		for _, c := range w.clients {
			if w.damageWith(c) {
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) damageWith(c *client) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range damages() {
		if d.name == w.o.selfTest && d.do(w, c) {
			fmt.Printf("chaos: did the damage %q at %.3f s\n", d.name, time.Since(w.start).Seconds())
			return true
		}
	}
	return false
}

// victim finds a snapshot whose state is certain.
func (c *client) victim(fits func(name string, s *snap) bool) string {
	for _, name := range c.sorted() {
		if !c.locked[name] && fits(name, c.model[name]) {
			return name
		}
	}
	return ""
}

func (c *client) absentName() string {
	for _, name := range c.self {
		if c.model[name] == nil && !c.locked[name] {
			return name
		}
	}
	return ""
}

func damageLost(w *world, c *client) bool {
	key := c.victim(func(name string, s *snap) bool { return !c.hasChild(name) })
	if key == "" {
		return false
	}
	keepVictim(c, key)
	_, err := c.api.Remove(context.Background(), &snapshotsapi.RemoveSnapshotRequest{Key: key})
	return err == nil
}

func damageBack(w *world, c *client) bool {
	key := c.absentName()
	if key == "" {
		return false
	}
	keepVictim(c, key)
	_, err := c.api.Prepare(context.Background(), &snapshotsapi.PrepareSnapshotRequest{
		Key: key, Labels: map[string]string{ownerLabel: c.id}})
	return err == nil
}

func damageHalf(w *world, c *client) bool {
	key := c.victim(func(name string, s *snap) bool { return isActive(s) })
	name := c.absentName()
	if key == "" || name == "" {
		return false
	}
	keepVictim(c, key)
	keepVictim(c, name)
	ctx, s := context.Background(), c.model[key]
	_, err := c.api.Commit(ctx, &snapshotsapi.CommitSnapshotRequest{Name: name, Key: key,
		Labels: s.labels})
	if err != nil {
		return false
	}
	c.model[name] = &snap{kind: kindCommitted, parent: s.parent, labels: s.labels, marks: s.marks,
		dir: s.dir} // as if it were acknowledged
	_, err = c.api.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{Key: key, Parent: s.parent,
		Labels: s.labels})
	delete(c.model, key)
	return err == nil
}

func damageLabels(w *world, c *client) bool {
	key := c.victim(func(name string, s *snap) bool { return len(s.labels) > 0 })
	if key == "" {
		return false
	}
	keepVictim(c, key)
	labels := copyLabels(c.model[key].labels)
	labels["chaos.test/serial"] = "damaged"
	_, err := c.api.Update(context.Background(), &snapshotsapi.UpdateSnapshotRequest{
		Info: snapshotsapi.Info{Name: key, Labels: labels}})
	return err == nil
}

func damageFile(w *world, c *client) bool {
	key := c.victim(func(name string, s *snap) bool {
		return isCommitted(s) && s.dir != "" && len(s.marks) > 0
	})
	if key == "" {
		return false
	}
	s := c.model[key]
	if os.Remove(filepath.Join(s.dir, "fs", s.marks[0])) != nil {
		return false
	}
	keepVictim(c, key)
	return true
}

func damageDir(w *world, c *client) bool {
	key := c.victim(func(name string, s *snap) bool { return s.dir != "" })
	if key == "" || os.RemoveAll(c.model[key].dir) != nil {
		return false
	}
	keepVictim(c, key)
	return true
}

func damageWork(w *world, c *client) bool {
	key := c.victim(func(name string, s *snap) bool { return isActive(s) && s.dir != "" })
	if key == "" || os.RemoveAll(filepath.Join(c.model[key].dir, "work")) != nil {
		return false
	}
	keepVictim(c, key)
	return true
}

// keepVictim stops the client from using the name again: if it removed or overwrote what is damaged
// before anybody looked, there would be nothing to notice.
func keepVictim(c *client, key string) {
	var rest []string
	for _, name := range c.self {
		if name != key {
			rest = append(rest, name)
		}
	}
	c.self = append(rest, key+"-gone")
	c.kept = append(c.kept, key)
}

// damageOrphan makes the directory a mount point, so that the server cannot clear it away: doing
// that would be right.
func damageOrphan(w *world, c *client) bool {
	return makeStubborn(filepath.Join(w.root(), "snapshots", "99999999"))
}

func makeStubborn(dir string) bool {
	return os.MkdirAll(dir, 0o755) == nil && unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k") == nil
}

func damageTrash(w *world, c *client) bool {
	return makeStubborn(filepath.Join(w.root(), "trash", "99999999"))
}

func damageHang(w *world, c *client) bool {
	pid := w.server.worker()
	if pid == 0 {
		pid = w.server.pid()
	}
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return false
	}
	go func() {
		time.Sleep(answerTimeMax + 15*time.Second)
		syscall.Kill(pid, syscall.SIGCONT)
	}()
	return true
}

func damageCrash(w *world, c *client) bool {
	pid := w.server.worker()
	if pid == 0 {
		pid = w.server.pid()
	}
	return syscall.Kill(pid, syscall.SIGKILL) == nil
}
