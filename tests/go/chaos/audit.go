// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc/codes"
)

// listAll reads one List. ok is false when there was no (whole) answer.
func (c *client) listAll(filters ...string) (found map[string]*snapshotsapi.Info, ok bool) {
	found = map[string]*snapshotsapi.Info{}
	twice := ""
	ok = c.ask("List", fmt.Sprint(filters), answers{codes.OK}, func(ctx context.Context) error {
		stream, err := c.api.List(ctx, &snapshotsapi.ListSnapshotsRequest{
			Snapshotter: snapshotter, Filters: filters})
		if err != nil {
			return err
		}
		for {
			block, err := stream.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			for i := range block.Info {
				info := &block.Info[i]
				if found[info.Name] != nil {
					twice = info.Name
				}
				found[info.Name] = info
			}
		}
	})
	if twice != "" {
		c.violate([]string{twice}, "List %q told %s twice", filters, twice)
	}
	return found, ok
}

// list asks for the client's own snapshots in one of several ways.
func (c *client) list() {
	own := fmt.Sprintf(`labels."%s"==%s`, ownerLabel, c.id)
	all := func(*snap) bool { return true }
	switch c.rng.Intn(6) {
	case 0:
		kinds := []snapshotsapi.Kind{kindView, kindActive, kindCommitted}
		names := []string{"view", "active", "committed"}
		i := c.rng.Intn(3)
		c.checkList(func(s *snap) bool { return s.kind == kinds[i] }, own+",kind=="+names[i])
	case 1:
		parent := c.pickParent()
		c.checkList(func(s *snap) bool { return s.parent == parent },
			fmt.Sprintf("%s,parent==%q", own, parent))
	case 2:
		c.checkList(all, fmt.Sprintf(`name~="^default/%s/"`, c.id))
	case 3: // several filters: any of them
		c.checkList(all, own+",kind==view", own+",kind!=view")
	default:
		c.checkList(all, own)
	}
}

// checkList wants exactly those of the client's snapshots that fit, with exact contents.
func (c *client) checkList(fits func(*snap) bool, filters ...string) (done bool) {
	found, ok := c.listAll(filters...)
	if !ok {
		return false
	}
	for name, info := range found {
		s := c.model[name]
		if c.locked[name] {
			continue
		}
		if s == nil || !fits(s) {
			c.violate([]string{name}, "List %q told %s, which must not be there: %s; the model: %s",
				filters, name, infoText(info), s)
		} else if d := differs(s, info); d != "" {
			c.violate([]string{name}, "List %q: %s: %s; found: %s; the model: %s",
				filters, name, d, infoText(info), s)
		} else {
			s.learn(info)
		}
	}
	for name, s := range c.model {
		if !c.locked[name] && fits(s) && found[name] == nil {
			c.violate([]string{name}, "List %q lacks %s; the model: %s", filters, name, s)
		}
	}
	return true
}

// audit is made after each outage: everything acknowledged is there, nothing else is, and some of
// it is looked at closely.
func (c *client) audit() {
	own := fmt.Sprintf(`labels."%s"==%s`, ownerLabel, c.id)
	for !c.checkList(func(*snap) bool { return true }, own) {
		if c.w.failed() {
			return
		}
	}
	c.w.stats.count("audits")
	for i := 0; i < 3; i++ {
		c.statOne()
		if name := c.pick(isPresent); name != "" && c.model[name] != nil {
			c.askMounts(name, false)
		}
	}
}

// makeShared commits the parents that all clients use. Each keeps a child for ever, so that no
// Remove of one may ever succeed.
func (c *client) makeShared() bool {
	shared := map[string]*snap{}
	parent := ""
	for i := 0; i < 4; i++ {
		key, name := fmt.Sprintf("default/shared/x%d", i), fmt.Sprintf("default/shared/p%d", i)
		if !c.until(func() bool { return c.create(kindActive, key, parent, c.newLabels()) }) {
			return false
		}
		c.self = []string{key} // so that write picks it
		c.until(func() bool { c.write(); return len(c.model[key].marks) > 0 })
		if !c.until(func() bool { return c.commitAs(name, key) }) {
			return false
		}
		c.checkStat(name)
		shared[name] = c.model[name]
		c.w.names = append(c.w.names, name)
		parent = name
	}
	hold := "default/shared/hold"
	if !c.until(func() bool { return c.create(kindView, hold, parent, c.newLabels()) }) {
		return false
	}
	c.checkStat(hold)
	shared[hold] = c.model[hold]
	c.w.shared = shared
	c.model = map[string]*snap{}
	return !c.w.failed()
}

// until repeats a step that may end without an answer.
func (c *client) until(step func() bool) bool {
	for !step() {
		if c.w.failed() {
			return false
		}
		if c.pending != nil {
			time.Sleep(time.Until(c.due))
			c.settlePending()
			return true
		}
	}
	return true
}

// auditLoop looks at the whole list, over all clients, while the storm goes on.
func (c *client) auditLoop() {
	for !c.w.stopped() {
		time.Sleep(between(c.rng, 300*time.Millisecond, time.Second))
		found, ok := c.listAll()
		if !ok {
			continue
		}
		c.w.stats.count("audits of everything")
		for name, s := range c.w.shared {
			if d := differs(s, found[name]); d != "" {
				c.violate([]string{name}, "List: shared %s: %s; found: %s", name, d, infoText(found[name]))
			}
		}
		for name, info := range found {
			if p := found[info.Parent]; info.Parent != "" && (p == nil || p.Kind != kindCommitted) {
				c.checkParent(name, info)
			}
		}
	}
}

// checkParent decides whether a listed snapshot really lacks its parent: a listing that is not
// taken at one moment may show that for two changes.
func (c *client) checkParent(name string, before *snapshotsapi.Info) {
	parent, ok := c.statUntilAnswer(before.Parent)
	if !ok || (parent != nil && parent.Kind == kindCommitted) {
		return
	}
	now, ok := c.statUntilAnswer(name)
	if ok && now != nil && now.CreatedAt.Equal(before.CreatedAt) {
		c.violate([]string{name}, "%s is there, but its parent %s is %s", name, before.Parent,
			infoText(parent))
	}
}
