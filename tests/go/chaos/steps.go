// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	ptypes "github.com/gogo/protobuf/types"
)

// loop is the life of a client in the storm.
func (c *client) loop() {
	for !c.w.stopped() {
		c.mu.Lock()
		c.step()
		c.mu.Unlock()
	}
}

func (c *client) step() {
	if c.pending != nil && time.Now().After(c.due) {
		c.settlePending()
		return
	}
	if n := c.w.killCount(); c.outage || n != c.audited {
		c.outage, c.audited = false, n
		c.audit()
		return
	}
	steps := []struct {
		weight int
		fn     func()
	}{
		{20, c.prepare}, {10, c.view}, {18, c.commit}, {18, c.remove}, {10, c.update},
		{8, c.statOne}, {6, c.mountsOne}, {4, c.list}, {2, c.usage}, {8, c.write},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	n := c.rng.Intn(total)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			s.fn()
			return
		}
	}
}

// pick returns one of the client's names whose state is certain, preferring those that fit.
func (c *client) pick(fits func(*snap) bool) string {
	for try := 0; try < 50; try++ {
		name := c.self[c.rng.Intn(len(c.self))]
		if c.locked[name] || (try < 8 && c.rng.Intn(5) != 0 && !fits(c.model[name])) {
			continue
		}
		return name
	}
	return ""
}

func isAbsent(s *snap) bool    { return s == nil }
func isActive(s *snap) bool    { return s != nil && s.kind == kindActive }
func isCommitted(s *snap) bool { return s != nil && s.kind == kindCommitted }
func isPresent(s *snap) bool   { return s != nil }

func (c *client) pickParent() string {
	switch c.rng.Intn(10) {
	case 0, 1, 2:
		return ""
	case 3, 4, 5:
		return c.w.names[c.rng.Intn(len(c.w.names))]
	}
	return c.pick(isCommitted)
}

func (c *client) newLabels() map[string]string {
	c.serial++
	labels := map[string]string{ownerLabel: c.id, "chaos.test/serial": fmt.Sprint(c.serial)}
	if c.rng.Intn(4) == 0 {
		labels[refLabel] = fmt.Sprintf("sha256:%032x%032x", c.rng.Int63(), c.rng.Int63())
	}
	if c.rng.Intn(10) == 0 {
		labels["chaos.test/big"] = strings.Repeat("x", c.rng.Intn(3500)+1)
	}
	return labels
}

func (c *client) prepare() { c.create(kindActive, c.pick(isAbsent), c.pickParent(), c.newLabels()) }
func (c *client) view()    { c.create(kindView, c.pick(isAbsent), c.pickParent(), c.newLabels()) }

// create is Prepare or View, by kind. It looks at the answered directories at once.
func (c *client) create(kind snapshotsapi.Kind, key, parent string, labels map[string]string) bool {
	if key == "" || c.locked[parent] {
		return false
	}
	after := &snap{kind: kind, parent: parent, labels: copyLabels(labels)}
	op := "Prepare"
	if kind == kindView {
		op = "View"
	}
	ch := &change{text: fmt.Sprintf("%s %s on %q %s ", op, key, parent, labelText(labels)),
		after: map[string]*snap{key: after}, related: related(parent)}
	var mounts []*types.Mount
	ok := c.mutate(ch, c.wantCreate(key, parent), func(ctx context.Context) error {
		if kind == kindView {
			resp, err := c.api.View(ctx, &snapshotsapi.ViewSnapshotRequest{Snapshotter: snapshotter,
				Key: key, Parent: parent, Labels: labels})
			if err == nil {
				mounts = resp.Mounts
			}
			return err
		}
		resp, err := c.api.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{
			Snapshotter: snapshotter, Key: key, Parent: parent, Labels: labels})
		if err == nil {
			mounts = resp.Mounts
		}
		return err
	})
	if ok {
		c.checkMounts(key, mounts, c.rng.Intn(20) == 0)
	}
	return ok
}

func related(parent string) []string {
	if parent == "" {
		return nil
	}
	return []string{parent}
}

func (c *client) commit() {
	key, name := c.pick(isActive), c.pick(isAbsent)
	if key != "" && name != "" {
		c.commitAs(name, key)
	}
}

func (c *client) commitAs(name, key string) bool {
	labels := c.newLabels()
	ch := &change{text: fmt.Sprintf("Commit %s from %s %s", name, key, labelText(labels)),
		after: map[string]*snap{key: nil, name: nil}}
	if k := c.lookup(key); k != nil {
		ch.related = related(k.parent)
		ch.after[name] = &snap{kind: kindCommitted, parent: k.parent, labels: copyLabels(labels),
			marks: append([]string(nil), k.marks...), dir: k.dir}
	}
	return c.mutate(ch, c.wantCommit(name, key), func(ctx context.Context) error {
		_, err := c.api.Commit(ctx, &snapshotsapi.CommitSnapshotRequest{Snapshotter: snapshotter,
			Name: name, Key: key, Labels: labels})
		return err
	})
}

func (c *client) remove() {
	key := c.pick(isPresent)
	if c.rng.Intn(25) == 0 {
		key = c.w.names[c.rng.Intn(len(c.w.names))]
	}
	if key != "" {
		c.removeKey(key)
	}
}

func (c *client) removeKey(key string) bool {
	ch := &change{text: "Remove " + key + " ", after: map[string]*snap{key: nil}}
	if s := c.lookup(key); s != nil {
		ch.related = related(s.parent)
	}
	return c.mutate(ch, c.wantRemove(key), func(ctx context.Context) error {
		_, err := c.api.Remove(ctx, &snapshotsapi.RemoveSnapshotRequest{
			Snapshotter: snapshotter, Key: key})
		return err
	})
}

// update tries all forms of the mask: the whole map, one label, none, and a field that is not ours.
func (c *client) update() {
	key := c.pick(isPresent)
	if key == "" {
		return
	}
	labels := c.newLabels()
	after := &snap{}
	if s := c.model[key]; s != nil {
		after = s.copy()
	}
	after.created, after.updated, after.touched = time.Time{}, time.Time{}, true
	want := c.wantFound(key)
	var paths []string
	switch c.rng.Intn(8) {
	case 0, 1:
		paths, after.labels = []string{"labels"}, copyLabels(labels)
	case 2, 3:
		after.labels = copyLabels(labels)
	case 4:
		paths, want = []string{"parent"}, c.wantBadMask(key)
	case 5: // removes this label if it is there
		paths, labels = []string{"labels.chaos.test/big"}, nil
		delete(after.labels, "chaos.test/big")
	default:
		paths = []string{"labels.chaos.test/serial"}
		if after.labels == nil {
			after.labels = map[string]string{}
		}
		after.labels["chaos.test/serial"] = labels["chaos.test/serial"]
	}
	c.updateKey(key, labels, paths, after, want)
}

func (c *client) updateKey(key string, labels map[string]string, paths []string, after *snap,
	want answers) {
	ch := &change{text: fmt.Sprintf("Update %s mask %q %s", key, paths, labelText(labels)),
		after: map[string]*snap{key: after}}
	before := c.model[key]
	var info *snapshotsapi.Info
	ok := c.mutate(ch, want, func(ctx context.Context) error {
		req := &snapshotsapi.UpdateSnapshotRequest{Snapshotter: snapshotter,
			Info: snapshotsapi.Info{Name: key, Labels: labels}}
		if paths != nil {
			req.UpdateMask = &ptypes.FieldMask{Paths: paths}
		}
		resp, err := c.api.Update(ctx, req)
		if err == nil {
			info = &resp.Info
		}
		return err
	})
	if !ok {
		return
	}
	d := differs(after, info)
	if d == "" && !before.created.IsZero() && !before.created.Equal(info.CreatedAt) {
		d = "Update changed created_at"
	}
	if d != "" {
		c.violate([]string{key}, "%s answered %s: %s; the model: %s", ch.text, infoText(info), d, after)
	}
	after.learn(info)
}

func (c *client) statOne() {
	if name := c.pick(isPresent); name != "" {
		c.checkStat(name)
	}
}

func (c *client) checkStat(name string) {
	info, ok := c.statUntilAnswer(name)
	if !ok {
		return
	}
	s := c.lookup(name)
	c.note("Stat %s -> %s", name, infoText(info))
	if d := differs(s, info); d != "" {
		c.violate([]string{name}, "Stat %s: %s; found: %s; the model: %s", name, d, infoText(info), s)
		return
	}
	if c.w.shared[name] == nil {
		s.learn(info)
	}
}

func (c *client) mountsOne() {
	if name := c.pick(isPresent); name != "" {
		c.askMounts(name, c.rng.Intn(20) == 0)
	}
}

func (c *client) askMounts(name string, really bool) (done bool) {
	var mounts []*types.Mount
	want := c.wantMounts(name)
	done = c.ask("Mounts", name, want, func(ctx context.Context) error {
		resp, err := c.api.Mounts(ctx, &snapshotsapi.MountsRequest{
			Snapshotter: snapshotter, Key: name})
		if err == nil {
			mounts = resp.Mounts
		}
		return err
	})
	if done && want.hasOK() {
		c.checkMounts(name, mounts, really)
	}
	return done
}

func (c *client) usage() {
	name := c.pick(isPresent)
	if name == "" {
		return
	}
	var resp *snapshotsapi.UsageResponse
	want := c.wantFound(name)
	done := c.ask("Usage", name, want, func(ctx context.Context) (err error) {
		resp, err = c.api.Usage(ctx, &snapshotsapi.UsageRequest{Snapshotter: snapshotter, Key: name})
		return err
	})
	s := c.lookup(name)
	if done && s != nil && s.kind != kindView && int(resp.Inodes) < len(s.marks) {
		c.violate([]string{name}, "Usage %s: %d inodes, but there are %d files in it",
			name, resp.Inodes, len(s.marks))
	}
}

// write puts a file into the upper directory of an active snapshot, as a container would.
func (c *client) write() {
	name := c.pick(isActive)
	s := c.model[name]
	if !isActive(s) || s.dir == "" || len(s.marks) >= 5 {
		return
	}
	c.serial++
	mark := fmt.Sprintf("mark-%s-%d", c.id, c.serial)
	if err := os.WriteFile(filepath.Join(s.dir, "fs", mark), []byte(mark), 0o644); err != nil {
		c.violate([]string{name}, "cannot write into the active snapshot %s: %v", name, err)
		return
	}
	c.w.stats.count("files written")
	c.note("wrote %s into %s ", mark, name)
	s = s.copy()
	s.marks = append(s.marks, mark)
	c.model[name] = s
}
